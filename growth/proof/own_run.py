"""The model in memory, run beside its class built anew: a model that computes something else than
its config says is refused by name (`growth.proof.run` has the whole comparison)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from growth.errors import FOREIGN_ERRORS, CheckpointError, GrowthError, UnsupportedModelError
from growth.hf.custom_modules import MODULE
from growth.hf.dtensors import is_sharded
from growth.hf.dtypes import dtype_name
from growth.hf.own_inputs import moved
from growth.proof.foreign import edited, origins, torch_settings, unseen
from growth.proof.inputs import few_inputs
from growth.proof.outputs import LOSS, Outputs, forward
from growth.proof.rounding import ORDER, gaps, rounding_floor, same_values
from growth.proof.settings import HARMLESS, not_kept
from growth.proof.undisturbed import undisturbed, weights_kept


@dataclass(frozen=True)
class Trial:
    """A model that computes what its config says.

    Args:
        inputs: what it was run on.
        same: its class built anew, on the same weights.
        before: the outputs of ``same``, without the loss: what the grown model's are compared with.
        own: how far the model itself was from them.
        unseen: what is harmless and not what the config says (`RunReport.unseen`).
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
    any_rank: Callable[[str], str] = str,
) -> Trial:
    """Run the caller's model, and refuse it if it does not compute what its config says.

    Args:
        model: left as it was: weights, modes, hooks, buffers, attributes, and the random
            generators.
        same: its class built anew from its config, on the same weights.
        given: inputs, as ``model(**given)`` takes them; by default random ones.
        allow_nonfinite: accept outputs that are NaN or infinite throughout.
        any_rank: what failed, on any of the processes that run the model together, given what did on this one
            (`growth.training.unsharded.Unsharded.any_rank`); so they make the same runs.

    Raises:
        UnsupportedModelError: a model that cannot be run, or that computes something else.
        CheckpointError: outputs that are NaN or infinite throughout.
    """
    # These are read before the run, since it may change weights by them (nn.Embedding.max_norm).
    _check_settings(model, torch_settings(model, same))
    with undisturbed(model), undisturbed(same), weights_kept(model, copies=edited(model, same)):
        inputs, found = _first_run(model, given, any_rank)
        before = _run_anew(same, inputs)
        if found.keys() != before.keys():
            raise UnsupportedModelError(
                f"this {class_name(model)} returns {', '.join(found)}, and by its config {', '.join(before)}. {_UNDO}"
            )
        empty = [name for name, value in before.items() if name != LOSS and not value.isfinite().any()]
        if empty and not allow_nonfinite:
            raise CheckpointError(
                f"the {empty[-1]} of this {class_name(model)} are all NaN or infinite on {shapes(inputs)} in "
                f"{dtype_name(model.dtype)}, so they show nothing. Give inputs on which they are not "
                "(verify_inputs=batch), or take a wider dtype (model.float())."
            )
        own = _check_outputs(model, same, inputs, found, before, any_rank)
        # Without a mask, attention takes another path: a module's own is_causal is read there alone.
        unmasked = {name: value for name, value in inputs.items() if "attention_mask" not in name}
        if len(unmasked) < len(inputs):
            found, error = _tried(model, unmasked)
            if not any_rank(_said(error)):  # a module may not do without
                before_it = _run_anew(same, unmasked)
                own = max(own, _check_outputs(model, same, unmasked, found, before_it, any_rank))
        # Now that both have run, what a run changes (cached lengths, dynamic frequencies) is the same in both.
        settings = unseen(model, same)
    _check_settings(model, settings)
    # Equal logits have an equal loss; its mean over tokens hides how far each may be off by rounding.
    outputs = {name: value for name, value in before.items() if name != LOSS}
    return Trial(inputs, same, outputs, own, (*settings, *not_kept(model, same)))


def _check_settings(model: PreTrainedModel, settings: Sequence[str]) -> None:
    """Refuse attributes that are not what the config says, whether these inputs show it or not,
    unless they are harmless.

    Raises:
        UnsupportedModelError: naming the first.
    """
    settings = [said for said in settings if not HARMLESS.match(said)]
    if settings:
        more = f" (and {len(settings) - 1} more)" if len(settings) > 1 else ""
        raise UnsupportedModelError(
            f"this {class_name(model)} is not what its config says: {settings[0].removeprefix(f'{MODULE}.')}{more}. "
            f"A wider model would follow the config. {_UNDO}"
        )


def _tried(model: PreTrainedModel, inputs: Mapping[str, Any]) -> tuple[Outputs, BaseException | None]:
    """The outputs of a model; none, and why."""
    try:
        found = forward(model, inputs, loss=True)
    except (*FOREIGN_ERRORS, GrowthError) as error:
        return {}, error
    return found, None if found else TypeError("it returned no floating-point tensor")


def _said(error: BaseException | None) -> str:
    return "" if error is None else f"{type(error).__name__}: {str(error)[:200]}"


def _first_run(
    model: PreTrainedModel, given: Mapping[str, Any] | None, any_rank: Callable[[str], str]
) -> tuple[Mapping[str, Any], Outputs]:
    """Inputs that the model takes, and its outputs.

    Raises:
        UnsupportedModelError: if there are none.
    """
    candidates = few_inputs(model) if given is None else iter([_moved(given, model)])
    for inputs in candidates:
        found, why = _tried(model, inputs)
        if not (said := any_rank(_said(why))):
            return inputs, found
        failed = inputs
    batch = "verify_inputs must be what model(**verify_inputs) takes"
    step = "Give a batch that it takes (growth.widen(model, verify_inputs=batch))" if given is None else batch
    raise UnsupportedModelError(
        f"this {class_name(model)} could not be run on {shapes(failed)} ({said}), so "
        f"it cannot be compared with the grown one. {step}; if a hook raised this, remove the hook; if the model runs "
        "under autocast only, widen it under autocast."
    ) from why


def _run_anew(same: PreTrainedModel, inputs: Mapping[str, Any]) -> Outputs:
    """The outputs of a class built anew.

    Raises:
        UnsupportedModelError: if it cannot be run where the model itself could.
    """
    try:
        return forward(same, inputs, loss=True)
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"a new {class_name(same)} built from the config cannot be run on {shapes(inputs)}, though the model can "
            f"({type(error).__name__}: {str(error)[:200]}), so the wide one could not be either. If the weights are "
            "on several devices, move the model to one, or grow its checkpoint (growth.widen_checkpoint); else undo "
            "what was changed after it was built."
        ) from error


def _check_outputs(
    model: PreTrainedModel,
    same: PreTrainedModel,
    inputs: Mapping[str, Any],
    found: Outputs,
    before: Outputs,
    any_rank: Callable[[str], str],
) -> float:
    """How far the outputs of a model are from those of its class built anew; 0 where they agree bit
    for bit.

    Raises:
        UnsupportedModelError: if it is another function (`_check_origins`).
    """
    gap = {
        name: float(gaps(before[name], value).max())
        for name, value in found.items()
        if not same_values(value, before[name])
    }
    off = max(gap, key=lambda name: gap[name], default="")
    if any_rank(off and f"its {off} differ"):  # on another rank alone: all make the same runs
        name, apart = off or next(iter(before)), gap.get(off, 0.0)
        if is_sharded(same):
            _check_rounding(same, inputs, name, apart, before[name])
        else:
            _check_origins(model, same, inputs, name, apart)
    return gap.get(off, 0.0)


def _check_rounding(same: PreTrainedModel, inputs: Mapping[str, Any], off: str, gap: float, expected: Tensor) -> None:
    """As `_check_origins`, of a sharded model, whose modules cannot be run one by one: refuse it where
    rounding does not explain the difference of its outputs."""
    if gap > ORDER * rounding_floor(same, inputs, {off: expected}, 1)[off]:
        raise UnsupportedModelError(
            f"this {class_name(same)} does not compute what its config says: its {off} differ by {gap:.2g} from those "
            f"of a new {class_name(same)} on the same config and weights. A wider model would follow the config. "
            f"{_UNDO}"
        )


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
        f"this {class_name(model)} does not compute what its config says: its {off} differ by {gap:.2g} from those of "
        f"a new {class_name(model)} on the same config and weights. The first module to differ is {named}"
        f"{f' ({said})' if said else ''}. A wider model would follow the config. {_UNDO}"
    )


_UNDO = (
    "Undo what was changed after the model was built, or build it from a config that says so; a model of your own is "
    "declared with growth.register."
)


def _moved(given: Mapping[str, Any], model: PreTrainedModel) -> dict[str, Any]:
    """The caller's batch on the model's device; the batch itself is not changed."""
    moved_there: dict[str, Any] = moved(given, model.device)
    return moved_there


def shapes(inputs: Mapping[str, Any]) -> str:
    """Inputs and their shapes, for a message."""
    return ", ".join(
        f"{name} {list(value.shape)}" if isinstance(value, Tensor) else name for name, value in inputs.items()
    )


def class_name(model: PreTrainedModel) -> str:
    """The name of a model's class, for a message."""
    return type(model).__name__
