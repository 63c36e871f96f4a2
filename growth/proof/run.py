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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from growth.errors import FOREIGN_ERRORS, CheckpointError, GrowthError, ProofError, UnsupportedModelError
from growth.hf.custom_modules import MODULE
from growth.hf.dtypes import dtype_name
from growth.plan.plan import Plan
from growth.proof.foreign import origins, same_bits, unseen
from growth.proof.inputs import few_inputs
from growth.proof.outputs import Outputs, forward, grown_output, output_map
from growth.proof.rounding import ORDER, excess, gaps, rounding_floor
from growth.proof.undisturbed import undisturbed

SAMPLES = 8
"""How often rounding is sampled before a grown model is refused; otherwise once."""


@dataclass(frozen=True)
class RunReport:
    """What running the model and the grown one showed.

    Args:
        inputs: what they were run on: name -> shape.
        dtype: of most weights.
        own: how far the model is from its class built anew from its config, RMS at the position
            where it is furthest; 0 where they agree bit for bit.
        output: the output that the next three are of: the one furthest off, or the logits.
        difference: how far the grown model's output is from what it must be: the RMS over the
            features of a position, at the median position.
        floor: how far rounding alone moves that output, RMS.
        scale: the RMS of that output.
        unseen: attributes of modules that are not what the config says, though it makes no
            difference on these inputs in eval mode. They are not kept.
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


@dataclass(frozen=True)
class Trial:
    """A model that computes what its config says.

    Args:
        inputs: what it was run on.
        same: its class built anew, on the same weights.
        before: the outputs of ``same``.
        own: how far the model itself was from them.
        unseen: attributes that are not what the config says (`RunReport.unseen`).
    """

    inputs: Mapping[str, Any]
    same: PreTrainedModel
    before: Outputs
    own: float
    unseen: tuple[str, ...]


def try_model(
    model: PreTrainedModel,
    same: PreTrainedModel,
    given: Mapping[str, Any] | None = None,
    allow_nonfinite: bool = False,
) -> Trial:
    """Run the caller's model, and refuse it if it does not compute what its config says.

    Args:
        model: left as it was: modes, hooks, buffers, attributes, and the random generators.
        same: its class built anew from its config, on the same weights.
        given: inputs, as ``model(**given)`` takes them; by default random ones.
        allow_nonfinite: accept outputs that are NaN or infinite throughout.

    Raises:
        UnsupportedModelError: a model that cannot be run, or that computes something else.
        CheckpointError: outputs that are NaN or infinite throughout.
    """
    with undisturbed(model), undisturbed(same):
        inputs, found = _first_run(model, given)
        before = _run_anew(same, inputs)
        if found.keys() != before.keys():
            raise UnsupportedModelError(
                f"this {_name(model)} returns {', '.join(found)}, and by its config {', '.join(before)}. {_UNDO}"
            )
        empty = [name for name, value in before.items() if not value.isfinite().any()]
        if empty and not allow_nonfinite:
            raise CheckpointError(
                f"the {empty[-1]} of this {_name(model)} are all NaN or infinite on {_shapes(inputs)} in "
                f"{dtype_name(model.dtype)}, so they show nothing. Give inputs on which they are not "
                "(verify_inputs=batch), or take a wider dtype (model.float())."
            )
        apart = {name: value for name, value in found.items() if not same_bits(value, before[name])}
        gap = {name: float(gaps(before[name], value).max()) for name, value in apart.items()}
        off = max(gap, key=lambda name: gap[name], default="")
        if off:
            _check_origins(model, same, inputs, off, gap[off])
        # Now that both have run, what a run changes (cached lengths, dynamic frequencies) is the same in both.
        return Trial(inputs, same, before, gap.get(off, 0.0), tuple(unseen(model, same)))


def _first_run(model: PreTrainedModel, given: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], Outputs]:
    """Inputs that the model takes, and its outputs.

    Raises:
        UnsupportedModelError: if there are none.
    """
    candidates = few_inputs(model) if given is None else iter([_moved(given, model)])
    for inputs in candidates:
        try:
            found = forward(model, inputs)
        except (*FOREIGN_ERRORS, GrowthError) as error:
            failed, why = inputs, error
        else:
            if found:
                return inputs, found
            failed, why = inputs, TypeError("it returned no floating-point tensor")
    batch = "verify_inputs must be what model(**verify_inputs) takes"
    step = "Give a batch that it takes (growth.widen(model, verify_inputs=batch))" if given is None else batch
    raise UnsupportedModelError(
        f"this {_name(model)} could not be run on {_shapes(failed)} ({type(why).__name__}: {str(why)[:200]}), so it "
        f"cannot be compared with the grown one. {step}; if a hook raised this, remove the hook; if the model runs "
        "under autocast only, widen it under autocast."
    ) from why


def _run_anew(same: PreTrainedModel, inputs: Mapping[str, Any]) -> Outputs:
    """The outputs of a class built anew.

    Raises:
        UnsupportedModelError: if it cannot be run where the model itself could.
    """
    try:
        return forward(same, inputs)
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"a new {_name(same)} built from the config cannot be run on {_shapes(inputs)}, though the model can "
            f"({type(error).__name__}: {str(error)[:200]}), so the wide one could not be either. If the weights are "
            "on several devices, move the model to one, or grow its checkpoint (growth.widen_checkpoint); else undo "
            "what was changed after it was built."
        ) from error


def _check_origins(
    model: PreTrainedModel, same: PreTrainedModel, inputs: Mapping[str, Any], off: str, gap: float
) -> None:
    """Refuse a model whose outputs differ from those of its class built anew, unless every module at
    which the difference arises is the same function rounded in another way.

    Args:
        off, gap: the output that is furthest off, and by how much.

    Raises:
        UnsupportedModelError: naming the first module that is another function.
    """
    foreign = [origin for origin in origins(model, same, inputs) if origin.foreign]
    if not foreign:
        return
    first = foreign[0]
    named = f"'{first.name.removeprefix(f'{MODULE}.')}'" if first.name else "the model itself"
    said = "; ".join((*first.replaced, *first.settings))
    raise UnsupportedModelError(
        f"this {_name(model)} does not compute what its config says: its {off} differ by {gap:.2g} from those of a "
        f"new {_name(model)} on the same config and weights. The first module to differ is {named}"
        f"{f' ({said})' if said else ''}. A wider model would follow the config. {_UNDO}"
    )


_UNDO = (
    "Undo what was changed after the model was built, or build it from a config that says so; a model of your own is "
    "declared with growth.register."
)


def prove_grown(trial: Trial, grown: PreTrainedModel, plan: Plan) -> RunReport:
    """Run the grown model on the inputs of a trial, and compare.

    Args:
        trial: of the small model.
        grown: the wide one; left as it was.
        plan: how it grew.

    Raises:
        UnsupportedModelError: a grown model that cannot be run.
        ProofError: outputs that differ beyond rounding, unless the plan is lossy.
    """
    inputs, maps = trial.inputs, {name: output_map(name, trial.before, plan) for name in trial.before}
    try:
        with undisturbed(grown):
            after = forward(grown, inputs)
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"the grown {_name(grown)} cannot be run on {_shapes(inputs)}, as the small one can "
            f"({type(error).__name__}: {str(error)[:200]}). If an input of verify_inputs has a size that grows, leave "
            "it out; else choose other sizes, or another attention or experts implementation."
        ) from error

    def mapped(name: str, value: Tensor) -> Tensor:
        return grown_output(value.double(), maps[name])

    expected = {name: mapped(name, value) for name, value in trial.before.items()}
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
        if beyond[shown] <= 1:
            break
    report = RunReport(
        {name: tuple(value.shape) for name, value in inputs.items() if isinstance(value, Tensor)},
        dtype_name(trial.same.dtype),
        trial.own,
        shown,
        gap[shown],
        floor[shown],
        float(expected[shown].square().mean().sqrt()),
        trial.unseen,
    )
    if not report.ok and not plan.lossy:
        raise ProofError(
            f"the grown {_name(grown)} does not compute what the small one does: its {shown} differ by "
            f"{report.difference:.3g} (of {report.scale:.3g}), and rounding in {report.dtype} explains "
            f"{ORDER * report.floor:.1g}, so nothing was kept. Please report this config and these options."
        )
    return report


def _unmapped(name: str, value: Tensor) -> Tensor:
    return value


def _moved(given: Mapping[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """The caller's batch on the model's device; the batch itself is not changed."""
    return {name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in given.items()}


def _shapes(inputs: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {list(value.shape)}" if isinstance(value, Tensor) else name for name, value in inputs.items()
    )


def _name(model: PreTrainedModel) -> str:
    return type(model).__name__
