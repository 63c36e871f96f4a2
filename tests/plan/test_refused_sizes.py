"""Sizes that are refused, each by name, with the reason and the next step."""

from __future__ import annotations

import re
from typing import Any

import pytest
from transformers import BertConfig, FalconConfig, GPTNeoXConfig

from growth import plan_widening
from growth.errors import CheckpointError, GrowthError, UnsupportedModelError
from support.size_cases import CLIP, FEW, GPT2, SMALL, SMOLLM, Source, refused

REFUSALS: dict[str, tuple[Source, dict[str, Any], str]] = {
    "shrinks": (SMOLLM, {"hidden_size": 500}, r"cannot shrink hidden_size from 576 to 500: .* at least 576"),
    "shrinks heads": (SMOLLM, {"hidden_size": 960, "heads": 8}, "cannot shrink num_attention_heads from 9 to 8:"),
    "shrinks by field": (GPT2, {"sizes": {"n_head": 8}}, "cannot shrink num_attention_heads from 12 to 8:"),
    "other shrinks": (
        SMOLLM,
        {"like": {"hidden_size": 512}},
        r"the other model has hidden_size 512 \(576 here\), which a growth cannot take: .* Add --keep hidden_size ",
    ),
    "unknown": (
        SMOLLM,
        {"sizes": {"hiden_size": 960}},
        r"hiden_size is no size of a llama that can be chosen \(did you mean 'hidden_size'\?\)\. Choose among",
    ),
    "depth": (
        SMOLLM,
        {"sizes": {"n_layers": 5}},
        r"n_layers is no size of a llama; its number of layers is num_hidden_layers\. Say --layers 5 ",
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
    "like itself": (
        SMOLLM,
        {"like": SMOLLM},
        "the other model is no larger than this one, so nothing would grow. Name",
    ),
    "nothing in common": (
        GPT2,
        {"like": CLIP, "keep": "model_type"},
        "the other model says none of the sizes of a gpt2: hidden_size, .* Name some",
    ),
    "does not divide": (
        GPT2,
        {"hidden_size": 1000},
        r"no sizes near hidden_size 1000, num_attention_heads 16 \(nearest to 15\.62\) fit together: a gpt2 cannot "
        r"have 1000 features \(hidden_size\) and 16 heads, which do not divide evenly\. The nearest shape that works",
    ),
    "queries share fewer": (
        SMOLLM,
        {"heads": 13},
        r"no sizes near num_attention_heads 13, num_key_value_heads 4 \(nearest to 4\.333\) fit together: a llama "
        r"cannot have 13 heads and 4 key/value heads",
    ),
    "like a model of another type": (
        SMOLLM,
        {
            "like": BertConfig(hidden_size=1152, intermediate_size=4096, num_attention_heads=12),
            "keep": ("model_type", "layers"),
        },
        r"cannot grow 'query' \(head_dim\) from 64 to 96: .* The nearest shape that works: .*, head_dim 128\. The "
        "other model is a bert, this one a llama",
    ),
    "queries that do not part": (
        SMOLLM,
        {"kv_heads": 6},
        "num_key_value_heads 6 beside 9 heads: each of the 3 serves 3 heads now, which part into equal groups only. "
        "Name 9, or a width of 2 too.",
    ),
    "a key and value to each head": (
        {**SMOLLM, "num_key_value_heads": 9},
        {"kv_heads": 18},
        "num_key_value_heads 18 beside 9 heads: each of the 9 serves one head already. Name a width of 2 too",
    ),
    "one key and value by code": (
        FalconConfig(hidden_size=32, num_attention_heads=4, num_hidden_layers=1, vocab_size=97),
        {"kv_heads": 2},
        "num_key_value_heads is no size of a falcon that can be chosen; it stays 1",
    ),
    "sizes that do not fit": (
        SMOLLM,
        {"sizes": {"hidden_size": 1152, "num_attention_heads": 12, "num_key_value_heads": 12, "head_dim": 96}},
        r"from 64 to 96: .* The nearest shape that works: hidden_size 1152, .*num_key_value_heads 12, head_dim 128\.",
    ),
    "an odd rotary part": (
        GPTNeoXConfig(hidden_size=24, num_attention_heads=2, intermediate_size=40, rotary_pct=0.25, **FEW),
        {"width": 2, "attention": "head-dim"},
        r"cannot grow 'rotary query' \(rotary_dim\) from 3 to 6: rotary positions turn pairs of coordinates, and of "
        "an odd number one has no pair. Use --attention heads, which keeps head_dim",
    ),
    "like and width": (
        SMOLLM,
        {"like": SMALL, "width": 2},
        "like takes all sizes from another model and leaves no room for a width. Choose one",
    ),
    "noise twice": (
        SMOLLM,
        {"noise": 0.1, "symmetry": "split"},
        "noise 0.1 and symmetry split:1/2 contradict each other. Choose one",
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
    with pytest.raises(
        TypeError, match=r"unexpected keyword argument 'hidden'; did you mean 'hidden_size'\? The choices are"
    ):
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
