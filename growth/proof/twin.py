"""The twin: a miniature of the user's config, grown with the same choices and compared in float64.

The twin has the model's class, from the same installed transformers. Its sizes are small and
distinct, so that mistakes in two dimensions cannot cancel, and its random weights are far from
their values at initialisation, so that a wrong coefficient shows
(`growth.proof.miniature`). It takes about a second, whatever the size of the real model, and runs
before anything is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth import architectures
from growth.architectures.sizes import Sizes
from growth.errors import FOREIGN_ERRORS, GrowthError, IllegalGrowthError, ProofError
from growth.extension.alike import first_that_fits, queries_to_part, shared_out
from growth.extension.extension import Extension
from growth.extension.request import Request
from growth.hf.configs import Config
from growth.hf.model_classes import class_of
from growth.hf.own_inputs import moved
from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.build import build_plan, plan_config
from growth.plan.declared import Declared
from growth.plan.options import Options
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.locate import first_difference
from growth.proof.miniature import VOCABULARY, Parts, build_exact, loud, miniature
from growth.proof.numbered_layers import check_widening, computes_with_numbers
from growth.proof.outputs import differ, forward, largest_difference
from growth.proof.tied_names import names_apart
from growth.weights.grow import grow_tensor

LENGTHS = (11, 6)
"""Tokens per row of the inputs that are compared. One longer and one shorter than
`growth.proof.small_ropes.SWITCH`."""


@dataclass(frozen=True)
class TwinReport:
    """The result of the comparison.

    Args:
        difference: the largest |output of the grown twin - output of the twin|, in float64;
            infinity if a number is NaN.
        scale: the largest |output of the twin|.
        sizes: size name -> value in the twin, before growth.
        tolerance: the largest difference that passes, `growth.plan.plan.TOLERANCE`.
    """

    difference: float
    scale: float
    sizes: Mapping[str, int]
    tolerance: float = TOLERANCE

    @property
    def ok(self) -> bool:
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        if self.ok:
            return f"max |difference| {self.difference:.1e} in exact arithmetic, tolerance {self.tolerance:g}"
        return (
            f"LOSSY, as you asked: outputs of the miniature move by up to {self.difference:.3g} (they go up to "
            f"{self.scale:.3g}). What that does to the loss, measure on text of yours: grow verify SRC DST --text FILE"
        )


def prove_twin(plan: Plan, device: str | torch.device = "cpu") -> TwinReport:
    """Grow a miniature as a plan grows the real model, and compare.

    Args:
        plan: of the real model.
        device: where the twin runs.

    Raises:
        ProofError: if the twin cannot be run, or its outputs differ by more than the tolerance and
            the caller did not accept a lossy growth.

    Example:
        >>> prove_twin(growth.plan_widening(LlamaConfig(), width=2)).difference <= 1e-10
        True
    """
    try:
        with torch.random.fork_rng(devices=[]):
            report = twin_report(plan.old, plan.options, device, plan.declared, sizes_of(plan), plan.extension)
    except FOREIGN_ERRORS as error:
        raise ProofError(
            f"the twin of this {plan.model_class.__name__} could not be run ({type(error).__name__}: "
            f"{str(error)[:200]}), so nothing is proved and nothing was written. {_why_not_run(plan, device)}"
        ) from error
    except IllegalGrowthError as error:  # said of sizes that are the miniature's
        raise ProofError(
            f"no miniature of this {plan.model_class.__name__} grows as the model does "
            f"({str(error).partition('. ')[0]}), so nothing is proved and nothing was written. Please report this "
            "config and these options."
        ) from error
    if not report.ok and not plan.lossy:
        _check_numbers(plan)
        raise ProofError(
            f"the twin of this {plan.model_class.__name__} differs by {report.difference:.3g} after growth (outputs "
            f"up to {report.scale:.3g}, tolerance {TOLERANCE:g}), so nothing was written. {_where_it_goes_wrong(plan)}"
        )
    if plan.extension is not None and not plan.extension.silent:
        _check_widening(plan)
    return report


def _check_widening(plan: Plan) -> None:
    """Of copied layers nothing can be proved; that what they make is widened exactly, can."""
    with exact_arithmetic(), torch.random.fork_rng(devices=[]):
        twin, grown, small = _pair(plan.old, plan.options, plan.declared, sizes_of(plan), plan.extension)
        deep = _with_weights(small.extended, small.reading(_weights(twin).__getitem__), small)
        check_widening(deep, grown, small, sizes_of(plan), random_inputs(twin, VOCABULARY))


def _why_not_run(plan: Plan, device: str | torch.device) -> str:
    """What to do where the twin of a plan could not be run. It is our mistake only if the model's
    class runs with this config, on the CPU, before it grows."""
    if plan.architecture.module_class is not None:
        return (
            "Check that the module can be built from its config alone, at any sizes, and that no dimension of its "
            "inputs is a size that grows."
        )
    try:
        with exact_arithmetic(), torch.random.fork_rng(devices=[]):
            twin = build_exact(miniature(plan.old, plan.declared.base.at(plan.old.parsed)))
            forward(twin, random_inputs(twin, VOCABULARY))
    except (GrowthError, *FOREIGN_ERRORS):
        return (
            "It fails before it grows: check that transformers can run the model with this config.json. If it can, "
            "please report the config."
        )
    if torch.device(device).type != "cpu":
        return f"Use the device cpu instead of {device}."
    return "Please report this config and these options."


def _check_numbers(plan: Plan) -> None:
    """Refuse a model whose miniature computes no numbers even before it grows, by saying that.

    Raises:
        ProofError: naming what is wrong.
    """
    with exact_arithmetic(), torch.random.fork_rng(devices=[]):
        twin = build_exact(miniature(plan.old, plan.declared.base.at(plan.old.parsed)))
        loud(twin, seed=plan.options.seed)
        outputs = forward(twin, random_inputs(twin, VOCABULARY))
    if not all(bool(value.isfinite().all()) for value in outputs.values()):
        raise ProofError(
            f"a miniature of this {plan.model_class.__name__} computes infinity or NaN before it grows, so nothing "
            "can be proved and nothing was written. Check the numbers in config.json (epsilon, rope_theta, factors)."
        )


def _where_it_goes_wrong(plan: Plan) -> str:
    """Which module of a twin that differs is the first to be wrong, and what to do."""
    with exact_arithmetic(), torch.random.fork_rng(devices=[]):
        twin, grown, small = _pair(plan.old, plan.options, plan.declared, sizes_of(plan), plan.extension)
        inputs = random_inputs(twin, VOCABULARY)
        if small.extension is not None:
            if small.extension.stacks and computes_with_numbers(twin, inputs):
                return (
                    "The layers of this class compute with their own number, so that one that moves up computes "
                    "something else. Say --insert end (in Python insert='end'), which leaves every layer its number."
                )
            before = forward(twin, inputs)
            twin = _with_weights(small.extended, small.reading(_weights(twin).__getitem__), small)
            if small.extension.stacks and small.extension.silent and differ(before, forward(twin, inputs), small):
                return (
                    "A layer of this class changes what it receives even if nothing in it writes to the residual "
                    "stream (in post-norm models a norm stands on the stream itself), so that no new layer is exact. "
                    "Keep the number of layers, and grow in width."
                )
        wrong = first_difference(twin, grown, inputs, small)
    where = "."
    if wrong is not None:
        laws = "check its rule and the laws of what it reads and writes"
        where = f": the first module whose output is wrong is '{wrong}'; {laws}."
    if plan.architecture.module_class is not None:
        return f"Correct the declaration{where}"
    return f"If you wrote the declaration, correct it{where} Else please report this config and these options."


def twin_report(
    raw: Mapping[str, Any],
    options: Options,
    device: str | torch.device = "cpu",
    declared: Declared | None = None,
    in_ratio_of: tuple[Sizes, Sizes] | None = None,
    extension: Extension | None = None,
) -> TwinReport:
    """Grow a miniature and compare, without a verdict.

    Args:
        raw: the real model's config.
        options: how it grows.
        device: where the twin runs.
        declared: the declaration; by default that of the config's ``model_type``.
        in_ratio_of: the sizes the real model grows from and to. The miniature grows in the same
            ratios; by default those that the options make of the config.
        extension: what the real model has more of, then.
    """
    config = Config.of(raw)
    declared = declared or Declared(architectures.find(str(config["model_type"])))
    if in_ratio_of is None:
        real = plan_config(config, options, declared)
        in_ratio_of, extension = sizes_of(real), real.extension
    with exact_arithmetic():
        twin, grown, plan = _pair(config, options, declared, in_ratio_of, extension)
        differences, scale = [names_apart(grown, plan.reading(_weights(twin).__getitem__), plan)], 0.0
        for length in LENGTHS:
            inputs = moved(random_inputs(twin, VOCABULARY, length=length), device)
            before, after = (forward(model.to(device), inputs) for model in (twin, grown))  # type: ignore[arg-type]
            differences.append(largest_difference(before, after, plan))
            scale = max(scale, *(float(value.abs().max()) for value in before.values()))
        difference = max(differences, key=lambda value: (math.isnan(value), value))
    return TwinReport(math.inf if math.isnan(difference) else difference, scale, dict(plan.old_sizes))


def sizes_of(plan: Plan) -> tuple[Sizes, Sizes]:
    """The sizes that a plan widens from and to."""
    old = plan.extended_sizes
    return old, {name: plan.new_sizes[name] for name in old}


def _pair(
    config: Config,
    options: Options,
    declared: Declared,
    in_ratio_of: tuple[Sizes, Sizes],
    extension: Extension | None = None,
) -> tuple[PreTrainedModel, PreTrainedModel, Plan]:
    """The twin, the grown twin, and the plan from one to the other. Call it under
    `exact_arithmetic`."""
    parts = Parts(queries_to_part(extension, in_ratio_of[0]), shared_out(extension))
    small = miniature(config, declared.base.at(config.parsed), parts)
    twin = build_exact(small)
    loud(twin, seed=options.seed)
    weights = _weights(twin)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}

    def planned(request: Request) -> Plan:
        return build_plan(small, shapes, options, declared, in_ratio_of=in_ratio_of, extends=request)

    plan = first_that_fits(extension, small, declared.base.at(small.parsed), class_of(small), planned)
    read = plan.reading(weights.__getitem__)

    def grow(name: str) -> Tensor:
        return grow_tensor(read(name), plan.tensors[name], seed=options.seed)

    return twin, _with_weights(plan.new, grow, plan), plan


def _weights(twin: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in to_disk(twin, twin.state_dict()).items()}


def _with_weights(config: Config, read: Callable[[str], Tensor], plan: Plan) -> PreTrainedModel:
    """A miniature with the weights that a plan has tensors for."""
    model = build_exact(config)
    model.load_state_dict(from_disk(model, {name: read(name) for name in plan.tensors}), strict=False)
    return model
