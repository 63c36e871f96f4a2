"""The content of ``optimizer.pt`` after growth: each state grows under the number that its parameter
has in the grown file (`growth.checkpoint.parameter_numbers`, `growth.training.moments`).

The parameters of new layers have no state. torch makes it at their first step, with a step count of
its own, as for parameters that were not trained so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adagrad, Optimizer
from transformers import PreTrainedModel

from growth.checkpoint.parameter_numbers import Numbers
from growth.errors import ProofError
from growth.plan.plan import Plan
from growth.training.factors import Factors
from growth.training.moments import Moments, first_values, grown_values
from growth.training.optimizer_kinds import KINDS
from growth.weights.fold import check_finite


def grown_optimizer(
    loaded: Mapping[str, Any],
    writer: type[Optimizer] | None,
    numbers: Numbers | None,
    groups: Sequence[Mapping[str, Any]],
    old: PreTrainedModel,
    new: PreTrainedModel,
    plan: Plan,
    moments: Moments,
    factors: Mapping[str, Factors],
    allow_nonfinite: bool = False,
) -> dict[str, Any]:
    """What the grown file holds.

    Args:
        loaded: what the file holds.
        writer: the class of the optimizer that wrote it; None if it has no growth rule, which only
            ``moments="reset"`` accepts.
        numbers: of the parameters; None to keep them, where no state grows.
        groups: of the grown file (`growth.checkpoint.trainer_groups.grown_groups`).
        old, new: the model before and after growth, which may be on the meta device.
        plan: how it grew, by the names that its parameters have on disk.
        moments: ``preserve``, ``fresh`` or ``reset``, see
            `growth.training.optimizer.grow_optimizer`.
        factors: of each parameter of the new model, where settings continue training.
        allow_nonfinite: carry NaN and infinity over instead of refusing them.

    Raises:
        CheckpointError: a state that holds NaN or infinity.
    """
    if numbers is None:
        return {**loaded, "state": {}, "param_groups": list(groups)}
    held = {numbers.old[number]: state for number, state in loaded["state"].items()}
    first = numbers.new.values() if moments == "reset" else numbers.added
    state = (
        _begun(loaded, numbers, held, first, new, factors if moments == "reset" else {}) if writer is Adagrad else {}
    )
    if moments != "reset":
        assert writer is not None
        state |= _grown(loaded, writer, numbers, held, old, new, plan, moments, allow_nonfinite)
    numbered = {number: state[name] for number, name in numbers.new.items() if name in state}
    return {**loaded, "state": numbered, "param_groups": list(groups)}


def _grown(
    loaded: Mapping[str, Any],
    writer: type[Optimizer],
    numbers: Numbers,
    held: Mapping[str, Mapping[str, Any]],
    old: PreTrainedModel,
    new: PreTrainedModel,
    plan: Plan,
    moments: Moments,
    allow_nonfinite: bool,
) -> dict[str, dict[str, Any]]:
    """Name of a grown parameter -> its state, for those whose source has one."""
    kind = KINDS[writer]
    state = {
        name: {key: _copied(value) for key, value in held[numbers.sources[name]].items()}
        for name in numbers.new.values()
        if name not in numbers.added and numbers.sources[name] in held
    }
    for key, degree in kind.state.items():
        values = {name: value[key] for name, value in held.items() if isinstance(value.get(key), Tensor)}
        for name, value in values.items():
            check_finite(f"{key} of {name}", value, allow_nonfinite)
        starts = first_values(loaded["param_groups"], numbers.old, kind, values)
        for name, value in grown_values(values, old, new, plan, degree, moments, False, starts).items():
            wanted = list(new.get_parameter(name).shape)
            if list(value.shape) != wanted:
                raise ProofError(
                    f"'{key}' of '{name}' grew to {list(value.shape)}, but its parameter to {wanted}. Please report "
                    "this."
                )
            state[name][key] = _compact(value)
    return state


def _begun(
    loaded: Mapping[str, Any],
    numbers: Numbers,
    held: Mapping[str, Mapping[str, Any]],
    names: Iterable[str],
    new: PreTrainedModel,
    factors: Mapping[str, Factors],
) -> dict[str, dict[str, Any]]:
    """The state that some parameters have in a new Adagrad, scaled as their gradients. Adagrad makes it when it
    is built, and would fail at its first step if the file it loads had none."""
    initial = {
        numbers.new[number]: group["initial_accumulator_value"]
        for group, params in zip(loaded["param_groups"], numbers.groups, strict=True)
        for number in params
    }
    state = {}
    for name in names:
        sums = held.get(numbers.sources[name], {}).get("sum")
        dtype = sums.dtype if isinstance(sums, Tensor) else torch.float32
        start = initial[name] * (factors[name].gradient ** KINDS[Adagrad].state["sum"] if name in factors else 1.0)
        full = torch.full(new.get_parameter(name).shape, start, dtype=dtype)
        state[name] = {"step": torch.tensor(0.0), "sum": full}
    return state


def _copied(value: Any) -> Any:
    """A counter, copied; anything else as it is."""
    return value.clone() if isinstance(value, Tensor) and not value.ndim else value


def _compact(value: Tensor) -> Tensor:
    """The tensor in memory of its own size. torch.save writes all of the memory that a view looks
    into: of one expert's state, that of all experts."""
    value = value.contiguous()
    return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
