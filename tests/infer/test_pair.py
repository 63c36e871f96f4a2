"""A miniature and a larger one of model types that nobody declared."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from transformers import DbrxForCausalLM

from growth import architectures
from growth.architectures.sizes import size_at
from growth.errors import UnsupportedModelError
from growth.hf.configs import Config
from growth.hf.model_classes import class_of
from growth.infer import levels as room
from growth.infer.counts import small_counts
from growth.infer.fields import whole_numbers
from growth.infer.pair import Pair, pair
from growth.infer.probe import shapes
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import build_exact, loud, miniature
from growth.proof.outputs import forward

RAW: dict[str, dict[str, Any]] = {
    "exaone4": {"architectures": ["Exaone4ForCausalLM"]},  # norms after the branches, a pattern of layers
    "qwen3_next": {"architectures": ["Qwen3NextForCausalLM"]},  # delta rule, experts, a shared expert
    "deepseek_v32": {"architectures": ["DeepseekV32ForCausalLM"]},  # latents with an indexer
    "gemma4_text": {"architectures": ["Gemma4ForCausalLM"]},  # layers that differ in head_dim
    "lfm2_moe": {  # short convolutions
        "architectures": ["Lfm2MoeForCausalLM"],
        "layer_types": ["conv", "conv", "conv", "full_attention"] * 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "nemotron_h": {"architectures": ["NemotronHForCausalLM"]},  # groups of heads
    "falcon_mamba": {"architectures": ["FalconMambaForCausalLM"]},
    "mamba2": {"architectures": ["Mamba2ForCausalLM"]},
    "gemma3": {"architectures": ["Gemma3ForConditionalGeneration"]},  # sections
    "t5gemma": {"architectures": ["T5GemmaForConditionalGeneration"]},
    "roc_bert": {"architectures": ["RoCBertForMaskedLM"]},
    "longt5": {"architectures": ["LongT5ForConditionalGeneration"]},
    "vaultgemma": {"architectures": ["VaultGemmaForCausalLM"]},
}

RAW = {model_type: {"model_type": model_type, **raw} for model_type, raw in RAW.items()}


FAST = ("exaone4", "qwen3_next", "gemma4_text", "falcon_mamba")
TYPES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in RAW]


@cache
def found(model_type: str) -> Pair:
    return pair(RAW[model_type], class_of(RAW[model_type]))


def moved(one: Pair, model_type: str) -> dict[str, list[tuple[int, int]]]:
    """Name of a parameter -> (small, wide) of each dimension that differs."""
    kind = class_of(RAW[model_type])
    small, wide = shapes(one.small, kind), shapes(one.wide, kind)
    assert small.keys() == wide.keys()
    return {
        name: [(old, new) for old, new in zip(shape, wide[name][1], strict=True) if old != new]
        for name, (_, shape) in small.items()
    }


@pytest.mark.parametrize("model_type", TYPES)
def test_only_sizes_that_grow_differ(model_type: str) -> None:
    one = found(model_type)
    small, wide = whole_numbers(one.small.parsed), whole_numbers(one.wide.parsed)
    assert {path for path in small if small[path] != wide[path]} == {*one.ratios}
    assert all(wide[path] == ratio * small[path] for path, ratio in one.ratios.items())
    assert all(new > old for dims in moved(one, model_type).values() for old, new in dims)


@pytest.mark.parametrize("model_type", TYPES)
def test_what_is_kept_is_that_of_the_user(model_type: str) -> None:
    one = found(model_type)
    real, small = whole_numbers(Config(RAW[model_type]).parsed), whole_numbers(one.small.parsed)
    kept = [path for path in real if path not in one.ratios and any(part in path for part in ("dim", "rank", "state"))]
    assert {path: small[path] for path in kept} == {path: real[path] for path in kept}


@pytest.mark.parametrize("model_type", TYPES)
def test_it_is_the_miniature_of_its_own_declaration(model_type: str) -> None:
    one = found(model_type)
    assert dict(miniature(RAW[model_type], one.architecture)) == dict(one.small)
    assert one.architecture.sizes is one.sizes


@pytest.mark.parametrize("model_type", TYPES)
def test_both_run_when_every_parameter_is_loud(model_type: str) -> None:
    one = found(model_type)
    with exact_arithmetic(), torch.no_grad():
        for config in (one.small, one.wide):
            model = build_exact(config)
            loud(model)
            outputs = forward(model, one.inputs)
            assert outputs and all(bool(value.isfinite().all()) for value in outputs.values())


def test_ratios_are_distinct_where_the_class_allows_it() -> None:
    ratios = found("qwen3_next").ratios
    assert (ratios["hidden_size"], ratios["intermediate_size"], ratios["moe_intermediate_size"]) == (2, 3, 5)
    assert ratios["num_attention_heads"] == ratios["num_key_value_heads"] == 3


def test_features_grow_with_the_heads_that_divide_them() -> None:
    ratios = found("mamba2").ratios
    assert ratios["hidden_size"] == ratios["num_heads"]


def test_queries_keep_their_share_of_keys() -> None:
    one, real = found("qwen3_next").small.parsed, Config(RAW["qwen3_next"]).parsed
    share = one.num_attention_heads // one.num_key_value_heads
    assert share == real.num_attention_heads // real.num_key_value_heads == 8


def test_a_size_that_is_not_asked_for_stays() -> None:
    raw = {**RAW["exaone4"], "intermediate_size": 96}
    every = found("exaone4").sizes
    only = {name: size for name, size in every.items() if name != "intermediate_size"}
    one = pair(raw, class_of(raw), sizes=only)
    assert one.ratios.keys() == {size.field for size in only.values()}
    assert one.small.parsed.intermediate_size == Config(raw).parsed.intermediate_size


ROUNDED = {"model_type": "lfm2", "architectures": ["Lfm2ForCausalLM"], "intermediate_size": 6144}
"""Its class rounds the size of hidden layers up to a multiple of 256."""


def rounded() -> tuple[int, int]:
    one = pair(ROUNDED, class_of(ROUNDED))
    small, wide = (shapes(config, class_of(ROUNDED)) for config in (one.small, one.wide))
    name = "model.layers.0.feed_forward.w1.weight"
    return small[name][1][0], wide[name][1][0]


def test_a_size_that_the_class_rounds_up_is_as_large_as_it_has_to_be() -> None:
    small, wide = rounded()
    assert wide == 3 * small


def test_a_size_that_is_rounded_away_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "adjusted", lambda *_: {})
    small, wide = rounded()
    assert wide != 3 * small


def test_layers_that_differ_in_a_size_that_grows_are_refused_by_name() -> None:
    raw = {"model_type": "dots3_note_text", "architectures": ["Dots3NoteForCausalLM"]}
    with pytest.raises(UnsupportedModelError, match="differ in kv_lora_rank, num_attention_heads"):
        pair(raw, class_of(raw))


def test_layers_that_differ_in_what_is_kept_stay_so() -> None:
    small = found("gemma4_text").small
    assert small["per_layer_config"] and small.parsed.is_heterogeneous
    assert size_at(small.parsed, "head_dim") == 256


def test_a_class_that_does_not_run_says_why() -> None:
    raw = {"model_type": "dbrx", "architectures": ["DbrxForCausalLM"]}
    with pytest.raises(UnsupportedModelError, match="rope_theta"):
        pair(raw, class_of(raw))


def test_counts_do_not_touch_sizes() -> None:
    for model_type in architectures.known():
        if architectures.find(model_type).module_class is None:
            parsed = Config({"model_type": model_type}).parsed
            sizes = {size.field for size in architectures.find(model_type).sizes.values()}
            assert not {*small_counts(parsed)} & sizes, model_type


def test_factors_of_rotary_frequencies_are_those_of_the_user() -> None:
    factors = {"short_factor": [1.0 + i for i in range(64)], "long_factor": [2.0 + i for i in range(64)]}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 4096}
    rope |= {**factors, "short_mscale": 1.2, "long_mscale": 1.3}
    raw = {"model_type": "phimoe", "architectures": ["PhimoeForCausalLM"], "rope_parameters": rope}
    one = pair({**raw, "max_position_embeddings": 131072}, class_of(raw))
    assert {name: one.small["rope_parameters"][name] for name in factors} == factors


def test_keys_in_another_section_are_shared_by_the_queries_around_it() -> None:
    raw = {"model_type": "dbrx", "architectures": ["DbrxForCausalLM"], "d_model": 64, "n_heads": 8, "n_layers": 2}
    found = pair(raw | {"attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4}}, DbrxForCausalLM)
    assert found.ratios["attn_config.kv_n_heads"] == found.ratios["n_heads"]
    read = found.small.parsed
    assert read.n_heads % read.attn_config.kv_n_heads == 0
