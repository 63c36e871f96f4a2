"""One small config of every class of every declared family under every branch of its declaration,
and how two of them are compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, GenerationMixin, PreTrainedModel

import growth
from growth import architectures
from growth.errors import IllegalGrowthError
from growth.hf.configs import parse
from growth.hf.model_classes import classes
from growth.plan.model_sizes import choosable_sizes
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.miniature import build_exact, loud, miniature
from support.families import at_nearest, difference, generate

Choice = dict[str, Any]


def small_config(
    model_type: str, model_class: str, branch: dict[str, Any], tied: bool | None = None
) -> dict[str, Any]:
    """The config of the twin of this class, every norm's epsilon loud."""
    raw = {**AutoConfig.for_model(model_type, **branch).to_dict(), "architectures": [model_class]}
    if tied is not None:
        raw["tie_word_embeddings"] = tied
    if raw.get("is_encoder_decoder") and raw.get("decoder_start_token_id") is None:
        raw["decoder_start_token_id"] = 0
    architecture = architectures.find(model_type).at(parse(raw))
    small = dict(miniature(raw, architecture))
    if isinstance(architecture.epsilon, str) and architecture.epsilon in raw:
        small[architecture.epsilon] = 0.03
    return small


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for model_type in architectures.known():
        for model_class, branch in itertools.product(classes(model_type), architectures.find(model_type).branches):
            yield model_type, model_class, dict(branch)


def choices(model_type: str) -> Iterator[Choice]:
    attention: list[Choice] = [{"attention": "heads"}, {"attention": "head-dim"}]
    if architectures.find(model_type).rotary:
        attention.append({"attention": "head-dim", "rope": "pairs"})
    widths = [*itertools.product((2, 3), (0.0, 0.4)), (1.5, 0.4), ("5/3", 0.4)]
    for grown_by, scaling, (width, noise) in itertools.product(attention, ("unit", "orthogonal"), widths):
        yield {**grown_by, "scaling": scaling, "width": width, "noise": noise}


def odd_sizes(raw: dict[str, Any]) -> dict[str, int]:
    """Sizes to grow to of which none is a whole multiple, and the ratios differ; heads keep their
    width where positions are rotary."""
    config = parse(raw)
    architecture = architectures.find(raw["model_type"]).at(config)
    old, others = architecture.read_sizes(config), itertools.cycle((1.75, 1.9, 2.2, 1.3))
    free = [
        name for name, size in choosable_sizes(architecture.sizes, config).items() if size.grows in ("width", "heads")
    ]
    ratios = {"hidden_size": 1.4, "intermediate_size": 1.52, "num_attention_heads": 5 / 3, "num_key_value_heads": 1.5}
    sizes = {name: round(old[name] * (ratios.get(name.rpartition(".")[2]) or next(others))) for name in free}
    for heads in (name for name in free if name.endswith("num_attention_heads")):
        group = heads.removesuffix("num_attention_heads")
        hidden, head_dim = f"{group}hidden_size", old[f"{group}head_dim"]
        if hidden in sizes and old[hidden] == old[heads] * head_dim:
            sizes[hidden] = sizes[heads] * (head_dim + (not architecture.rotary))
    return sizes


def label(value: object) -> str:
    return "-".join(str(v) for v in value.values()) if isinstance(value, dict) else str(value)


def load(folder: Path, model_class: str) -> PreTrainedModel:
    """Plain ``from_pretrained``, in float64; nothing missing, nothing unexpected."""
    cls = getattr(transformers, model_class)
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model, info = cls.from_pretrained(folder, dtype=torch.float64, **eager, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.to(torch.float64).eval()


def may_be_refused(model_type: str, choice: Choice) -> bool:
    """Whether the declaration says that it refuses such a choice under some config."""
    words = architectures.find(model_type).refuses
    named = {"orthogonal": choice["scaling"] == "orthogonal", "head-dim": choice["attention"] == "head-dim"}
    named |= {
        "heads with": choice["attention"] == "heads",
        "tied head": True,
        "heads that share values": True,
        "every growth": True,
    }
    return any(applies and word in words for word, applies in named.items())


def fractional(choice: Choice) -> bool:
    """Whether more is asked for than whole multiples."""
    return "sizes" in choice or choice["width"] not in (2, 3)


def check(
    model_type: str, model_class: str, branch: dict[str, Any], choice: Choice, folder: Path, tied: bool | None = None
) -> Plan | None:
    """Widen one checkpoint and compare. A refusal counts where the declaration says that there is
    one; where it is about the shape, the nearest one is compared."""
    raw = small_config(model_type, model_class, branch, tied)
    small = build_exact(raw)
    loud(small, 1)
    small.save_pretrained(folder / "small")
    try:
        result = growth.widen_checkpoint(folder / "small", folder / "wide", **choice)
    except IllegalGrowthError as refusal:
        nearest = at_nearest(choice, refusal)
        assert fractional(choice) if nearest else may_be_refused(model_type, choice), refusal
        if nearest is None:
            return None
        result = growth.widen_checkpoint(folder / "small", folder / "wide", **nearest)
    small, wide = load(folder / "small", model_class), load(folder / "wide", model_class)
    assert difference(small, wide, result.plan) <= TOLERANCE
    assert result.proof.twin.difference <= TOLERANCE and result.proof.fold.ok
    if isinstance(small, GenerationMixin) and small.main_input_name == "input_ids" and small.can_generate():
        assert generate(wide) == generate(small)
    return result.plan


ALL = list(cases())
MAIN = list(
    {
        case[0]: case
        for case in sorted(
            ALL, key=lambda case: (case[1].endswith(("LM", "LMHeadModel", "Generation", "MTModel")), not case[2])
        )
    }.values()
)
"""One class of each family, one that generates if there is one, under its plainest config."""
ODD = [
    {"width": 3, "noise": 0.4, "attention": attention, "scaling": scaling}
    for attention in ("heads", "head-dim")
    for scaling in ("unit", "orthogonal")
]
