"""The twin: a miniature of the user's own config, grown with the same choices and compared in exact arithmetic.

Same class, same installed transformers; all sizes small and distinct, so that no mistake cancels; loud random weights, so that none hides.
It takes about a second whatever the model's size, and stands before the first byte written.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from growth import architectures, config
from growth.architecture import Architecture
from growth.disk_names import from_disk, to_disk
from growth.equivalence.culprit import first_difference
from growth.equivalence.exact import exact_arithmetic
from growth.equivalence.outputs import forward, largest_difference, random_inputs
from growth.errors import FOREIGN_ERRORS, ProofError
from growth.options import Options
from growth.plan import TOLERANCE, Declared, Plan, build_plan, plan_config
from growth.sizes import Sizes, User, rotary_fraction, value_at
from growth.tensor import grow_tensor

VOCABULARY, POSITIONS, LAYERS = 41, 40, 2
SMALL = {
    **{"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "num_hidden_layers": LAYERS, "num_decoder_layers": LAYERS},
    **{"encoder_layers": LAYERS, "decoder_layers": LAYERS, "num_experts": 5, "num_local_experts": 5, "num_experts_per_tok": 3},
    **{"image_size": 6, "patch_size": 2, "encoder_stride": 2},
    **{"num_mel_bins": 7, "max_source_positions": 20, "max_target_positions": POSITIONS},
}
"""Counts that growth keeps and the twin can do with few of."""
LENGTHS = (11, 6)
WINDOW, SWITCH = 5, 8
"""A sliding window closes within either length; factors per frequency change over between the two."""


@dataclass(frozen=True)
class TwinReport:
    """What the twin showed.

    Args:
        difference: max |output of the grown twin - output of the twin|, in float64.
        scale: max |output of the twin|.
        sizes: of the twin, before growth.
        tolerance: `growth.plan.TOLERANCE`.
    """

    difference: float
    scale: float
    sizes: Mapping[str, int]
    tolerance: float = TOLERANCE

    @property
    def ok(self) -> bool:
        return self.difference <= self.tolerance


def prove_twin(plan: Plan, device: str | torch.device = "cpu") -> TwinReport:
    """Grow a miniature by the same choices and compare.

    Raises:
        ProofError: if the outputs differ by more than the tolerance, unless the plan is lossy by the caller's word.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            report = twin_report(plan.old_config, plan.options, device, plan.declared, (plan.old_sizes, plan.new_sizes))
    except FOREIGN_ERRORS as error:
        raise ProofError(
            f"the twin of this {plan.model_class.__name__} could not be run ({type(error).__name__}: {str(error)[:200]}), so nothing is "
            f"proved and nothing was written. {_next_step(plan, 'Please report this config.', ran=False)}"
        ) from error
    if not report.ok and not plan.lossy:
        raise ProofError(
            f"the twin of this {plan.model_class.__name__} differs by {report.difference:.3g} after growth (outputs up to "
            f"{report.scale:.3g}, tolerance {TOLERANCE:g}), so nothing was written. "
            + _next_step(
                plan, "Please report this config and these options; --attention heads --scaling unit is the plainest choice.", ran=True
            )
        )
    return report


def _next_step(plan: Plan, stock: str, *, ran: bool) -> str:
    """What to do about a twin that failed: ``stock``, unless the declaration is the caller's own."""
    if plan.architecture.module_class is None:
        return stock
    if not ran:
        return "Check that it can be built from its config alone, whatever the sizes."
    with exact_arithmetic(), torch.random.fork_rng(devices=[]):
        twin, grown, small = _pair(plan.old_config, plan.options, plan.declared, (plan.old_sizes, plan.new_sizes))
        wrong = first_difference(twin, grown, random_inputs(twin, VOCABULARY), small)
    where = f": the first output that is off is that of '{wrong}', by its own rule or by what it reads" if wrong else ""
    return f"Correct the declaration{where}."


def twin_report(
    raw: Mapping[str, Any],
    options: Options,
    device: str | torch.device = "cpu",
    declared: Declared | None = None,
    like: tuple[Sizes, Sizes] | None = None,
) -> TwinReport:
    """The comparison itself, without a verdict; by the declaration of the config's model_type, unless one is given. ``like``: the sizes the
    real model grows from and to, whose shape the miniature takes; by default those that the options make of the config."""
    declared = declared or Declared(architectures.find(str(raw["model_type"])))
    if like is None:
        real = plan_config(raw, options, declared)
        like = real.old_sizes, real.new_sizes
    with exact_arithmetic():
        twin, grown, plan = _pair(raw, options, declared, like)
        differences, scale = [], 0.0
        for length in LENGTHS:
            inputs = {name: value.to(device) for name, value in random_inputs(twin, VOCABULARY, length=length).items()}
            before, after = (forward(model.to(device), inputs) for model in (twin, grown))  # type: ignore[arg-type]
            differences.append(largest_difference(before, after, plan))
            scale = max(scale, *(float(value.abs().max()) for value in before.values()))
        difference = max(differences, key=lambda value: (math.isnan(value), value))
    return TwinReport(math.inf if math.isnan(difference) else difference, scale, dict(plan.old_sizes))


def _pair(
    raw: Mapping[str, Any], options: Options, declared: Declared, like: tuple[Sizes, Sizes]
) -> tuple[PreTrainedModel, PreTrainedModel, Plan]:
    """The twin, the grown twin, and how one came out of the other. Call it under `exact_arithmetic`."""
    small = miniature(raw, declared.base.at(config.parse(raw)))
    twin = build_exact(small)
    loud(twin, seed=options.seed)
    weights = {name: value.detach() for name, value in to_disk(twin, twin.state_dict()).items()}
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    plan = build_plan(small, shapes, options, declared, like)
    grown = build_exact(plan.new_config)
    state = {name: grow_tensor(weights[name], tensor, seed=options.seed) for name, tensor in plan.tensors.items()}
    grown.load_state_dict(from_disk(grown, state), strict=False)
    return twin, grown, plan


def build_exact(raw: Mapping[str, Any]) -> PreTrainedModel:
    """The stock class on this config in float64, attention and experts computed eagerly, dropout off. Call it under `exact_arithmetic`."""
    parsed, kind = config.parse(raw), config.model_class(raw)
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}  # fused experts have no float64
    model: PreTrainedModel = kind._from_config(parsed, **eager, dtype=torch.float64)
    model.to(dtype=torch.float64)  # type: ignore[call-arg]
    model.eval()
    return model


def loud(model: PreTrainedModel, seed: int = 0) -> None:
    """Random weights that make every parameter count: matrices of gain one, biases and gains far from their defaults, and what else a
    checkpoint holds no longer zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim <= 1:
                parameter.copy_(0.7 + 0.5 * noise)
            else:
                parameter.copy_(noise * min(parameter.shape) ** -0.5)
        kept = model.state_dict().keys()
        for name, buffer in model.named_buffers():
            if name in kept and buffer.is_floating_point() and not buffer.any():
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator, dtype=torch.float64))


def miniature(raw: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    """The user's config with small distinct sizes and everything else as it is."""
    raw = config.merged(raw)
    parsed = config.parse(raw)
    old = architecture.read_sizes(parsed)
    result = copy.deepcopy(dict(raw))
    ropes = {key: rope for key in ("rope_parameters", "rope_scaling") if isinstance(rope := result.get(key), dict)}
    result |= {key: _plain_rope(rope) for key, rope in ropes.items()}
    fields = architecture.fields().items()
    spelled = frozenset(name for name, field in fields if config.spelled(raw, field) and value_at(parsed, field) is not None)
    small: dict[str, int] = {}
    for name, size in architecture.sizes.items():
        if size.field and (name in spelled or value_at(parsed, size.field)):
            small[name] = size.small if isinstance(size.small, int) else size.small(User(parsed, old, spelled, small))
            if name in spelled or size.follows is None:
                _write(result, raw, parsed, size.field, small[name])
    for name in small.keys() - spelled:
        size = architecture.sizes[name]
        if size.follows is not None and value_at(config.parse(result), size.field) != size.follows(parsed, small):
            _write(result, raw, parsed, size.field, small[name])  # a default of the class, not implied by the other sizes
    for section in ["", *(f"{part}." for part in parsed.sub_configs if value_at(parsed, part) is not None)]:
        _shrink(result, raw, parsed, section)
    for name, value in {**architecture.twin(parsed, LAYERS), **architecture.arithmetic}.items():
        _write(result, raw, parsed, name, value)
    head_dim = architecture.read_sizes(config.parse(result)).get("head_dim", 2)
    return result | {key: _small_rope(rope, head_dim, rotary_fraction(parsed) or 1.0) for key, rope in ropes.items()}


def _write(result: dict[str, Any], raw: Mapping[str, Any], parsed: Any, path: str, value: Any) -> None:
    """Set a field under every name it has in the raw config, if the class knows it or the file spells it out."""
    section, _, name = path.rpartition(".")
    owner = value_at(parsed, section) if section else parsed
    name = type(owner).attribute_map.get(name, name)
    path = f"{section}.{name}" if section else name
    target = config.section(result, path)
    if name in owner.to_dict() or name in target:
        target.update(dict.fromkeys(config.spellings(raw, path), value))


def _shrink(result: dict[str, Any], raw: Mapping[str, Any], parsed: Any, section: str) -> None:
    """Everything that is not a size of the architecture but makes a model large, in one section of the config."""
    known = (value_at(parsed, section[:-1]) if section else parsed).to_dict()
    for name, value in SMALL.items():
        if known.get(type(parsed).attribute_map.get(name, name)) is not None:
            _write(result, raw, parsed, section + name, value)
    for name, value in known.items():
        if name.endswith("_token_id"):  # small, since some families count positions from the padding id on
            ids = [min(entry, 3) for entry in value] if isinstance(value, list) else min(value, 3) if value is not None else None
            _write(result, raw, parsed, section + name, 0 if name == "pad_token_id" and ids is None else ids)
    if isinstance(window := known.get("sliding_window"), int):
        _write(result, raw, parsed, section + "sliding_window", min(window, WINDOW))
    for name in ("layer_types", "mlp_layer_types"):
        if isinstance(kinds := known.get(name), list):
            _write(result, raw, parsed, section + name, (list(dict.fromkeys(kinds)) * LAYERS)[:LAYERS])


def _plain_rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Without factors per frequency, whose number fits the user's head_dim alone."""
    if not any(isinstance(value, list) for value in rope.values()):
        return dict(rope)
    return {"rope_type": "default", **{name: rope[name] for name in ("rope_theta", "partial_rotary_factor") if name in rope}}


def _small_rope(rope: Mapping[str, Any], head_dim: int, turning: float = 1.0) -> dict[str, Any]:
    """With as many factors as a ``turning`` part of a small head has pairs, unless ``rope`` says which part."""
    if rope and all(isinstance(value, Mapping) for value in rope.values()):
        return {kind: _small_rope(value, head_dim) for kind, value in rope.items()}
    pairs = int(head_dim * float(rope.get("partial_rotary_factor") or turning)) // 2
    small = {name: (value * head_dim)[:pairs] if isinstance(value, list) else value for name, value in rope.items()}
    if any(isinstance(value, list) for value in rope.values()) and "original_max_position_embeddings" in rope:
        small["original_max_position_embeddings"] = SWITCH
    return small
