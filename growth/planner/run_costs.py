"""What a token of training costs, from a config: the FLOPs of its matrix products, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from growth.errors import FOREIGN_ERRORS, UnsupportedModelError
from growth.hf.configs import Config, config_to_build
from growth.hf.expected_tensors import without_weights
from growth.hf.model_classes import class_of
from growth.plan.choices import Like
from growth.plan.other_model import config_from

CONTEXT = 2048
"""Tokens of a sequence where nobody says, unless the model takes fewer."""
_WIDTH = ("hidden_size", "intermediate_size", "num_attention_heads", "head_dim", "moe_intermediate_size")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_CHOSEN = ("num_experts_per_tok", "moe_topk", "moe_k")


@dataclass(frozen=True)
class ModelCost:
    """What a token costs in training.

    Args:
        flops: of each token: 6 for each weight of a matrix product that a token meets, and the attention.
        weights: of these matrix products; of experts, those that a token takes.
        context: tokens of a sequence.
        sizes: size -> value, of what a growth changes: width, depth and experts.
    """

    flops: float
    weights: float
    context: int
    sizes: Mapping[str, int] = field(default_factory=dict)


def cost_of(model: Like, context: int | None = None) -> ModelCost:
    """The FLOPs of a token in training: ``6 * weights + 12 * layers * context * heads * head_dim``.

    Weights are those of all matrix products, the head included, even where it is tied; the input embedding is a
    look-up. Of experts those count that a token takes. The second term is attention, without the half that a causal
    kernel may save (Chowdhery et al. 2022, "PaLM", arXiv:2204.02311, appendix B). No weight is read or made: the model
    is built on the meta device.

    Args:
        model: a folder, a hub id, a ``config.json`` or a config of a decoder.
        context: tokens of a sequence in training; by default 2048, or what the model takes if that is less.

    Raises:
        GrowthError: for a config that cannot be read or built, and for one of an encoder with a decoder, whose two
            stacks see different numbers of tokens.

    Example:
        >>> cost_of("HuggingFaceTB/SmolLM2-135M", context=2048).flops
        1.23e9
    """
    config = Config(config_from(model))
    parsed = config.parsed
    name = f"'{model}'" if isinstance(model, str) else f"the {parsed.model_type} config"
    if parsed.is_encoder_decoder:
        raise UnsupportedModelError(
            f"{name} has an encoder and a decoder, which see different numbers of tokens, so that its cost per token "
            "is not known. Give the ratio of the two costs: --cost-ratio (cost_ratio=)."
        )
    text = parsed.get_text_config()
    try:
        built = without_weights(config_to_build(config), class_of(config))
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"{name} cannot be built to count its weights ({type(error).__name__}: {str(error)[:200].rstrip('.')}). "
            "Give the ratio of the two costs: --cost-ratio (cost_ratio=)."
        ) from error
    most = getattr(text, "max_position_embeddings", None)
    length = context or min(CONTEXT, most if isinstance(most, int) and most > 0 else CONTEXT)
    weights = _active_weights(built, text)
    return ModelCost(6 * weights + 12 * length * _attended(text), weights, length, _sizes(text))


def _first(text: Any, names: tuple[str, ...]) -> int | None:
    """The first of some config fields that is a whole number above 0."""
    values = (getattr(text, name, None) for name in names)
    return next((value for value in values if type(value) is int and value > 0), None)


def _active_weights(model: PreTrainedModel, text: Any) -> float:
    """The weights of the matrix products that a token meets."""
    experts, chosen = _first(text, _EXPERTS), _first(text, _CHOSEN)
    share = chosen / experts if experts and chosen else 1.0
    total = 0.0
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding):
            continue
        for weight in module.parameters(recurse=False):
            of_one = weight.ndim == 2 and ".experts." in f".{path}."
            of_all = weight.ndim == 3 and weight.shape[0] == experts
            if weight.ndim == 2 or of_all:
                total += weight.numel() * (share if of_one or of_all else 1.0)
    return total


def _attended(text: Any) -> float:
    """Layers times heads times head size, on average over the products of queries with keys, and of these with
    values."""
    layers, heads = _first(text, ("num_hidden_layers",)), _first(text, ("num_attention_heads",))
    hidden = _first(text, ("hidden_size",))
    if layers is None or heads is None or hidden is None:
        return 0.0
    whole = _first(text, ("head_dim",)) or hidden // heads
    keys = (_first(text, ("qk_nope_head_dim",)) or 0) + (_first(text, ("qk_rope_head_dim",)) or 0) or whole
    values = _first(text, ("v_head_dim",)) or whole
    return layers * heads * (keys + values) / 2


def _sizes(text: Any) -> dict[str, int]:
    names = {"num_hidden_layers": ("num_hidden_layers",), "experts": _EXPERTS, **{name: (name,) for name in _WIDTH}}
    return {name: size for name, fields in names.items() if (size := _first(text, fields)) is not None}


def axis_of(small: ModelCost, large: ModelCost) -> str:
    """What two models differ in: ``width``, ``depth``, ``both``, ``experts``, or ``unknown`` where it is none of
    these.

    Example:
        >>> axis_of(cost_of("HuggingFaceTB/SmolLM2-135M"), cost_of("HuggingFaceTB/SmolLM2-360M"))
        'both'
    """
    changed = {name for name in small.sizes if small.sizes[name] != large.sizes.get(name)}
    deeper, more, wider = "num_hidden_layers" in changed, "experts" in changed, bool(changed & {*_WIDTH})
    if more:
        return "unknown" if deeper or changed & {"hidden_size", "intermediate_size"} else "experts"
    return {(True, False): "width", (False, True): "depth", (True, True): "both"}.get((wider, deeper), "unknown")
