"""`growth.widen_checkpoint`: a checkpoint folder, one tensor at a time.

The order: headers, plan, twin, weights (each tensor is read back as soon as it is written),
``growth.json``, model card, and ``config.json`` last, all into a temporary folder that is then
forced to the disk and renamed. A folder without ``config.json`` does not look like a model, so nothing that was
interrupted does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack, get_args

import numpy
import torch

from growth.arguments import check_flag, check_function, check_path, check_word, whole_number
from growth.checkpoint.companions import companion_notes, copy_companions, with_dtype, write_json, written_files
from growth.checkpoint.destination import appearing, check_apart, check_space, check_target, destination
from growth.checkpoint.fsdp import FsdpOptions, widen_fsdp
from growth.checkpoint.model_card import write_card
from growth.checkpoint.pipeline import open_pipeline
from growth.checkpoint.record import growth_record, hashing
from growth.checkpoint.results import WidenedCheckpoint
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.checkpoint.trainer_files import check_trainer_folder
from growth.checkpoint.trainer_state import open_trainer_state
from growth.errors import CheckpointError, IllegalGrowthError, shown
from growth.hf.computed_tables import completed
from growth.hf.devices import usable_device
from growth.hf.dtypes import dtype_name, float_dtype
from growth.hf.growable import check_growable, grown_as_fsdp
from growth.hf.reader import Checkpoint, open_checkpoint
from growth.infer.prepare import prepare
from growth.plan.choices import Choices, takes_choices
from growth.plan.loading import loading_note
from growth.plan.options import chosen
from growth.plan.plan import Plan
from growth.plan.rounding import result_dtypes
from growth.proof.twin import Proof, prove_twin
from growth.training.moments import Moments
from growth.weights.fold import Fold
from growth.weights.model_weights import check_dtypes, growing_tensors

_UNITS = {
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
    "B": 1,
    "": 1,
}


Progress = Callable[[int, int, str], None]
"""Called with (bytes written, bytes in all, name of the current tensor)."""


@takes_choices
def widen_checkpoint(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    optimizer: bool = False,
    moments: Moments = "preserve",
    dtype: str | torch.dtype | None = None,
    max_shard_size: str | int = "5GB",
    overwrite: bool = False,
    allow_nonfinite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
    **choices: Unpack[Choices],
) -> WidenedCheckpoint:
    """Write a wider checkpoint of the same kind that computes the same function.

    Peak memory is the largest tensor and a few blocks of it, whatever the model's size; with
    ``optimizer``, also the grown ``optimizer.pt``. ``dst`` appears whole or not at all; ``src`` is
    only read.

    Args:
        src: a folder or hub id with safetensors or ``pytorch_model*.bin`` files.
        dst: the folder to make.
        config: of a model that accelerate or Trainer saved under FSDP, whose folder lacks it: a
            ``config.json``, a folder that has one, or a hub id. ``src`` is then a folder with
            ``pytorch_model_fsdp_0`` (SHARDED_STATE_DICT) or ``pytorch_model_fsdp.bin``, and ``dst`` one of
            the same kind; see docs/fsdp.md.
        optimizer: grow the training state of a `transformers.Trainer` checkpoint, or of one under FSDP, too
            (``optimizer.pt``, ``trainer_state.json``, ...), so that
            ``Trainer(...).train(resume_from_checkpoint=dst)`` continues at the same step. Learning
            rate, epsilon and weight decay stay as they are, since Trainer makes its two parameter
            groups itself: at an unchanged learning rate the wide model moves faster than the small
            one would. The result's ``training["learning_rate_factors"]`` says by how much.
        moments: what becomes of the optimizer's state: ``preserve`` grows it, ``fresh`` grows it
            for the first copy of each coordinate only, ``reset`` drops it
            (`growth.training.optimizer.grow_optimizer`).
        dtype: of the result; by default each tensor keeps its dtype.
        max_shard_size: as in ``save_pretrained``: ``"5GB"``, or a number of bytes.
        overwrite: replace ``dst`` if it is the folder of a model and holds nothing else, once the
            new one is complete.
        allow_nonfinite: carry NaN and infinity over instead of refusing them.
        device: where the miniature is compared.
        progress: called after each block with the bytes written, the bytes in all and the tensor's
            name.

    Returns:
        Where it was written, how it grew, what was proved, and which files were not copied.

    Raises:
        GrowthError: anything that stands in the way; nothing is left behind.

    Example:
        >>> result = growth.widen_checkpoint("small", "wide", width=2, noise=1.0)
        >>> print(result)
        >>> AutoModelForCausalLM.from_pretrained("wide")
    """
    options = chosen(choices)
    for name, flag in (("optimizer", optimizer), ("overwrite", overwrite), ("allow_nonfinite", allow_nonfinite)):
        check_flag(name, flag)
    check_word("moments", moments, get_args(Moments))
    check_function("progress", progress)
    target, limit, wanted = (
        destination(check_path("dst", dst)),
        _bytes(max_shard_size),
        None if dtype is None else float_dtype(dtype),
    )
    usable_device(device, torch.float64)
    check_target(target, overwrite)
    if moments != "preserve" and not optimizer:
        raise IllegalGrowthError(
            f"moments={moments!r} is about the optimizer's state, which is not grown unless asked for. Add "
            "optimizer=True (--optimizer)."
        )
    check_growable(src, config, optimizer)
    if (found := grown_as_fsdp(src, optimizer)) is not None:
        asked = FsdpOptions(config, optimizer, moments, wanted, limit, overwrite, allow_nonfinite, device, progress)
        return widen_fsdp(found, target, (str(src), str(dst)), options, asked)
    source = open_checkpoint(src)
    check_apart(source.folder, target)
    if optimizer:
        check_trainer_folder(source.folder)
    source = completed(source)
    plan = prepare(source.config, options, source.shapes, source.dtypes, source.notes)
    check_dtypes(plan)
    dtypes = result_dtypes(plan, wanted)
    shards = _shards(plan, dtypes, limit)
    size = sum(_size(plan, name, dtypes) for name in plan.tensors)
    training = open_trainer_state(source.files, plan, moments) if optimizer else None
    pipeline = open_pipeline(source.files, plan)
    more = [training.note if training else "", pipeline.note if pipeline else ""]
    more += ["" if wanted else loading_note(plan), *companion_notes(source.files, plan)]
    plan = replace(plan, notes=(*plan.notes, *filter(None, more)))
    check_space(target.parent, size + (training.bytes if training else 0))
    twin = prove_twin(plan, device)
    read = [source.folder / "config.json", *source.weight_files]
    read += [*(training.files if training else ()), *(pipeline.files if pipeline else ())]
    with appearing(target, overwrite, source.folder) as folder, hashing(read, source.files) as hashes:
        proof = Proof(twin, _write_weights(folder, source, plan, dtypes, shards, size, allow_nonfinite, progress))
        covered = training.write(folder, target, allow_nonfinite) if training else []
        covered += pipeline.write(folder, allow_nonfinite) if pipeline else []
        left_behind = copy_companions(source.files, folder, covered)
        record = growth_record(
            plan, proof, source, hashes.result(), dtype_name(wanted) if wanted else "as the source", training
        )
        write_card(source.files, folder, target.name, plan, proof)
        files = sorted([*written_files(folder), "config.json", "growth.json"])
        write_json(folder / "growth.json", {**record, "files": files})
        write_json(folder / "config.json", with_dtype(plan.new, wanted))
        source.files.check_unchanged()
    return WidenedCheckpoint(
        target,
        plan,
        proof,
        tuple(sorted(written_files(target))),
        left_behind,
        plan.bytes(new=False),
        size,
        record.get("training"),
        str(src),
        str(dst),
    )


def _write_weights(
    folder: Path,
    source: Checkpoint,
    plan: Plan,
    dtypes: Mapping[str, torch.dtype],
    shards: Sequence[Sequence[str]],
    size: int,
    allow_nonfinite: bool,
    progress: Progress | None,
) -> Fold:
    """Grow all tensors into safetensors files, with an index if there are several. Returns the
    record of reading them back."""
    fold, done, weight_map = Fold(), 0, {}
    for number, names in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        with SafetensorsWriter(
            folder / file, {name: (plan.tensors[name].new_shape, dtypes[name]) for name in names}
        ) as writer:
            for growing in growing_tensors(
                plan, names, plan.reading(source.read), dtypes, fold, allow_nonfinite=allow_nonfinite
            ):
                for block in growing.blocks():
                    writer.append(block)
                    done += block.nbytes
                    if progress is not None:
                        progress(done, size, growing.name)
                weight_map[growing.name] = file
    if len(shards) > 1:
        write_json(
            folder / "model.safetensors.index.json",
            {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))},
        )
    return fold


def _shards(plan: Plan, dtypes: Mapping[str, torch.dtype], limit: int) -> list[list[str]]:
    """Tensor names per file, in order: a file takes the next tensor unless it would then exceed
    ``limit`` bytes."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name in plan.tensors:
        size = _size(plan, name, dtypes)
        if shards[-1] and filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _size(plan: Plan, name: str, dtypes: Mapping[str, torch.dtype]) -> int:
    """Of a grown tensor, in bytes."""
    return int(numpy.prod(plan.tensors[name].new_shape)) * dtypes[name].itemsize


def _bytes(size: str | int) -> int:
    """A size such as ``"5GB"`` in bytes; a number is one of bytes, as in ``save_pretrained``."""
    whole = whole_number(size)
    number = shown(size if whole is None else whole).strip("'\" ").upper()
    unit = number.lstrip("0123456789.").strip()
    digits = number[: len(number) - len(unit)].strip() if unit else number
    try:
        value = int(float(digits) * _UNITS[unit])
    except (KeyError, ValueError, OverflowError):
        value = 0
    if value <= 0:
        raise CheckpointError(f"max_shard_size must be a size such as '5GB' or '500MB', not {shown(size)}.")
    if isinstance(size, str) and not unit and value < _UNITS["MB"]:
        raise CheckpointError(
            f"max_shard_size {size!r} has no unit, so it is {value} bytes. Say '{digits}GB', or '{digits}B' if bytes "
            "are meant."
        )
    return value
