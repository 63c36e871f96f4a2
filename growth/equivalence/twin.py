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
from growth.equivalence.exact import exact_arithmetic
from growth.equivalence.outputs import forward, largest_difference, random_inputs
from growth.errors import FOREIGN_ERRORS, ProofError
from growth.options import Options
from growth.plan import TOLERANCE, Plan, build_plan
from growth.tensor import grow_tensor

VOCABULARY, POSITIONS, LAYERS = 41, 40, 2
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
            report = twin_report(plan.old_config, plan.options, device)
    except FOREIGN_ERRORS as error:
        raise ProofError(
            f"the twin of this {plan.model_class.__name__} could not be run ({type(error).__name__}: {str(error)[:200]}), so nothing is "
            "proved and nothing was written. Please report this config."
        ) from error
    if not report.ok and not plan.lossy:
        raise ProofError(
            f"the twin of this {plan.model_class.__name__} differs by {report.difference:.3g} after growth (outputs up to "
            f"{report.scale:.3g}, tolerance {TOLERANCE:g}), so nothing was written. Please report this config and these options; "
            "--attention heads --scaling unit is the plainest choice."
        )
    return report


def twin_report(raw: Mapping[str, Any], options: Options, device: str | torch.device = "cpu") -> TwinReport:
    """The comparison itself, without a verdict."""
    small = miniature(raw, architectures.find(str(raw["model_type"])))
    with exact_arithmetic():
        twin = build_exact(small)
        loud(twin, seed=options.seed)
        weights = {name: value.detach() for name, value in twin.state_dict().items()}
        plan = build_plan(small, {name: tuple(value.shape) for name, value in weights.items()}, options)
        grown = build_exact(plan.new_config)
        state = {name: grow_tensor(weights[name], tensor, seed=options.seed) for name, tensor in plan.tensors.items()}
        grown.load_state_dict(state, strict=False)
        differences, scale = [], 0.0
        for length in LENGTHS:
            inputs = {name: value.to(device) for name, value in random_inputs(twin, VOCABULARY, length=length).items()}
            before, after = (forward(model.to(device), inputs) for model in (twin, grown))  # type: ignore[arg-type]
            differences.append(largest_difference(before, after, plan))
            scale = max(scale, *(float(value.abs().max()) for value in before.values()))
        difference = max(differences, key=lambda value: (math.isnan(value), value))
    return TwinReport(math.inf if math.isnan(difference) else difference, scale, dict(plan.old_sizes))


def build_exact(raw: Mapping[str, Any]) -> PreTrainedModel:
    """The stock class on this config in float64, attention computed eagerly, dropout off. Call it under `exact_arithmetic`."""
    parsed = config.parse(raw)
    model: PreTrainedModel = config.model_class(raw)._from_config(parsed, attn_implementation="eager", dtype=torch.float64)
    model.to(dtype=torch.float64)  # type: ignore[call-arg]
    model.eval()
    return model


def loud(model: PreTrainedModel, seed: int = 0) -> None:
    """Random weights that make every parameter count: matrices of gain one, biases and gains far from their defaults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.ndim == 1:
                parameter.copy_(0.7 + 0.5 * noise)
            else:
                parameter.copy_(noise * min(parameter.shape) ** -0.5)


def miniature(raw: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    """The user's config with small distinct sizes and everything else as it is."""
    parsed = config.parse(raw)
    old = architecture.sizes(parsed)
    grouped, multi_query = old["queries_per_kv"] > 1, old["num_key_value_heads"] == 1 < old["num_attention_heads"]
    kv_heads = 1 if multi_query else (2 if grouped else 3)
    heads = kv_heads * (5 if multi_query else 3 if grouped else 1)
    implied = not getattr(parsed, architecture.field("head_dim"), None) or raw.get(architecture.field("head_dim")) is None
    head_dim = 6 if architecture.rotary or implied else 4
    hidden = heads * (head_dim if implied else 8)
    result = copy.deepcopy(dict(raw))
    known = parsed.to_dict()

    def write(name: str, value: Any) -> None:
        name = type(parsed).attribute_map.get(name, name)
        if name in known or name in raw:
            result.update(dict.fromkeys(config.spellings(raw, name), value))

    write(architecture.field("hidden_size"), hidden)
    write(architecture.field("num_attention_heads"), heads)
    write(architecture.field("num_key_value_heads"), kv_heads)
    if not implied:
        write(architecture.field("head_dim"), head_dim)
    if getattr(parsed, architecture.field("intermediate_size"), None):
        write(architecture.field("intermediate_size"), 29)
    counts = {"vocab_size": VOCABULARY, "max_position_embeddings": POSITIONS, "num_hidden_layers": LAYERS, "num_decoder_layers": LAYERS}
    for name, value in {**counts, **architecture.arithmetic}.items():
        write(name, value)
    for name, value in known.items():
        if name.endswith("_token_id"):  # small, since some families count positions from the padding id on
            small = [min(entry, 3) for entry in value] if isinstance(value, list) else min(value, 3) if value is not None else None
            write(name, 0 if name == "pad_token_id" and small is None else small)
    if isinstance(window := known.get("sliding_window"), int):
        write("sliding_window", min(window, WINDOW))
    if isinstance(kinds := known.get("layer_types"), list):
        result["layer_types"] = (list(dict.fromkeys(kinds)) * LAYERS)[:LAYERS]
    for key in ("rope_parameters", "rope_scaling"):
        if isinstance(rope := result.get(key), dict):
            result[key] = {name: (value * head_dim)[: head_dim // 2] if isinstance(value, list) else value for name, value in rope.items()}
            if any(isinstance(value, list) for value in rope.values()) and "original_max_position_embeddings" in rope:
                result[key]["original_max_position_embeddings"] = SWITCH
    return result
