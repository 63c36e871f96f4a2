"""What a `transformers.Trainer` checkpoint holds beside its model, grown so that
``train(resume_from_checkpoint=...)`` goes on.

A wider model of the same class has the same parameters in the same order, so the numbers of
``optimizer.pt`` stay (`growth.checkpoint.optimizer_file`), and each state grows under its number
(`growth.training.moments`). Trainer builds its two parameter groups anew before it loads the file,
so settings cannot be split by tensor as `growth.training.optimizer` does: they stay as they are.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from torch.optim import Adagrad, Optimizer
from transformers import PreTrainedModel

from growth.checkpoint.optimizer_file import (
    OPTIMIZER,
    adagrad_state,
    check_writer,
    parameter_names,
    read_optimizer,
    trainer_order,
    writer_of,
)
from growth.errors import CheckpointError, IllegalGrowthError, ProofError, UnsupportedModelError
from growth.hf.config_json import read_json
from growth.hf.configs import config_to_build
from growth.hf.expected_tensors import expected_tensors
from growth.hf.folders import OF_ACCELERATE
from growth.hf.tensor_names import to_disk
from growth.plan.plan import Plan
from growth.training.factors import factors_of
from growth.training.moments import Moments, grown_values, start_values, tensor_plans
from growth.training.optimizer_kinds import KINDS
from growth.weights.fold import check_finite

SCHEDULER, PROGRESS = "scheduler.pt", "trainer_state.json"


COPIED = (SCHEDULER, "rng_state*.pth", "training_args.bin", "scaler.pt")
"""What does not depend on the width. None of these files is read."""


_ELSEWHERE = {
    **{
        "global_step*": "DeepSpeed",
        "zero_to_fp32.py": "DeepSpeed",
        "pytorch_model_fsdp*": "FSDP",
        "optimizer_[0-9]*": "FSDP",
    },
    **{"rank*-of-*": "XLA FSDP", "optimizer.pt_*": "SageMaker"},
}
"""Files of a training state that is laid out otherwise -> by whom."""


@dataclass(frozen=True, repr=False)
class TrainerState:
    """The training state of a checkpoint, read and checked, and how it grows.

    Args:
        folder: of the checkpoint.
        progress: what ``trainer_state.json`` holds.
        loaded: what ``optimizer.pt`` holds.
        writer: the optimizer that wrote it, None where nobody knows, which only ``reset`` takes.
        called: its name.
        names: number of each parameter in it -> its name in memory. Empty where nothing grows.
        old, new: the models, without weights.
        plan: how they grow, tensors by the names that ``old`` has on disk.
        moments: ``preserve``, ``fresh`` or ``reset``.
    """

    folder: Path
    progress: Mapping[str, Any]
    loaded: Mapping[str, Any]
    writer: type[Optimizer] | None
    called: str
    names: Mapping[int, str]
    old: PreTrainedModel
    new: PreTrainedModel
    plan: Plan
    moments: Moments

    @property
    def files(self) -> list[Path]:
        """What was read."""
        return [self.folder / OPTIMIZER, self.folder / PROGRESS]

    @property
    def bytes(self) -> int:
        """What ``optimizer.pt`` takes, about, once it has grown."""
        size = (self.folder / OPTIMIZER).stat().st_size
        return size * self.plan.parameters(new=True) // max(1, self.plan.parameters(new=False))

    @property
    def rates(self) -> tuple[float, float]:
        """Least and greatest factor on the learning rate that would keep the small model's course,
        over all parameters."""
        if self.writer is None:
            return 1.0, 1.0
        degree = KINDS[self.writer].degree
        factors = [factors_of(tensor) for tensor in tensor_plans(self.old, self.plan).values()]
        rates = [factor.value / factor.gradient**degree for factor in factors]
        return min(rates), max(rates)

    @property
    def note(self) -> str:
        """What becomes of the settings, and what follows."""
        least, most = self.rates
        kept = "learning rate, epsilon and weight decay stay as they are, since Trainer builds its two parameter groups anew"  # noqa: E501
        if (round(least, 9), round(most, 9)) == (1.0, 1.0):
            return kept
        faster = f" (up to {1 / least:.3g} times faster)" if least < 1 else ""
        return (
            f"{kept}; going on exactly as the small model would takes {least:.3g} to {most:.3g} times the learning "
            "rate, tensor by tensor, "
            f"so at an unchanged one the wide model moves at another pace{faster}; growth.widen(model, optimizer=...) "
            "sets it per tensor"
        )

    def to_json(self) -> dict[str, Any]:
        """For the record."""
        sizes = [len(group["params"]) for group in self.loaded["param_groups"]]
        told = {
            "optimizer": self.called,
            "moments": self.moments,
            "hyper": "keep",
            "learning_rate_factors": list(self.rates),
        }
        return {"global_step": self.progress["global_step"], **told, "parameters": sizes}

    def write(self, folder: Path, target: Path, allow_nonfinite: bool = False) -> list[str]:
        """Write the training state into ``folder``, which will be ``target``; return the names of
        the source's files that it covers."""
        copied = [path.name for pattern in COPIED for path in sorted(self.folder.glob(pattern)) if path.is_file()]
        for name in copied:
            shutil.copyfile(self.folder / name, folder / name)
        with (folder / OPTIMIZER).open("wb") as file:  # given its path, torch would make a full disk a RuntimeError
            torch.save({**self.loaded, "state": self._state(allow_nonfinite)}, file)
        progress = dict(self.progress)
        if best := progress.get("best_model_checkpoint"):  # a small model's, unless it is this one
            progress["best_model_checkpoint"] = (
                str(target) if Path(str(best)).name == self.folder.resolve().name else None
            )
        (folder / PROGRESS).write_text(json.dumps(progress, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return [*copied, OPTIMIZER, PROGRESS]

    def _state(self, allow_nonfinite: bool) -> dict[int, dict[str, Any]]:
        if self.moments == "reset":
            return adagrad_state(self.loaded, self.names, self.new) if self.writer is Adagrad else {}
        assert self.writer is not None
        old: Mapping[int, Mapping[str, Any]] = self.loaded["state"]
        state = {number: {name: _counter(value) for name, value in held.items()} for number, held in old.items()}
        numbers = {name: number for number, name in self.names.items()}
        for key, degree in KINDS[self.writer].state.items():
            values = {
                self.names[number]: held[key] for number, held in old.items() if isinstance(held.get(key), Tensor)
            }
            for name, value in values.items():
                check_finite(f"{key} of {name}", value, allow_nonfinite)
            starts = start_values(self.loaded["param_groups"], self.names, KINDS[self.writer], values)
            for name, value in grown_values(
                values, self.old, self.new, self.plan, degree, self.moments, False, starts
            ).items():
                wanted = list(self.new.get_parameter(name).shape)
                if list(value.shape) != wanted:
                    raise ProofError(
                        f"'{key}' of '{name}' grew to {list(value.shape)}, its parameter to {wanted}. Please report "
                        "this."
                    )
                state[numbers[name]][key] = _alone(value)
        return state


def check_trainer_folder(folder: Path, moments: str) -> None:
    """Refuse a folder that is no Trainer checkpoint, or lacks what resuming takes.

    Raises:
        IllegalGrowthError: for ``moments`` that do not exist.
        CheckpointError: naming the file that is missing, or that says that the state lies
            elsewhere.
    """
    if moments not in get_args(Moments):
        raise IllegalGrowthError(f"moments must be one of {', '.join(get_args(Moments))}, not {moments!r}.")
    alone = "leave --optimizer out to grow the weights alone"
    if (folder / "optimizer.bin").is_file():
        raise CheckpointError(
            f"{folder} holds 'optimizer.bin', a training state as accelerate saves it. {OF_ACCELERATE}"
        )
    for pattern, whose in _ELSEWHERE.items():
        if found := sorted(path.name for path in folder.glob(pattern)):
            raise CheckpointError(
                f"{folder} holds '{found[0]}', a training state as {whose} lays it out, which nobody taught this to "
                "read. Resume it in one "
                f"process without sharding and save it there, or {alone}."
            )
    if not (folder / PROGRESS).is_file():
        raise CheckpointError(
            f"{folder} is no Trainer checkpoint: it has no {PROGRESS}. Name a folder such as out/checkpoint-500, or "
            f"{alone}."
        )
    for name in (OPTIMIZER, SCHEDULER):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} has no {name}, without which Trainer starts optimizer and schedule anew. Save with "
                "save_only_model=False, "
                f"or {alone}."
            )


def open_trainer_state(folder: Path, plan: Plan, moments: Moments) -> TrainerState:
    """Read the training state of a checkpoint that grows by ``plan``, and check that it fits the
    model, parameter by parameter.

    Raises:
        CheckpointError: for files that cannot be read, or are of other parameters.
        UnsupportedModelError: for an optimizer whose state nobody declared.
    """
    progress, loaded = read_json(folder / PROGRESS), read_optimizer(folder / OPTIMIZER)
    if not isinstance(progress, dict) or not isinstance(progress.get("global_step"), int):
        raise CheckpointError(f"{folder / PROGRESS} has no 'global_step'. Fetch the file again.")
    if moments != "reset":
        check_writer(loaded)
    old, new = (_without_weights(plan.model_class, raw) for raw in (plan.old_config, plan.new_config))
    writer, called = writer_of(loaded)
    names = {} if moments == "reset" and writer is not Adagrad else parameter_names(loaded, old)
    if names and trainer_order(old) != trainer_order(new):
        raise UnsupportedModelError(
            f"a wider {type(old).__name__} gives Trainer its parameters in another order. Use --moments reset."
        )
    return TrainerState(
        folder,
        progress,
        loaded,
        writer,
        called if writer else "undeclared",
        names,
        old,
        new,
        _spelled(plan, old),
        moments,
    )


def _without_weights(model_class: type[PreTrainedModel], raw: Mapping[str, Any]) -> PreTrainedModel:
    with torch.device("meta"):
        return model_class(config_to_build(raw))


def _spelled(plan: Plan, old: PreTrainedModel) -> Plan:
    """The plan with its tensors by the names of the parameters, where the weights have them by
    older names or by those they are tied to."""
    canonical = plan.architecture.canonical
    known = {tensor.canonical: tensor for tensor in plan.tensors.values()}
    for pair in expected_tensors(plan.old_config, plan.model_class)[1].items():
        one, other = map(canonical, pair)
        known |= {a: known[b] for a, b in ((one, other), (other, one)) if a not in known and b in known}
    on_disk = to_disk(old, {name: parameter.detach() for name, parameter in old.named_parameters()})
    if missing := [name for name in on_disk if canonical(name) not in known]:
        raise CheckpointError(
            f"parameter '{missing[0]}' of {type(old).__name__} has no tensor in the weights. Load and save the "
            "checkpoint once with "
            "the transformers installed here, or leave --optimizer out."
        )
    return replace(plan, tensors={name: known[canonical(name)] for name in on_disk})


def _counter(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) and not value.ndim else value


def _alone(value: Tensor) -> Tensor:
    """The tensor in memory of its own: of a view, the whole of what it looks at would be
    written."""
    value = value.contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
