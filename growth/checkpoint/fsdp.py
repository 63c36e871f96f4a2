"""`growth.widen_checkpoint` of a folder that was saved under FSDP: to a folder of the same kind.

The order, and all that is proved and recorded, is that of ``widen.py``; ``config.json`` of the grown model is
written even where the source had none."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from growth.checkpoint.companions import companion_notes, copy_companions, with_dtype, write_json, written_files
from growth.checkpoint.dcp_writer import meta, write_file, write_folder
from growth.checkpoint.destination import appearing, check_apart, check_space
from growth.checkpoint.fsdp_training import open_training
from growth.checkpoint.fsdp_weights import FsdpWeights, grown_weights
from growth.checkpoint.model_card import write_card
from growth.checkpoint.private import folder_mode
from growth.checkpoint.ranks import Ranks
from growth.checkpoint.record import growth_record, source_name
from growth.checkpoint.results import WidenedCheckpoint
from growth.checkpoint.weights import Progress, read_hashes
from growth.hf.dcp_reader import Place
from growth.hf.dtypes import dtype_name
from growth.hf.fsdp_folder import FsdpFolder
from growth.hf.fsdp_reader import FsdpCheckpoint, open_fsdp
from growth.infer.prepare import prepare
from growth.plan.loading import loading_note
from growth.plan.options import Options
from growth.plan.plan import Plan
from growth.plan.rounding import result_dtypes
from growth.proof.proof import Proof
from growth.proof.twin import prove_twin
from growth.training.moments import Moments
from growth.weights.blocks import Each
from growth.weights.fold import Fold
from growth.weights.model_weights import check_dtypes
from growth.weights.workers import mapping, one_thread_each, workers_for


@dataclass(frozen=True)
class FsdpOptions:
    """What `growth.widen_checkpoint` was asked for, beside how to grow; its docstring says what each is."""

    config: str | os.PathLike[str] | None
    optimizer: bool
    moments: Moments
    dtype: torch.dtype | None
    limit: int
    overwrite: bool
    allow_nonfinite: bool
    device: str
    jobs: int | None
    progress: Progress | None


def plan_fsdp(found: FsdpFolder, config: str | os.PathLike[str] | None, options: Options) -> Plan:
    """What widening a folder would do; its weights are not read. Raises what `open_fsdp` and `prepare` do."""
    source = open_fsdp(found, config)
    plan = _planned(source, options)
    grown_weights(source, plan, result_dtypes(plan, None))
    return replace(plan, notes=(*plan.notes, *companion_notes(source.checkpoint.files, plan)))


def _planned(source: FsdpCheckpoint, options: Options) -> Plan:
    checkpoint = source.checkpoint
    return prepare(checkpoint.config, options, checkpoint.shapes, checkpoint.dtypes, checkpoint.notes)


def widen_fsdp(
    found: FsdpFolder, target: Path, names: tuple[str, str], options: Options, asked: FsdpOptions
) -> WidenedCheckpoint:
    """Write a wider folder of the same kind.

    Args:
        found: the source.
        target: the folder to make.
        names: source and destination as the caller named them.
        options: how to grow.
        asked: everything else.

    Raises:
        GrowthError: anything that stands in the way; nothing is left behind.
    """
    check_apart(found.folder, target)
    source = open_fsdp(found, asked.config)
    files = source.checkpoint.files
    plan = _planned(source, options)
    check_dtypes(plan)
    dtypes = result_dtypes(plan, asked.dtype)
    weights = grown_weights(source, plan, dtypes)
    training = open_training(source, weights.model, plan, asked.moments) if asked.optimizer else None
    more = [training.note if training else "", "" if asked.dtype else loading_note(plan)]
    plan = replace(plan, notes=(*plan.notes, *filter(None, more), *companion_notes(files, plan)))
    check_space(target.parent, weights.bytes + (training.bytes if training else 0))
    twin = prove_twin(plan, asked.device)
    outside = source.config_files is not files
    read = [*([] if outside else [source.config_file]), *source.checkpoint.weight_files]
    read += training.files if training else []
    workers = workers_for(asked.jobs, 1, plan, weights.largest)
    with appearing(target, asked.overwrite, found.folder) as folder:
        fold, training_json = Fold(), training.to_json() if training else None
        with one_thread_each(), mapping(workers.blocks) as each:
            _write_weights(folder, weights, fold, asked, each)
        covered = [source.found.weights.name]
        if training:
            _make(folder, found, found.optimizer)
            covered += training.write(folder, target, asked.allow_nonfinite, asked.limit)
        proof = Proof(twin, fold)
        left_behind = copy_companions(files, folder, _inside(found.folder, covered))
        hashed = {
            **({"config.json": hashlib.sha256(source.config_file.read_bytes()).hexdigest()} if outside else {}),
            **read_hashes(files, read, Ranks(), workers.blocks),
        }
        written = dtype_name(asked.dtype) if asked.dtype else "as the source"
        record = growth_record(plan, proof, source.checkpoint, hashed, (), written, training)
        if outside:
            record["source"]["config"] = source_name(source.config_file.parent)
        write_card(files, folder, target.name, plan, proof)
        there = sorted([*written_files(folder), "config.json", "growth.json"])
        write_json(folder / "growth.json", {**record, "files": there})
        write_json(folder / "config.json", with_dtype(plan.new, asked.dtype))
        files.check_unchanged()
        source.config_files.check_unchanged()
    return WidenedCheckpoint(
        target,
        plan,
        proof,
        tuple(sorted(written_files(target))),
        left_behind,
        plan.bytes(new=False),
        weights.bytes,
        training_json,
        *names,
    )


def _write_weights(folder: Path, weights: FsdpWeights, fold: Fold, asked: FsdpOptions, each: Each) -> None:
    """Grow all tensors into a folder, or a file, like that of the source; ``each`` works on the blocks of
    one, as `map` does."""
    found, done, size = weights.source.found, 0, weights.bytes

    def made(name: str) -> torch.Tensor:
        nonlocal done
        tensor = weights.make(name, fold, asked.allow_nonfinite, each)
        done += tensor.nbytes
        if asked.progress is not None:
            asked.progress(done, size, name)
        return tensor

    shapes = weights.shapes()
    if found.sharded:
        _make(folder, found, found.weights)
        entries: dict[Place, torch.Tensor] = {
            ("model", name): meta(shape, dtype) for name, (shape, dtype) in shapes.items()
        }
        write_folder(folder / found.weights.name, entries, lambda place: made(str(place[1])), asked.limit)
    else:
        write_file(folder / found.weights.name, {name: made(name) for name in shapes})


def _make(folder: Path, found: FsdpFolder, like: Path) -> None:
    """Make a folder in the result, no more open than that of the source."""
    if found.sharded:
        (folder / like.name).mkdir(folder_mode(like))


def _inside(home: Path, covered: list[str]) -> list[str]:
    """Names that are covered, with what lies in those that are folders."""
    inside = [f"{name}/{path.name}" for name in covered if (home / name).is_dir() for path in (home / name).iterdir()]
    return [*covered, *inside]
