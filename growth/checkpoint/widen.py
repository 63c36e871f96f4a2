"""`growth.widen_checkpoint`: a checkpoint folder, one tensor at a time.

The order: headers, plan, twin, weights (each tensor is read back as soon as it is written),
``growth.json``, model card, and ``config.json`` last, all into a temporary folder that is then
forced to the disk and renamed. A folder without ``config.json`` does not look like a model, so nothing that was
interrupted does.

The weights are the work of any number of threads and processes (`growth.checkpoint.weights`), the rest
that of one: rank 0, where there are several."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack, get_args

import torch
from torch.distributed import ProcessGroup

from growth.arguments import check_count, check_flag, check_function, check_path, check_word
from growth.checkpoint.companions import companion_notes, copy_companions, with_dtype, write_json, written_files
from growth.checkpoint.destination import appearing, check_apart, check_space, check_target, destination
from growth.checkpoint.fsdp import FsdpOptions, widen_fsdp
from growth.checkpoint.model_card import write_card
from growth.checkpoint.pipeline import Pipeline, open_pipeline
from growth.checkpoint.ranks import Ranks
from growth.checkpoint.record import growth_record
from growth.checkpoint.results import WidenedCheckpoint
from growth.checkpoint.shards import Done, Growth, Shard, index_of, size_in_bytes
from growth.checkpoint.trainer_files import check_trainer_folder
from growth.checkpoint.trainer_state import TrainerState, open_trainer_state
from growth.checkpoint.unfinished import Unfinished, check_alike, check_same, made_of
from growth.checkpoint.weights import Progress, read_hashes, write_weights
from growth.checkpoint.workspace import held_bytes
from growth.errors import IllegalGrowthError
from growth.hf.computed_tables import completed
from growth.hf.devices import usable_device
from growth.hf.dtypes import dtype_name, float_dtype
from growth.hf.growable import check_growable, grown_as_fsdp
from growth.hf.reader import open_checkpoint
from growth.infer.prepare import prepare
from growth.plan.choices import Choices, takes_choices
from growth.plan.loading import loading_note
from growth.plan.options import Options, chosen
from growth.plan.rounding import result_dtypes
from growth.proof.proof import Proof
from growth.proof.twin import prove_twin
from growth.training.model_checks import part_copies, warn_of_equal_copies
from growth.training.moments import Moments
from growth.training.optimizer_checks import Hyper
from growth.weights.fold import Fold
from growth.weights.model_weights import check_dtypes
from growth.weights.workers import workers_for


@takes_choices
def widen_checkpoint(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    optimizer: bool = False,
    moments: Moments = "preserve",
    hyper: Hyper = "keep",
    dtype: str | torch.dtype | None = None,
    max_shard_size: str | int = "5GB",
    overwrite: bool = False,
    resume: bool = False,
    jobs: int | None = None,
    group: ProcessGroup | None = None,
    allow_nonfinite: bool = False,
    device: str = "cpu",
    progress: Progress | None = None,
    **choices: Unpack[Choices],
) -> WidenedCheckpoint:
    """Write a wider checkpoint of the same kind that computes the same function.

    Peak memory is, for each shard that is written at a time, the largest tensor and a few blocks of it,
    whatever the model's size; with ``optimizer``, also the grown ``optimizer.pt``. ``dst`` appears whole
    or not at all; ``src`` is only read. The result does not depend on the number of workers and ranks,
    nor on whether it was interrupted.

    Args:
        src: a folder or hub id with safetensors or ``pytorch_model*.bin`` files.
        dst: the folder to make.
        config: of a model that accelerate or Trainer saved under FSDP, whose folder lacks it: a
            ``config.json``, a folder that has one, or a hub id; see docs/fsdp.md. ``dst`` is of the same kind.
        optimizer: grow the training state of a `transformers.Trainer` checkpoint, or of one under FSDP, too
            (``optimizer.pt``, ``trainer_state.json``, ...), so that
            ``Trainer(...).train(resume_from_checkpoint=dst)`` continues at the same step.
        moments: what becomes of the optimizer's state: ``preserve`` grows it, ``fresh`` grows it
            for the first copy of each coordinate only, ``reset`` drops it
            (`growth.training.optimizer.grow_optimizer`).
        hyper: ``keep`` leaves learning rate, epsilon and weight decay: the wide model moves faster than
            the small one would, by what ``training["learning_rate_factors"]`` of the result says.
            ``preserve`` sets them per tensor, in groups that Trainer is to be given
            (`growth.training.parameter_groups`); not under FSDP.
        dtype: of the result; by default each tensor keeps its dtype.
        max_shard_size: as in ``save_pretrained``: ``"5GB"``, or a number of bytes.
        overwrite: replace ``dst`` if it is the folder of a model and holds nothing else, once the
            new one is complete.
        resume: go on with what an interrupted growth into ``dst`` finished, which must have been the
            same growth; and if this one is interrupted (Ctrl-C, a full disk), leave what is finished for
            the next. Without it, nothing is left behind, and what a killed process left is removed.
        jobs: number of workers (threads); by default one for each core that PyTorch uses
            (``torch.get_num_threads()``), as far as memory allows.
        group: a process group of `torch.distributed` whose ranks all make this call, on a file system that
            they share, and share the shards out. An error on one rank is everybody's. Ranks wait for each
            other at the end, so its timeout must be longer than the largest shard takes.
        allow_nonfinite: carry NaN and infinity over instead of refusing them.
        device: where the miniature is compared.
        progress: called after each block with the bytes written, the bytes in all (of this rank) and the
            tensor's name; by one thread at a time, which may be another than the caller's.

    Returns:
        Where it was written, how it grew, what was proved, and which files were not copied.

    Raises:
        GrowthError: anything that stands in the way; nothing is left behind.

    Example:
        >>> result = growth.widen_checkpoint("small", "wide", width=2)
        >>> print(result)
        >>> AutoModelForCausalLM.from_pretrained("wide")
    """
    options = chosen(choices)
    flags = {"optimizer": optimizer, "overwrite": overwrite, "resume": resume, "allow_nonfinite": allow_nonfinite}
    for name, flag in flags.items():
        check_flag(name, flag)
    check_word("moments", moments, get_args(Moments))
    check_word("hyper", hyper, get_args(Hyper))
    check_function("progress", progress)
    jobs = None if jobs is None else check_count("jobs", jobs)
    target, limit = destination(check_path("dst", dst)), size_in_bytes(max_shard_size)
    wanted = None if dtype is None else float_dtype(dtype)
    if not optimizer and (moments, hyper) != ("preserve", "keep"):
        said = f"moments={moments!r}" if moments != "preserve" else f"hyper={hyper!r}"
        raise IllegalGrowthError(
            f"{said} is about the optimizer, which is not grown unless asked for. Add optimizer=True (--optimizer)."
        )
    ranks = Ranks(group)
    with ranks.reporting(), ranks.agreeing():
        check_growable(src, config, optimizer)
        if (found := grown_as_fsdp(src, optimizer)) is not None and hyper != "keep":
            raise IllegalGrowthError(
                f"{found.folder} was saved under FSDP, and its settings stay as they are. Leave --hyper (hyper=) out."
            )
        if found is not None and (group is not None or resume):
            raise IllegalGrowthError(
                f"{found.folder} was saved under FSDP, and such a folder grows in one process and from the beginning. "
                "Leave torchrun and --resume (group=, resume=) out."
            )
    if found is not None:
        usable_device(device, torch.float64)
        check_target(target, overwrite)
        how = FsdpOptions(
            config, optimizer, moments, wanted, limit, overwrite, allow_nonfinite, device, jobs, progress
        )
        result = widen_fsdp(found, target, (str(src), str(dst)), options, how)
        if optimizer:
            warn_of_equal_copies(result.plan, moments == "fresh")
        return result
    with ranks.reporting():
        with ranks.agreeing():
            if ranks.first:
                usable_device(device, torch.float64)
                check_target(target, overwrite, resume)
            trained = (moments, hyper) if optimizer else None
            work = _prepared(src, target, options, wanted, allow_nonfinite, limit, trained)
        check_alike(ranks, work.made_of)
        if work.training is not None and ranks.first:
            warn_of_equal_copies(work.growth.plan, part_copies(moments, work.training.loaded["state"].values()))
        with ranks.agreeing():
            if ranks.first:
                there = held_bytes(target) if resume else 0
                check_space(target.parent, work.size + (work.training.bytes if work.training else 0) - there)
            twin = prove_twin(work.growth.plan, device) if ranks.first else None
        files = work.growth.source.files
        files.hash_as_read(ranks.share(work.read))
        checked = (lambda workspace: check_same(workspace, work.made_of)) if resume else None
        own, plan = len(ranks.share(work.shards)), work.growth.plan
        workers = workers_for(jobs, own, plan, work.largest, ranks.neighbours())
        with ranks.entering(
            lambda: appearing(target, overwrite, files.folder, checked, shared=group is not None)
        ) as folder:
            unfinished = Unfinished(folder.parent, work.made_of)
            done = write_weights(folder, work.growth, work.shards, unfinished, ranks, workers, progress)
            hashes = read_hashes(files, work.read, ranks, workers.lanes * workers.blocks)
            proof = Proof(ranks.tell(twin), Fold.merged(one.fold for one in done))
            left_behind = _finish(folder, target, work, proof, hashes, done, wanted) if ranks.first else ()
            files.check_unchanged()
    return WidenedCheckpoint(
        target,
        plan,
        proof,
        tuple(sorted(written_files(target))),
        ranks.tell(left_behind),
        plan.bytes(new=False),
        work.size,
        work.training.to_json() if work.training else None,
        str(src),
        str(dst),
    )


@dataclass(frozen=True)
class _Work:
    """A growth that is planned, and nothing of it written.

    Args:
        growth: what its weight files are made of.
        shards: these files.
        training, pipeline: what else of the source grows.
    """

    growth: Growth
    shards: list[Shard]
    training: TrainerState | None
    pipeline: Pipeline | None

    @property
    def size(self) -> int:
        """Of all weights, in bytes."""
        return sum(shard.size for shard in self.shards)

    @property
    def largest(self) -> int:
        """The size of the largest grown tensor, in bytes."""
        return max((self.growth.size(name) for name in self.growth.plan.tensors), default=0)

    @cached_property
    def made_of(self) -> dict[str, Any]:
        """What the weight files depend on (`growth.checkpoint.unfinished.made_of`)."""
        return made_of(self.growth, self.shards)

    @property
    def read(self) -> list[Path]:
        """The source's files that the result is made of."""
        source = self.growth.source
        read = [source.folder / "config.json", *source.weight_files]
        return [
            *read,
            *(self.training.files if self.training else ()),
            *(self.pipeline.files if self.pipeline else ()),
        ]


def _prepared(
    src: str | os.PathLike[str],
    target: Path,
    options: Options,
    wanted: torch.dtype | None,
    allow_nonfinite: bool,
    limit: int,
    trained: tuple[Moments, Hyper] | None,
) -> _Work:
    """Open a source and plan its growth; arguments as for `widen_checkpoint`, with None for ``trained``
    where no training state grows."""
    source = open_checkpoint(src)
    check_apart(source.folder, target)
    if trained is not None:
        check_trainer_folder(source.folder)
    source = completed(source)
    plan = prepare(source.config, options, source.shapes, source.dtypes, source.notes)
    check_dtypes(plan)
    training = open_trainer_state(source.files, plan, *trained) if trained is not None else None
    pipeline = open_pipeline(source.files, plan)
    more = [training.note if training else "", pipeline.note if pipeline else ""]
    more += ["" if wanted else loading_note(plan), *companion_notes(source.files, plan)]
    plan = replace(plan, notes=(*plan.notes, *filter(None, more)))
    growth = Growth(source, plan, result_dtypes(plan, wanted), allow_nonfinite)
    return _Work(growth, growth.shards(limit), training, pipeline)


def _finish(
    folder: Path,
    target: Path,
    work: _Work,
    proof: Proof,
    hashes: Mapping[str, str],
    done: Sequence[Done],
    wanted: torch.dtype | None,
) -> tuple[str, ...]:
    """Write what a result holds beside its weights. Returns what of the source stays behind."""
    source, plan, training = work.growth.source, work.growth.plan, work.training
    if len(done) > 1:
        write_json(folder / "model.safetensors.index.json", index_of(work.shards))
    covered = training.write(folder, target, work.growth.allow_nonfinite) if training else []
    covered += work.pipeline.write(folder, work.growth.allow_nonfinite) if work.pipeline else []
    left_behind = copy_companions(source.files, folder, covered)
    dtype = dtype_name(wanted) if wanted else "as the source"
    record = growth_record(plan, proof, source, hashes, done, dtype, training)
    write_card(source.files, folder, target.name, plan, proof)
    files = sorted([*written_files(folder), "config.json", "growth.json"])
    write_json(folder / "growth.json", {**record, "files": files})
    write_json(folder / "config.json", with_dtype(plan.new, wanted))
    return left_behind
