"""The model in memory, run before and after it grows: on a few tokens, in its own dtype.

The twin proves that a class at a config grows rightly, the fold that weights do. What is left is
whether the caller's model is that class at that config: an activation may have been replaced, an
attention's scaling set, the config changed after the model was built. So three models are run on
the same inputs,

    model      the caller's, with its hooks
    same       its class built anew from its config, on the same weights
    grown      the result

``model`` and ``same`` do the same operations with the same numbers, so that they agree bit for bit,
in any dtype. Where they do not, each module is compared by itself, since another kernel may only
add in another order. ``grown`` adds up other numbers, and its difference is compared with what
rounding alone moves the outputs (`growth.proof.rounding`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.errors import FOREIGN_ERRORS, ProofError, UnsupportedModelError
from growth.hf.dtypes import dtype_name
from growth.plan.plan import Plan
from growth.proof.outputs import forward, grown_output, of_old_layers, output_map
from growth.proof.own_run import Trial, class_name, shapes
from growth.proof.rounding import ORDER, excess, gaps, rounding_floor
from growth.proof.undisturbed import undisturbed

SAMPLES = 8
"""How often rounding is sampled before a grown model is refused; otherwise once."""


@dataclass(frozen=True)
class RunReport:
    """What running the model and the grown one showed.

    Args:
        inputs: what they were run on: name -> shape.
        dtype: of most weights, or of the outputs where that is coarser (a policy of FSDP).
        own: how far the model is from its class built anew from its config, RMS at the position
            where it is furthest; 0 where they agree bit for bit.
        output: the output that the next three are of: the one furthest off, or the logits.
        difference: how far the grown model's output is from what it must be: the RMS over the
            features of a position, at the median position.
        floor: how far rounding alone moves that output, RMS.
        scale: the RMS of that output.
        unseen: attributes of modules that are not what the config says and act in training alone
            (dropout), or number the layers; hooks; methods that are not the class's
            (`growth.proof.settings`). They are not kept.
    """

    inputs: Mapping[str, tuple[int, ...]]
    dtype: str
    own: float
    output: str
    difference: float
    floor: float
    scale: float
    unseen: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.difference <= ORDER * self.floor

    def __str__(self) -> str:
        name, shape = next(iter(self.inputs.items()))
        own = "bit for bit" if self.own == 0 else f"up to rounding ({self.own:.1e})"
        return (
            f"run: model as its config says {own}; grown model's {self.output} off by {self.difference:.1e}, rounding "
            f"alone by {self.floor:.1e} ({name} {' x '.join(map(str, shape))}, {self.dtype})"
        )


def prove_grown(trial: Trial, grown: PreTrainedModel, plan: Plan, any_rank: Callable[[str], str] = str) -> RunReport:
    """Run the grown model on the inputs of a trial, and compare.

    Args:
        trial: of the small model.
        grown: the wide one; left as it was.
        plan: how it grew.
        any_rank: see `growth.proof.own_run.try_model`.

    Raises:
        UnsupportedModelError: a grown model that cannot be run.
        ProofError: outputs that differ beyond rounding, unless the plan is lossy.
    """
    inputs, before = trial.inputs, of_old_layers(trial.before, plan, renumber=False)
    maps = {name: output_map(name, before, plan) for name in before}
    try:
        with undisturbed(grown):
            after = of_old_layers(forward(grown, inputs), plan)
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"the grown {class_name(grown)} cannot be run on {shapes(inputs)}, as the small one can "
            f"({type(error).__name__}: {str(error)[:200]}). If an input of verify_inputs has a size that grows, leave "
            "it out; else choose other sizes, or another attention or experts implementation (or sharding)."
        ) from error

    def mapped(name: str, value: Tensor) -> Tensor:
        return grown_output(value.double(), maps[name])

    expected = {name: mapped(name, value) for name, value in before.items()}
    found = {name: after[name].double() for name in expected}
    gap = {name: float(gaps(expected[name], found[name]).median()) for name in expected}
    floor = dict.fromkeys(gap, 0.0)
    # The small model's rounding explains most differences. Noise and sums in another order add the wide one's.
    for each, outputs, read, samples in (
        (trial.same, expected, mapped, 1),
        (trial.same, expected, mapped, SAMPLES),
        (grown, found, _unmapped, SAMPLES),
    ):
        with undisturbed(each):
            own = rounding_floor(each, inputs, outputs, samples, read)
        floor = {name: max(floor[name], own[name]) for name in gap}
        beyond = {name: excess(gap[name], floor[name]) for name in gap}
        # The output that is furthest off; the logits, where none is off.
        shown = max(beyond, key=lambda name: (max(beyond[name], 1.0), "logits" in name))
        if not any_rank(f"{shown} differ beyond rounding" if beyond[shown] > 1 else ""):
            break
    report = RunReport(
        {name: tuple(value.shape) for name, value in inputs.items() if isinstance(value, Tensor)},
        dtype_name(max((trial.same.dtype, *(value.dtype for value in before.values())), key=_coarseness)),
        trial.own,
        shown,
        gap[shown],
        floor[shown],
        float(expected[shown].square().mean().sqrt()),
        trial.unseen,
    )
    if not report.ok and not plan.lossy:
        raise ProofError(
            f"the grown {class_name(grown)} does not compute what the small one does: its {shown} differ by "
            f"{report.difference:.3g} (of {report.scale:.3g}), and rounding in {report.dtype} explains "
            f"{ORDER * report.floor:.1g}, so nothing was kept. Please report this config and these options."
        )
    return report


def _coarseness(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps


def _unmapped(name: str, value: Tensor) -> Tensor:
    return value
