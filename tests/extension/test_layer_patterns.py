"""Where new layers may stand, and what they copy, in models whose layers differ by their number: by a
list in config.json, in the dialect of transformers 4 or 5, or by a formula of the number."""

from __future__ import annotations

from typing import Any

import pytest

from growth.errors import IllegalGrowthError
from growth.plan.build import plan_config
from growth.plan.options import chosen
from support.depth import check, deeper, places
from support.families import exact
from support.family_cases import MAIN, small_config

exactly = pytest.fixture(exact, autouse=True)


def pattern(model_type: str, layers: int, branch: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A small config of so many layers, without lists per layer but those that are given."""
    kind = next(case[1] for case in MAIN if case[0] == model_type)
    raw = small_config(model_type, kind, branch or {})
    for name in [name for name, value in raw.items() if isinstance(value, list) and ("layer" in name)]:
        del raw[name]
    count = next(name for name in ("n_layer", "num_layers", "num_hidden_layers") if name in raw)
    return {**raw, count: layers, **fields}


TURNS = {"attention_types": [[["global", "local"], 2]], "window_size": 3}
EVEN = "even"
CASES = {
    # name: config, more layers, insert, where the old ones are, what each is or copies
    "kinds in turn allow whole pairs": (pattern("gemma2", 4), 2, EVEN, (0, 1, 2, 5), (0, 1, 2, 1, 2, 3)),
    "before the first, by whole pairs": (pattern("gemma2", 4), 2, "start", (2, 3, 4, 5), (0, 1, 0, 1, 2, 3)),
    "transformers 4 says every how many": (
        pattern("gemma3_text", 5, sliding_window_pattern=3),
        *(1, EVEN, (0, 1, 2, 3, 4), (0, 1, 2, 3, 4, 2)),
    ),
    "a written list follows, at any place": (
        pattern("gemma3_text", 3, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        *(2, "after:0,1", (0, 2, 4), (0, 0, 1, 1, 2)),
    ),
    "windows from a number on": (
        pattern("qwen2", 4, use_sliding_window=True, max_window_layers=2, sliding_window=4),
        *(1, EVEN, (0, 1, 3, 4), (0, 1, 2, 2, 3)),
    ),
    "experts in every second layer": (
        pattern("qwen2_moe", 4, decoder_sparse_step=2),
        *(2, "start", (2, 3, 4, 5), (0, 1, 0, 1, 2, 3)),
    ),
    "numbers of layers are counted anew": (
        pattern("qwen2_moe", 4, mlp_only_layers=[1, 2]),
        *(2, EVEN, (0, 2, 3, 5), (0, 0, 1, 2, 2, 3)),
    ),
    "as many numbers as layers": (
        pattern("qwen2_moe", 2, mlp_only_layers=[0, 5]),
        *(1, "end", (0, 1), (0, 1, 1)),
    ),
    "every fourth without rotation": (pattern("smollm3", 4), 4, "start", (4, 5, 6, 7), (0, 0, 0, 3, 0, 1, 2, 3)),
    "a list of zeros and ones": (
        pattern("smollm3", 3, no_rope_layers=[1, 0, 0]),
        *(1, "after:0", (0, 2, 3), (0, 0, 1, 2)),
    ),
    "kinds with how often each is repeated": (
        pattern("gpt_neo", 4, **TURNS),
        1,
        "after:1",
        (0, 1, 3, 4),
        (0, 1, 1, 2, 3),
    ),
    "and both of the lists that say so": (
        pattern("gpt_neo", 4, **TURNS, attention_layers=["global", "local"] * 2),
        *(2, EVEN, (0, 2, 3, 5), (0, 0, 1, 2, 2, 3)),
    ),
    "dense layers first": (
        pattern("deepseek_v3", 4, first_k_dense_replace=2),
        *(2, EVEN, (0, 1, 3, 5), (0, 1, 2, 2, 2, 3)),
    ),
    "stacked, by a written list": (
        pattern("gemma3_text", 3, layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        *(4, "stack", (0, 1, 2), (0, 1, 2, 0, 1, 2, 0)),
    ),
    "stacked, but dense layers come first": (
        pattern("deepseek_v3", 4, first_k_dense_replace=2),
        *(3, "stack", (0, 1, 2, 3), (0, 1, 2, 3, 2, 2, 2)),
    ),
    "a first layer without a norm": (
        pattern("modernbert", 4, global_attn_every_n_layers=2),
        *(2, EVEN, (0, 1, 2, 5), (0, 1, 2, 1, 2, 3)),
    ),
    "a scale by the number of the layer": (
        pattern("gpt2", 3, scale_attn_by_inverse_layer_idx=True),
        *(2, EVEN, (0, 1, 2), (0, 1, 2, 2, 2)),
    ),
    "hidden states that a backbone returns": (
        {**small_config("dinov2", "Dinov2Backbone", {}), "out_features": ["stage1"], "out_indices": [1]},
        *(2, EVEN, (0, 2), (0, 0, 1, 1)),
    ),
}


SLOW = {
    "before the first, by whole pairs",
    "transformers 4 says every how many",
    "experts in every second layer",
    "as many numbers as layers",
    "a list of zeros and ones",
    "and both of the lists that say so",
    "a scale by the number of the layer",
    "a first layer without a norm",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]
)
def test_layers_keep_their_kind(name: str) -> None:
    raw, more, insert, kept, origins = CASES[name]
    _, plan = check(raw, deeper(raw, more, insert=insert), twin=False)
    assert places(plan) == [(kept, origins)]


def test_lists_are_rewritten_in_their_dialect() -> None:
    raw = CASES["and both of the lists that say so"][0]
    new = plan_config(raw, chosen(deeper(raw, 1, insert="after:0"))).new  # type: ignore[arg-type]
    assert new["attention_types"] == [[["global", "global", "local", "global", "local"], 1]]
    assert new["attention_layers"] == ["global", "global", "local", "global", "local"]
    backbone = CASES["hidden states that a backbone returns"][0]
    new = plan_config(backbone, chosen(deeper(backbone, 2, insert=EVEN))).new  # type: ignore[arg-type]
    assert new.parsed.out_features == ["stage2"] and new.parsed.stage_names[-1] == "stage4"


@pytest.mark.parametrize(
    ("raw", "more", "insert", "nearest"),
    [
        (pattern("gpt2", 3, scale_attn_by_inverse_layer_idx=True), 1, "start", "end"),
        (pattern("gemma2", 2), 3, "start", "after:-1,-1,1"),
    ],
)
def test_a_place_that_does_not_fit_is_refused_with_the_nearest(
    raw: dict[str, Any], more: int, insert: str, nearest: str
) -> None:
    with pytest.raises(IllegalGrowthError, match=f"follows from its number.*--insert {nearest}"):
        plan_config(raw, chosen(deeper(raw, more, insert=insert)))  # type: ignore[arg-type]
    check(raw, deeper(raw, more, insert=nearest), twin=False)


def test_one_layer_with_a_table_is_no_pattern_for_more() -> None:
    raw = {**small_config("t5", "T5ForConditionalGeneration", {}), "num_layers": 1}
    with pytest.raises(IllegalGrowthError, match="2 layers of this t5 cannot hold its 1"):
        plan_config(raw, chosen({"sizes": {"encoder.num_hidden_layers": 2}}))


def test_a_reader_of_all_layers_reads_nothing_of_new_ones() -> None:
    """ESM's contact head reads the attention maps of every head of every layer."""
    raw = pattern("esm", 2, {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32})
    large, plan = check(raw, deeper(raw, 2, width=2, symmetry="none", insert=EVEN), twin=False)
    weight = large.esm.contact_head.regression.weight.reshape(4, -1)
    assert places(plan) == [((0, 2), (0, 0, 1, 1))]
    assert weight[[0, 2]].all() and not weight[[1, 3]].any()
