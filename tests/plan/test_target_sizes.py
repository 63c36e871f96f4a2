"""Shapes: what a ratio, sizes by name and another model come to, what is said about it, and what is
refused."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AlbertConfig,
    BertConfig,
    BloomConfig,
    CLIPConfig,
    GPT2Config,
    LlamaConfig,
    PersimmonConfig,
    PreTrainedConfig,
    Qwen2Config,
    T5Config,
)

from growth import architectures, plan_widening
from growth.errors import CheckpointError, GrowthError, UnsupportedModelError
from growth.hf.configs import parse
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.twin import prove_twin

FEW: dict[str, Any] = {"num_hidden_layers": 2, "vocab_size": 97}
SMOLLM: dict[str, Any] = {
    **{
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "intermediate_size": 1536,
        **FEW,
    },
    **{"num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 64, "tie_word_embeddings": True},
}
QWEN = Qwen2Config(hidden_size=896, intermediate_size=4864, num_attention_heads=14, num_key_value_heads=2, **FEW)
GPT2, BERT = GPT2Config(n_layer=2, vocab_size=97), BertConfig(**FEW, architectures=["BertForMaskedLM"])
T5 = T5Config(num_layers=2, vocab_size=97)
ALBERT = AlbertConfig(
    hidden_size=768, intermediate_size=3072, num_attention_heads=12, **FEW, architectures=["AlbertForMaskedLM"]
)
CLIP = CLIPConfig(text_config=FEW, vision_config={"num_hidden_layers": 2})
BLOOM = BloomConfig(hidden_size=64, n_head=8, n_layer=2, vocab_size=97)
Source = PreTrainedConfig | dict[str, Any]

SMALL: dict[str, Any] = {
    "num_attention_heads": 15,
    "num_key_value_heads": 5,
    "hidden_size": 960,
    "intermediate_size": 2560,
}
"""SmolLM2-360M, into which SmolLM2-135M grows."""


def grown(source: Source, **choices: Any) -> dict[str, int]:
    """The sizes that change, every reason checked."""
    plan = plan_widening(source, **choices)
    assert not untrue(plan), untrue(plan)
    return {name: size for name, size in plan.new_sizes.items() if size != plan.old_sizes[name]}


def untrue(plan: Plan) -> list[str]:
    """What is said of a size and is not so."""
    config, old, new, options = parse(plan.new_config), plan.old_sizes, plan.new_sizes, plan.options
    fields = {size.field: name for name, size in plan.architecture.sizes.items() if size.field}
    named = {fields.get(name, name) for name in options.sizes}

    def holds(name: str, said: str) -> bool:
        size = plan.architecture.sizes[name]
        group = name[: name.rfind(".") + 1]
        hidden = f"{group}hidden_size" if f"{group}hidden_size" in new else "hidden_size"
        if match := re.fullmatch(r"x([\d.]+)", said):
            return (
                name not in named and new[name] > old[name] and abs(new[name] / old[name] / float(match[1]) - 1) < 1e-3
            )
        if match := re.fullmatch(r"nearest to x([\d.]+) \(([\d.]+)\) that fits", said):
            return abs(old[name] * float(match[1]) / float(match[2]) - 1) < 1e-3 and new[name] != float(match[2])
        facts = {
            "named": name in named and new[name] > old[name],
            "kept, named": name in named and new[name] == old[name],
            "as the other model": bool(options.like) and name not in named and new[name] > old[name],
            "kept, as the other model": bool(options.like) and name not in named and new[name] == old[name],
            "kept": name not in named and new[name] == old[name],
            f"kept (attention {options.attention})": new[name] == old[name]
            and size.grows in {"heads", "head-dim"} - {options.attention},
            "kept: head_dim grows": new[name] == old[name] and new[f"{group}head_dim"] > old[f"{group}head_dim"],
            "hidden_size / num_attention_heads": new[name] * new[f"{group}num_attention_heads"] == new[hidden],
            "nearest that fits": name not in named and new[name] != old[name],
            "as it follows": size.follows is not None and size.follows(config, new) == new[name],
            "follows from the others": size.follows is not None and size.follows(config, new) == new[name],
        }
        return facts.get(said, False)

    return [
        f"{name} {old[name]} -> {new[name]}: {plan.why.get(name)}"
        for name in old
        if not holds(name, plan.why.get(name, ""))
    ]


def refused(source: Source, **choices: Any) -> str:
    with pytest.raises(GrowthError) as refusal:
        plan_widening(source, **choices)
    message = str(refusal.value)
    assert "\n" not in message and re.search(r"must be|\. (Use|Name|Choose|Check|The nearest) ", message), message
    return message


@pytest.mark.parametrize(
    "choices",
    [
        {**{k: SMALL[k] for k in ("hidden_size", "intermediate_size")}, "heads": 15, "kv_heads": 5},
        {"hidden_size": 960},
        {"width": "5/3"},
        {"width": Fraction(5, 3)},
        {"width": 5 / 3},
        {"sizes": SMALL},
        {"like": SMALL},
        {"like": LlamaConfig(**SMALL)},
        {"like": {**SMOLLM, **SMALL}},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "source", [SMOLLM, LlamaConfig(**{k: v for k, v in SMOLLM.items() if k != "model_type"})], ids=["dict", "config"]
)
def test_the_next_model_of_a_family_is_reached_in_every_way(source: Source, choices: dict[str, Any]) -> None:
    assert grown(source, **choices) == SMALL


def test_what_is_said_of_every_size() -> None:
    why = plan_widening(SMOLLM, hidden_size=960, heads=15).why
    assert why == {
        **{
            "hidden_size": "named",
            "intermediate_size": "x1.667",
            "num_attention_heads": "named",
            "num_key_value_heads": "x1.667",
        },
        **{"queries_per_kv": "follows from the others", "head_dim": "hidden_size / num_attention_heads"},
    }
    why = plan_widening(SMOLLM, width=1.5, kv_heads="keep").why
    assert (
        why["num_attention_heads"] == "nearest to x1.5 (13.5) that fits"
        and why["num_key_value_heads"] == "kept, named"
    )
    assert why["hidden_size"] == "x1.5" and why["head_dim"] == "kept (attention heads)"
    why = plan_widening(GPT2, width=2, attention="head-dim").why
    assert why["num_attention_heads"] == "kept (attention head-dim)" and why["intermediate_size"] == "as it follows"


def test_a_ratio_is_met_where_it_divides_and_else_as_near_as_may_be() -> None:
    assert grown(QWEN, width=1.5) == {
        **{"hidden_size": 1344, "intermediate_size": 7296},
        **{"num_attention_heads": 21, "num_key_value_heads": 3},
    }
    assert grown(SMOLLM, width=1.5) == {
        **{"hidden_size": 864, "intermediate_size": 2304},
        **{"num_attention_heads": 12, "num_key_value_heads": 4},  # 13.5 and 4.5, of which the first must divide 864
    }
    heads = {"num_attention_heads": 12, "num_key_value_heads": 12}
    assert grown(T5, width=1.5) == {"hidden_size": 768, "intermediate_size": 3072, **heads}
    assert grown(GPT2, width=1.5, attention="head-dim") == {
        "hidden_size": 1152,
        "intermediate_size": 4608,
        "head_dim": 96,
    }
    assert grown(CLIP, width=3) == {
        **{"text_config.hidden_size": 1536, "text_config.intermediate_size": 6144, "vision_config.hidden_size": 2304},
        **{
            "vision_config.intermediate_size": 9216,
            "text_config.num_attention_heads": 24,
            "text_config.num_key_value_heads": 24,
        },
        **{"vision_config.num_attention_heads": 36, "vision_config.num_key_value_heads": 36},
    }


def test_one_size_by_name_takes_along_what_must_go_along() -> None:
    assert grown(SMOLLM, width=2, kv_heads="keep") == {
        **{"hidden_size": 1152, "intermediate_size": 3072, "num_attention_heads": 18},
        "queries_per_kv": 6,
    }
    assert grown(SMOLLM, intermediate_size=2000) == {"intermediate_size": 2000}
    assert grown(GPT2, intermediate_size=4000) == {"intermediate_size": 4000}
    assert grown(SMOLLM, heads=12) == {"num_attention_heads": 12, "num_key_value_heads": 4}
    assert grown(SMOLLM, kv_heads=6) == {"num_attention_heads": 18, "num_key_value_heads": 6}
    assert grown(SMOLLM, head_dim=128) == {"head_dim": 128}
    wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_key_value_heads": 16}
    assert grown(GPT2, heads=16) == grown(GPT2, hidden_size=1024) == wide  # hidden_size = heads * head_dim
    assert grown(GPT2, head_dim=80) == {"hidden_size": 960, "intermediate_size": 3840, "head_dim": 80}
    both = {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 80,
    }
    assert grown(GPT2, heads=16, head_dim=80) == both
    assert grown(T5, head_dim=80) == {"head_dim": 80}
    assert grown(QWEN, hidden_size=1792, heads="keep") == {
        "hidden_size": 1792,
        "intermediate_size": 9728,
        "head_dim": 128,
    }
    assert grown(SMOLLM, width=2, intermediate_size="keep", heads="keep") == {"hidden_size": 1152}
    towers = {"text_config.hidden_size": 1024, "text_config.intermediate_size": 4096}
    assert grown(CLIP, sizes={"text_config.hidden_size": 1024}) == {
        **towers,
        **{"text_config.num_attention_heads": 16, "text_config.num_key_value_heads": 16},
    }


@pytest.mark.parametrize("named", [{"hidden_size": 1536}, {"n_embd": 1536}])
def test_sizes_go_by_their_name_or_their_field(named: dict[str, int]) -> None:
    plan = plan_widening(GPT2, sizes=named)
    assert plan.new_config["n_embd"] == plan.new_sizes["hidden_size"] == 1536 and plan.why["hidden_size"] == "named"
    assert not untrue(plan)


def test_a_size_the_config_leaves_null_is_written_down_where_it_no_longer_follows() -> None:
    """GPT-2's n_inner, null for 4 n_embd."""
    assert plan_widening(GPT2, width=1.25).new_config["n_inner"] is None
    for choices in ({"intermediate_size": 4000}, {"hidden_size": 960, "intermediate_size": "keep"}):
        plan = plan_widening(GPT2, **choices)
        assert plan.new_config["n_inner"] == plan.new_sizes["intermediate_size"]
        assert prove_twin(plan).difference <= TOLERANCE


def test_another_model_lends_its_sizes(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    LlamaConfig(**SMALL).save_pretrained(folder)
    assert grown(SMOLLM, like=folder) == grown(SMOLLM, like=str(folder / "config.json")) == SMALL
    wide = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_key_value_heads": 16}
    others: list[Source] = [
        BertConfig(hidden_size=1024, intermediate_size=4096, num_attention_heads=16),  # the same sizes
        T5Config(d_model=1024, d_ff=4096, num_heads=16),  # by other fields
        AlbertConfig(hidden_size=1024, intermediate_size=4096, num_attention_heads=16),  # with one GPT-2 does not have
        LlamaConfig(
            hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_key_value_heads=4
        ),  # which GPT-2 cannot have
        PersimmonConfig(
            hidden_size=1024, intermediate_size=4096, num_attention_heads=16
        ),  # of a family nobody declared
    ]
    assert "persimmon" not in architectures.known()
    for other in others:
        assert grown(GPT2, like=other) == wide
    assert grown(SMOLLM, like=LlamaConfig(**SMALL), intermediate_size=1600) == {**SMALL, "intermediate_size": 1600}
    assert plan_widening(SMOLLM, like=LlamaConfig(**SMALL)).why["head_dim"] == "kept, as the other model"


REFUSALS: dict[str, tuple[Source, dict[str, Any], str]] = {
    "shrinks": (SMOLLM, {"hidden_size": 500}, r"cannot shrink hidden_size from 576 to 500: .* at least 576"),
    "shrinks heads": (SMOLLM, {"hidden_size": 960, "heads": 8}, "cannot shrink num_attention_heads from 9 to 8:"),
    "shrinks by field": (GPT2, {"sizes": {"n_head": 8}}, "cannot shrink num_attention_heads from 12 to 8:"),
    "other shrinks": (
        SMOLLM,
        {"like": {"hidden_size": 512}},
        "cannot shrink hidden_size from 576 to 512, its size in the other model:",
    ),
    "unknown": (
        SMOLLM,
        {"sizes": {"num_hidden_layers": 5}},
        "num_hidden_layers is no size of a llama that .* Choose among hidden",
    ),
    "unknown of gpt2": (
        GPT2,
        {"kv_heads": 16},
        "num_key_value_heads is no size of a gpt2 .* stays 12 or follows",
    ),
    "twice": (
        SMOLLM,
        {"hidden_size": 960, "sizes": {"hidden_size": 1152}},
        "hidden_size is named twice, as 960 and as 1152",
    ),
    "twice by field": (
        GPT2,
        {"hidden_size": 1536, "sizes": {"n_embd": 1024}},
        "hidden_size is named twice, as 1536 and as 1024",
    ),
    "same": (SMOLLM, {"hidden_size": 576}, "hidden_size 576 is what the model has already, so nothing would grow"),
    "kept": (SMOLLM, {"kv_heads": "keep"}, "num_key_value_heads 3 is what the model has already"),
    "like itself": (SMOLLM, {"like": SMOLLM}, "hidden_size 576, .* is what the model has already"),
    "nothing in common": (
        GPT2,
        {"like": CLIP},
        "the other model says none of the sizes of a gpt2: hidden_size, .* Name some",
    ),
    "like and width": (
        SMOLLM,
        {"like": SMALL, "width": 2},
        "the sizes of another model leave no room for a width. Choose one",
    ),
    "noise twice": (
        SMOLLM,
        {"noise": 0.1, "symmetry": "split"},
        "noise 0.1 and symmetry split contradict each other. Choose one",
    ),
    "no number": (SMOLLM, {"hidden_size": "many"}, "hidden_size must be a whole number, or 'keep' .*, not 'many'"),
    "a fraction": (SMOLLM, {"hidden_size": 960.5}, "hidden_size must be a whole number, or 'keep' .*, not 960.5"),
    "true": (SMOLLM, {"sizes": {"hidden_size": True}}, "hidden_size must be a whole number, or 'keep' .*, not True"),
    "no such width": (SMOLLM, {"width": "3/0"}, "width must be a number above 1 and at most 1024, not '3/0'"),
    "too wide": (SMOLLM, {"width": "1e400"}, "width must be a number above 1 and at most 1024, not '1e400'"),
    "no size": (
        SMOLLM,
        {"like": {"hidden_size": 960.0}},
        r"like holds hidden_size 960\.0, which is no size. Use whole numbers",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_by_name(name: str) -> None:
    source, choices, says = REFUSALS[name]
    assert re.search(says, refused(source, **choices))


def test_a_keyword_that_does_not_exist() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'hidden'; the choices are width, hidden_size"):
        plan_widening(SMOLLM, hidden=960)  # type: ignore[call-arg]


NO_MODELS: list[tuple[Any, type[GrowthError]]] = [
    ("no/such", CheckpointError),
    (__file__, CheckpointError),
    ({"model_type": "nonsense"}, UnsupportedModelError),
]


@pytest.mark.parametrize(("like", "error"), NO_MODELS, ids=str)
def test_another_model_that_is_none(like: Any, error: type[GrowthError]) -> None:
    with pytest.raises(error):
        plan_widening(SMOLLM, like=like)
