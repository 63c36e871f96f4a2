"""The training state of a `transformers.Trainer` checkpoint, grown so that
``train(resume_from_checkpoint=...)`` continues with the wider model.

Each state in ``optimizer.pt`` grows under the number of its parameter
(`growth.checkpoint.parameter_numbers`, `growth.checkpoint.grown_optimizer`). Learning rate, epsilon
and weight decay stay by default, since Trainer makes its two parameter groups before it loads the
file. With ``hyper="preserve"`` they are set per tensor, as `growth.training.optimizer` does in memory,
and Trainer is to be given the groups (`growth.checkpoint.trainer_groups`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch.optim import Adagrad, Optimizer
from transformers import PreTrainedModel

from growth.checkpoint.dcp_writer import write_file
from growth.checkpoint.grown_optimizer import grown_optimizer
from growth.checkpoint.optimizer_file import OPTIMIZER, check_writer, read_optimizer, writer_of
from growth.checkpoint.parameter_numbers import Numbers, is_named, numbers_of
from growth.checkpoint.parameter_tensors import by_parameter_names
from growth.checkpoint.trainer_files import COPIED, PROGRESS, SCHEDULER
from growth.checkpoint.trainer_groups import Sources, grown_groups, grown_schedule, is_split
from growth.errors import CheckpointError
from growth.hf.config_json import read_json
from growth.hf.configs import config_to_build
from growth.hf.expected_tensors import without_weights
from growth.hf.source_files import SourceFiles
from growth.plan.plan import Plan
from growth.training.factors import Factors, factors_of
from growth.training.moments import Moments, tensor_plans
from growth.training.optimizer import born_of, uneven_of
from growth.training.optimizer_checks import Hyper
from growth.training.optimizer_kinds import KINDS


@dataclass(frozen=True, repr=False)
class TrainerState:
    """The training state of a checkpoint, read and checked, and how it will grow.

    Args:
        source: the files of the checkpoint.
        progress: the content of ``trainer_state.json``.
        loaded: the content of ``optimizer.pt``.
        writer: the class of the optimizer that wrote it; None if it has no growth rule, which only
            ``moments="reset"`` accepts.
        called: its name, for the record.
        numbers: of the parameters in ``optimizer.pt``; None where no state grows and no parameter is
            added.
        old, new: the model before and after growth, on the meta device (without weights).
        plan: how it grows, by the names that its parameters have on disk.
        moments: ``preserve``, ``fresh`` or ``reset``, see
            `growth.training.optimizer.grow_optimizer`.
        hyper: ``keep`` or ``preserve``, see there.
    """

    source: SourceFiles
    progress: Mapping[str, Any]
    loaded: Mapping[str, Any]
    writer: type[Optimizer] | None
    called: str
    numbers: Numbers | None
    old: PreTrainedModel
    new: PreTrainedModel
    plan: Plan
    moments: Moments
    hyper: Hyper

    @property
    def files(self) -> list[Path]:
        """The files that were read."""
        return [self.source.folder / name for name in _read(self.hyper)]

    @property
    def bytes(self) -> int:
        """Approximate size of the grown ``optimizer.pt``: it grows as the number of parameters."""
        size = (self.source.folder / OPTIMIZER).stat().st_size
        return size * self.plan.parameters(new=True) // max(1, self.plan.parameters(new=False))

    @property
    def rates(self) -> tuple[float, float]:
        """The smallest and the largest factor on the learning rate, over all parameters, that would
        continue training as the small model's: applied under ``hyper="preserve"``, and else reported."""
        return (1.0, 1.0) if self.writer is None else rates_of(self.new, self.plan, KINDS[self.writer].degree)

    @property
    def note(self) -> str:
        """What happens to the optimizer's settings, and what that means for training."""
        kept = (
            f"learning rate, epsilon and weight decay {self._settings}; give Trainer the groups, and the class of the "
            "optimizer that you trained with: optimizer_cls_and_kwargs=(CLASS, {'params': "
            "growth.training.parameter_groups(model, DST), 'lr': args.learning_rate})"
            if is_split(self.loaded, self.hyper)
            else "learning rate, epsilon and weight decay stay as they are, since Trainer makes its two parameter "
            "groups itself"
        )
        if self.numbers is not None and self.numbers.added and self.moments != "reset":
            kept = f"the parameters of new layers start without moments, at a step count of their own; {kept}"
        if self.numbers is not None and not is_named(self.loaded):
            kept = (
                f"parameters are taken to be in the order of Trainer's own groups, since {OPTIMIZER} holds no names; "
                f"{kept}"
            )
        if self.plan.options.breaking.breaks:  # training leaves the small model's course on purpose
            return kept
        if self.hyper == "keep":
            pace = pace_of(self.rates)
            return f"{kept}; {pace}; --hyper preserve sets it per tensor" if pace else kept
        count = len({name for names in self._departing.values() for name in names})
        where = f"training does not continue exactly in {count} parameters, 'uneven' and 'born' in growth.json"
        return f"{where}; {kept}" if count else kept

    def to_json(self) -> dict[str, Any]:
        """The entry ``training`` of ``growth.json``."""
        return {
            "global_step": self.progress["global_step"],
            "optimizer": self.called,
            "moments": self.moments,
            "hyper": self.hyper,
            "learning_rate_factors": list(self.rates),
            **(self._departing if self.hyper == "preserve" else {}),
            "parameters": [len(group["params"]) for group in self._groups[0]],
        }

    @property
    def _settings(self) -> str:
        return "are set per tensor" if self.hyper == "preserve" else "stay as an earlier growth set them"

    @cached_property
    def _factors(self) -> Mapping[str, Factors]:
        """Of each parameter of the grown model, where settings continue training as the small model's."""
        return all_factors(self.new, self.plan) if self.hyper == "preserve" else {}

    @cached_property
    def _departing(self) -> dict[str, list[str]]:
        """Under ``hyper="preserve"``, the parameters that do not continue exactly: `Grown.uneven`, `Grown.born`."""
        assert self.numbers is not None and self.writer is not None
        numbers, groups = self.numbers, self.loaded["param_groups"]
        kept = {} if self.moments == "reset" else self.loaded["state"]
        of_old = {numbers.old[number]: state for number, state in kept.items()}
        states = {name: of_old.get(source, {}) for name, source in numbers.sources.items()}
        uneven = uneven_of(groups, numbers.held, states, self._factors, KINDS[self.writer])
        return {"uneven": [*uneven], "born": [*born_of(tensor_plans(self.new, self.plan), self.plan)]}

    @cached_property
    def _groups(self) -> tuple[Sequence[Mapping[str, Any]], Sources]:
        """The groups of the grown file; and for each the index of the old one and the factor on its learning rate."""
        kept = self.loaded["param_groups"]
        if self.numbers is None:
            return kept, [(index, 1.0) for index in range(len(kept))]
        kind = KINDS[self.writer] if self.hyper == "preserve" and self.writer is not None else None
        return grown_groups(self.loaded, kind, self.numbers, self.new, self._factors)

    def write(self, folder: Path, target: Path, allow_nonfinite: bool = False) -> list[str]:
        """Write the grown training state.

        Args:
            folder: to write into (a temporary one).
            target: the path that ``folder`` will have.
            allow_nonfinite: carry NaN and infinity over instead of refusing them.

        Returns:
            The names of the source's files that are now covered.

        Raises:
            CheckpointError: a state that holds NaN or infinity.
        """
        here = self.source.folder
        copied = [path.name for pattern in COPIED for path in sorted(here.glob(pattern)) if path.is_file()]
        for name in copied:
            if name != SCHEDULER or self.hyper == "keep":
                self.source.copy(here / name, folder / name)
        groups, sources = self._groups
        models = (self.old, self.new, self.plan, self.moments, self._factors, allow_nonfinite)
        grown = grown_optimizer(self.loaded, self.writer, self.numbers, groups, *models)
        if self.hyper == "preserve":
            write_file(folder / SCHEDULER, grown_schedule(here, sources))
        write_file(folder / OPTIMIZER, grown)
        (folder / PROGRESS).write_text(
            json.dumps(grown_progress(self.progress, here, target), indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        return [*copied, OPTIMIZER, PROGRESS]


def _read(hyper: Hyper) -> tuple[str, ...]:
    """The files that are read; ``scheduler.pt`` only where it grows."""
    return (OPTIMIZER, PROGRESS, *([SCHEDULER] if hyper == "preserve" else []))


def rates_of(new: PreTrainedModel, plan: Plan, degree: int) -> tuple[float, float]:
    """The smallest and the largest factor on the learning rate, over all parameters, that would continue
    training as the small model's.

    Args:
        new: the grown model, on any device.
        plan: how it grew, by the names that its parameters have on disk.
        degree: of the optimizer's update in the gradient.
    """
    rates = [factor.value / factor.gradient**degree for factor in all_factors(new, plan).values()]
    return min(rates), max(rates)


def all_factors(new: PreTrainedModel, plan: Plan) -> dict[str, Factors]:
    """Name of each parameter of the grown model -> how its value and its gradient scale."""
    return {name: factors_of(tensor, plan.part(tensor.name)) for name, tensor in tensor_plans(new, plan).items()}


def pace_of(rates: tuple[float, float]) -> str:
    """What it means that the learning rate stays, where these factors on it would continue training as the small
    model's (`rates_of`); empty where both are 1."""
    least, most = rates
    if (round(least, 9), round(most, 9)) == (1.0, 1.0):
        return ""
    faster = f" (up to {1 / least:.3g} times faster)" if least < 1 else ""
    return (
        "to continue exactly as the small model would, each tensor would need its own learning rate, "
        f"{least:.3g} to {most:.3g} times the current one, so at an unchanged rate the wide model trains at "
        f"another pace{faster}"
    )


def grown_progress(before: Mapping[str, Any], folder: Path, target: Path) -> dict[str, Any]:
    """The content of ``trainer_state.json`` after growth. The best model so far is a small one, which Trainer
    could not load into the wide one, unless it is the checkpoint that grows. Its metric goes
    with it: Trainer would keep no checkpoint that does not beat it, and load none at the end.

    Args:
        before: what it held.
        folder: the checkpoint that grows.
        target: what it becomes.
    """
    progress, best = dict(before), before.get("best_model_checkpoint")
    if best and _names(str(best), folder):
        progress["best_model_checkpoint"] = str(target)
    elif best:  # a metric alone, as early stopping has it, stays
        progress |= dict.fromkeys(progress.keys() & {"best_model_checkpoint", "best_metric", "best_global_step"})
    return progress


def open_trainer_state(source: SourceFiles, plan: Plan, moments: Moments, hyper: Hyper = "keep") -> TrainerState:
    """Read the training state of a checkpoint that grows by ``plan``, and check that it fits the
    model, parameter by parameter.

    Args:
        source: the files of the checkpoint.
        plan: how it grows.
        moments: what becomes of the state, see `growth.training.optimizer.grow_optimizer`.
        hyper: what becomes of the settings, see there.

    Raises:
        CheckpointError: files that cannot be read, or belong to other parameters.
        UnsupportedModelError: an optimizer whose state has no growth rule.
    """
    folder = source.folder
    for name in _read(hyper):
        source.note(folder / name)
    progress, loaded = read_json(folder / PROGRESS), read_optimizer(folder / OPTIMIZER)
    if not isinstance(progress, dict) or not isinstance(progress.get("global_step"), int):
        raise CheckpointError(f"{folder / PROGRESS} has no 'global_step'. Fetch the file again.")
    if moments != "reset" or hyper == "preserve":
        check_writer(loaded)
    old, new = (without_weights(config_to_build(raw), plan.model_class) for raw in (plan.old, plan.new))
    writer, called = writer_of(loaded)
    adds = len(list(new.parameters())) > len(list(old.parameters()))
    numbered = moments != "reset" or is_split(loaded, hyper) or writer is Adagrad or adds
    return TrainerState(
        source=source,
        progress=progress,
        loaded=loaded,
        writer=writer,
        called=called if writer else "undeclared",
        numbers=numbers_of(loaded, old, new, plan) if numbered else None,
        old=old,
        new=new,
        plan=by_parameter_names(plan, old, new),
        moments=moments,
        hyper=hyper,
    )


def _names(written: str, folder: Path) -> bool:
    """Whether a path is that of a folder. It is relative to the directory that the training ran in:
    one above the folder, or the present one."""
    real = os.path.realpath(folder)
    try:
        return any(os.path.realpath(base / written) == real for base in (*Path(real).parents, Path()))
    except (OSError, ValueError):  # no present directory; what cannot be a path
        return False
