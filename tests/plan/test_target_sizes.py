"""Target sizes: what a ratio, sizes by name and another model come to, and what is said about it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from transformers import AlbertConfig, BertConfig, LlamaConfig, PersimmonConfig, T5Config

from growth import architectures, plan_widening
from growth.plan.plan import TOLERANCE
from growth.proof.twin import prove_twin
from support.size_cases import CLIP, FEW, GPT2, QWEN, SMALL, SMOLLM, T5, Source, grown, untrue

WIDE = LlamaConfig(**{name: value for name, value in {**SMOLLM, **SMALL}.items() if name != "model_type"})


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
        {"like": WIDE},
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
        why["num_attention_heads"] == "nearest divisor of hidden_size 864 to x1.5 (13.5)"
        and why["num_key_value_heads"] == "kept, named"
    )
    assert why["hidden_size"] == "x1.5" and why["head_dim"] == "kept (attention heads)"
    why = plan_widening(GPT2, width=2, attention="head-dim").why
    assert why["num_attention_heads"] == "kept (attention head-dim)"
    assert why["intermediate_size"] == "follows from the others"
    why = plan_widening(GPT2, width=2, hidden_size="keep").why
    assert why["hidden_size"] == "kept, named" and why["intermediate_size"] == "x2"
    why = plan_widening(LlamaConfig(hidden_size=96, num_attention_heads=6, **FEW), hidden_size=100).why
    assert why["num_attention_heads"] == "nearest divisor of hidden_size 100 to x1.042 (6.25), at least 6"
    why = plan_widening(QWEN, width=1.3).why
    assert why["intermediate_size"] == "nearest multiple of 64 to x1.3 (6323.2)"
    assert why["num_attention_heads"] == "nearest whole number to x1.3 (18.2)"


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
    assert grown(SMOLLM, kv_heads=9) == {"num_key_value_heads": 9, "queries_per_kv": 1}
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
    WIDE.save_pretrained(folder)
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
        assert grown(GPT2, like=other, keep=("model_type", "layers")) == wide
    assert grown(SMOLLM, like=WIDE, intermediate_size=1600) == {**SMALL, "intermediate_size": 1600}
    assert plan_widening(SMOLLM, like=WIDE).why["head_dim"] == "kept, as the other model"
