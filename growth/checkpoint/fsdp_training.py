"""The training state beside a model under FSDP, grown so that ``accelerator.load_state``, or
``train(resume_from_checkpoint=...)``, goes on with the wider model.

Every state grows as `growth.training.moments` says, one tensor at a time. Both ways of loading want a state
for every parameter, so one that has none so far (new layers; all of them with ``moments="reset"``) gets that of
an optimizer's first step: zeros, and a count of 0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD
from transformers import PreTrainedModel

from growth.checkpoint.dcp_writer import meta, write_file, write_folder
from growth.checkpoint.fsdp_optimizer import ALONE, FsdpOptimizer, open_optimizer, spelled_names
from growth.checkpoint.parameter_tensors import by_parameter_names
from growth.checkpoint.trainer_files import COPIED, PROGRESS, SCHEDULER
from growth.checkpoint.trainer_state import grown_progress, pace_of, rates_of
from growth.errors import CheckpointError, ProofError, UnsupportedModelError
from growth.hf.config_json import read_json
from growth.hf.dcp_reader import Place
from growth.hf.fsdp_reader import FsdpCheckpoint
from growth.hf.source_files import SourceFiles
from growth.plan.plan import Plan
from growth.training.moments import Moments, grown_values
from growth.training.optimizer_kinds import KINDS, Kind
from growth.training.parameter_sources import parameter_sources
from growth.weights.fold import check_finite

OF_ACCELERATE = ("random_states_*.pkl", "scheduler.bin", "scheduler_*.bin", "sampler*.bin", "dl_state_dict*.bin")
"""Files of accelerate that do not depend on the width. They are copied without being read."""

_FIRST = {"step": 0.0, "mu_product": 1.0}
"""What counters are before the first step."""


@dataclass(frozen=True, repr=False)
class FsdpTraining:
    """The training state of a folder, and how it will grow.

    Args:
        source: the folder.
        optimizer: what it holds of an optimizer.
        progress: the content of ``trainer_state.json``; None where accelerate saved without Trainer.
        old, new: the model before and after growth, on the meta device.
        plan: how it grows, by the names that its parameters have on disk.
        origin: parameter of the grown model -> the one it grew, or was copied, from.
        moments: ``preserve``, ``fresh`` or ``reset``.
        spelled: parameter of the model -> the name that the folder has for it, which for a tied one may be
            another.
    """

    source: FsdpCheckpoint
    optimizer: FsdpOptimizer
    progress: Mapping[str, Any] | None
    old: PreTrainedModel
    new: PreTrainedModel
    plan: Plan
    origin: Mapping[str, str]
    moments: Moments
    spelled: Mapping[str, str]

    @property
    def _files(self) -> SourceFiles:
        return self.source.checkpoint.files

    @property
    def files(self) -> list[Path]:
        """The files that are read."""
        progress = [self.source.found.folder / PROGRESS] if self.progress is not None else []
        return [*self.optimizer.files, *progress]

    @property
    def bytes(self) -> int:
        """Of the grown states."""
        tensors = [value for value in self._entries().values() if isinstance(value, Tensor)]
        return sum(value.numel() * value.dtype.itemsize for value in tensors)

    @property
    def rates(self) -> tuple[float, float]:
        """The smallest and the largest factor on the learning rate that would continue training as the small
        model's; see `growth.checkpoint.trainer_state`."""
        return rates_of(self.new, self.plan, KINDS[self.optimizer.writer].degree)

    @property
    def note(self) -> str:
        """What happens to the optimizer's settings, and what that means for training."""
        kept = "learning rate, epsilon and weight decay stay as they are, in the groups that the training made"
        if any(self._added(name) for name in self.origin) and self.moments != "reset":
            kept = f"the parameters of new layers start with moments of 0 and a step count of their own; {kept}"
        return "; ".join(filter(None, (kept, "" if self.plan.options.breaking.breaks else pace_of(self.rates))))

    def to_json(self) -> dict[str, Any]:
        """The entry ``training`` of ``growth.json``."""
        steps = self.optimizer.steps if self.progress is None else self.progress["global_step"]
        return {
            "global_step": steps,
            "optimizer": self.optimizer.called,
            "moments": self.moments,
            "hyper": "keep",
            "learning_rate_factors": list(self.rates),
            "parameters": [len(group["params"]) for group in self._groups],
            "saved_by": "accelerate" if self.progress is None else "Trainer",
        }

    def write(self, folder: Path, target: Path, allow_nonfinite: bool = False, limit: int | None = None) -> list[str]:
        """Write the grown training state.

        Args:
            folder: to write into (a temporary one).
            target: the path that ``folder`` will have.
            allow_nonfinite: carry NaN and infinity over instead of refusing them.
            limit: largest file of tensors in bytes, as in `growth.checkpoint.dcp_writer.write_folder`.

        Returns:
            The source's files and folders that are now covered, relative to its folder.

        Raises:
            CheckpointError: a state that holds NaN or infinity.
        """
        found, here = self.source.found, self.source.found.folder
        patterns = (*COPIED, *OF_ACCELERATE)
        copied = sorted({path.name for pattern in patterns for path in here.glob(pattern) if path.is_file()})
        for name in copied:
            self._files.copy(here / name, folder / name)
        if self.progress is not None:
            grown = grown_progress(self.progress, here, target)
            text = json.dumps(grown, indent=2, sort_keys=True) + "\n"
            (folder / PROGRESS).write_text(text, encoding="utf-8")
            copied.append(PROGRESS)
        entries = self._entries()
        if found.sharded:
            name = found.optimizer.name
            write_folder(folder / name, entries, lambda place: self._value(place, allow_nonfinite), limit)
        else:
            state: dict[str, dict[str, Any]] = {}
            for place, value in entries.items():
                if place[1] == "state":
                    made = self._value(place, allow_nonfinite) if isinstance(value, Tensor) else value
                    state.setdefault(str(place[2]), {})[str(place[3])] = made
            write_file(folder / found.optimizer.name, {"state": state, "param_groups": self._groups})
        return [*copied, found.optimizer.name]

    def _added(self, name: str) -> bool:
        return self.plan.extension is not None and self.plan.extension.adds(name)

    def _written(self, name: str) -> str:
        """The name under which a parameter of the grown model is written: for a tied one, that which the file
        has."""
        return self.spelled.get(name, name) if self.origin[name] == name else name

    def _entries(self) -> dict[Place, Any]:
        """What the grown state consists of: tensors by their shapes and dtypes, and everything else."""
        kind, entries = KINDS[self.optimizer.writer], {}
        for name, value in self.new.named_parameters():
            held = self.optimizer.state.get(self.spelled.get(self.origin.get(name, ""), ""), {})
            for key, before in held.items():
                place: Place = ("optimizer", "state", self._written(name), key)
                grows = isinstance(before, Tensor) and key in kind.state
                entries[place] = meta(tuple(value.shape), before.dtype) if grows else before
                if not grows and isinstance(before, Tensor):
                    entries[place] = meta(tuple(before.shape), before.dtype)
                elif not grows and key in _FIRST and self._begins(name):
                    entries[place] = type(before)(_FIRST[key])
        for number, group in enumerate(self._groups):
            entries |= {("optimizer", "param_groups", number, key): value for key, value in group.items()}
        return entries

    def _begins(self, name: str) -> bool:
        """Whether a parameter starts as one that was not trained so far."""
        return self.moments == "reset" or self._added(name)

    @cached_property
    def _groups(self) -> list[dict[str, Any]]:
        """The parameter groups, with the parameters of the grown model."""
        groups = []
        for group in self.optimizer.groups:
            held = {*group["params"]}
            grown = [self._written(name) for name in self.origin if self.spelled.get(self.origin[name]) in held]
            groups.append({**group, "params": grown})
        return groups

    @cached_property
    def _named(self) -> dict[str, str]:
        """The name under which a parameter of the grown model is written -> its name."""
        return {self._written(name): name for name in self.origin}

    def _value(self, place: Place, allow_nonfinite: bool) -> Tensor:
        """One tensor of the grown state."""
        if place[1] != "state":
            value: Tensor = self._groups[int(place[2])][str(place[3])]
            return value
        key, kind = str(place[3]), KINDS[self.optimizer.writer]
        name = self._named[str(place[2])]
        stored = self.spelled[self.origin[name]]
        before = self.optimizer.state[stored][key]
        if self._begins(name):
            first = self._start(stored, kind) if kind.start and kind.state.get(key) == 2 else _FIRST.get(key, 0.0)
            shape = self.new.get_parameter(name).shape if key in kind.state else before.shape
            return torch.full(tuple(shape), first, dtype=before.dtype)
        value = self.optimizer.read(stored, key)
        if key not in kind.state:
            return value.clone()
        check_finite(f"{key} of {stored}", value, allow_nonfinite)
        return self._grown(name, key, value, kind, self._start(stored, kind) if kind.start else 0.0)

    def _start(self, stored: str, kind: Kind) -> float:
        """What a state of degree 2 was before the first step."""
        groups = self.optimizer.groups
        return float(next(group[str(kind.start)] for group in groups if stored in group["params"]))

    def _grown(self, name: str, key: str, value: Tensor, kind: Kind, start: float) -> Tensor:
        origin = self.origin[name]
        starts = {origin: torch.full_like(value, start)} if start else {}
        grown = grown_values(
            {origin: value}, self.old, self.new, self.plan, kind.state[key], self.moments, False, starts
        )
        wanted = list(self.new.get_parameter(name).shape)
        if name not in grown or list(grown[name].shape) != wanted:
            raise ProofError(
                f"'{key}' of '{name}' did not grow to {wanted}, as its parameter did. Please report this."
            )
        return grown[name]


def open_training(source: FsdpCheckpoint, new: PreTrainedModel, plan: Plan, moments: Moments) -> FsdpTraining:
    """Open the training state of a folder that grows by ``plan``, and check that it fits the model.

    Args:
        source: the folder.
        new: the grown model, on the meta device.
        plan: how it grows.
        moments: what becomes of the state, see `growth.training.optimizer.grow_optimizer`.

    Raises:
        CheckpointError: files that are missing, or belong to other parameters.
        UnsupportedModelError: an optimizer whose state cannot grow, or not start in the middle.
    """
    here, files = source.found.folder, source.checkpoint.files
    optimizer = open_optimizer(source.found, files, source.model)
    progress = None
    if (here / PROGRESS).is_file():
        files.note(here / PROGRESS)
        progress = read_json(here / PROGRESS)
        if not isinstance(progress, dict) or not isinstance(progress.get("global_step"), int):
            raise CheckpointError(f"{here / PROGRESS} has no 'global_step'. Fetch the file again.")
        if not (here / SCHEDULER).is_file():
            raise CheckpointError(
                f"{here} has no {SCHEDULER}, and without it Trainer starts optimizer and schedule anew. Save with "
                f"save_only_model=False, or {ALONE}."
            )
    spelled = spelled_names(source.model, optimizer)
    origin = parameter_sources(source.model, new, plan)
    training = FsdpTraining(
        source,
        optimizer,
        progress,
        source.model,
        new,
        by_parameter_names(plan, source.model, new),
        origin,
        moments,
        spelled,
    )
    damped = optimizer.writer is SGD and any(group.get("dampening") for group in optimizer.groups)
    if damped and any(training._begins(name) for name in origin):
        raise UnsupportedModelError(
            "SGD with dampening starts a momentum in another way than from zeros, and accelerate loads no state that "
            f"is not there, so no parameter can start anew. Use --moments preserve without new layers, or {ALONE}."
        )
    return training
