"""The sizes that are inferred, compared with those that are declared by hand."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig, LlamaForCausalLM, Mamba2ForCausalLM

from growth import architectures
from growth.architectures.sizes import value_at
from growth.hf.config_json import section_at
from growth.hf.configs import Config
from growth.hf.model_classes import class_of, classes
from growth.infer import sizes as room
from growth.infer.meanings import Kind, kind, standard_name
from growth.infer.probe import unknown_kind
from growth.infer.sizes import inferred_sizes

KNOWN = [name for name in architectures.known() if architectures.find(name).module_class is None and classes(name)]

ONLY_DECLARED = {"head_dim", "qk_head_dim"}
"""Declared as following from the parts of a head, which stay."""
ONLY_INFERRED = {
    "falcon": {"num_kv_heads"},  # not read where all heads share one key
    "clip": {"projection_dim", "text_config.projection_dim", "vision_config.projection_dim"},
}


def raw_of(model_type: str) -> dict[str, Any]:
    """The default config of a model type, with a class."""
    config = AutoConfig.for_model(model_type)
    if model_type == "nemotron":
        config.num_key_value_heads = 8  # its default is no number
    names = classes(model_type)
    return {**config.to_dict(), "architectures": [next((n for n in names if n.endswith("ForCausalLM")), names[0])]}


def growing_fields(raw: dict[str, Any]) -> set[str]:
    found = inferred_sizes(raw, class_of(raw)).values()
    return {size.field for size in found if size.grows in ("width", "heads")}


@pytest.mark.parametrize("model_type", KNOWN)
def test_the_fields_that_grow_are_those_that_are_declared(model_type: str) -> None:
    raw = raw_of(model_type)
    parsed = Config(raw).parsed
    declared = architectures.find(model_type).at(parsed)
    fields = {
        size.field for size in declared.sizes.values() if size.field and size.grows in ("width", "heads", "follows")
    }
    fields = {field for field in fields - ONLY_DECLARED if value_at(parsed, field)}
    assert growing_fields(raw) - ONLY_INFERRED.get(model_type, set()) == fields


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "t5", "bart", "qwen2_moe"])
def test_they_have_the_standard_names(model_type: str) -> None:
    raw = raw_of(model_type)
    declared = {size.field: name for name, size in architectures.find(model_type).sizes.items() if size.field}
    found = inferred_sizes(raw, class_of(raw))
    assert {size.field: name for name, size in found.items()}.items() <= declared.items()


def test_small_values_are_distinct() -> None:
    raw = {"model_type": "qwen3_next", "architectures": ["Qwen3NextForCausalLM"]}
    small = [size.small for size in inferred_sizes(raw, class_of(raw)).values() if size.grows == "width"]
    assert len({*small}) == len(small) > 3


NAMES: dict[str, Kind] = {
    **dict.fromkeys(("dim", "d_model", "n_embd", "width"), "hidden"),
    **dict.fromkeys(
        ("n_heads", "n_kv_heads", "mamba_n_heads", "linear_num_key_heads", "encoder_attention_heads"), "heads"
    ),
    **dict.fromkeys(("ffn_hidden", "d_ff", "encoder_ffn_dim", "mlp_dim"), "feed-forward"),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"), "experts"),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), "rank"),
    **dict.fromkeys(("head_dim", "mamba_d_head", "d_kv", "state_size", "mamba_d_conv", "n_groups"), "kept"),
    **dict.fromkeys(("vocab_size", "num_hidden_layers", "num_experts", "index_n_heads", "laurel_rank"), "kept"),
    **dict.fromkeys(("max_position_embeddings", "sliding_window", "moe_topk", "pad_token_id", "chunk_size"), "kept"),
    **dict.fromkeys(("gizmo", "ada_size"), "unknown"),
}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_name_means(name: str) -> None:
    assert kind(name) == NAMES[name]


def test_the_size_of_a_hidden_layer_beside_that_of_the_stream() -> None:
    assert kind("hidden_dim") == "hidden"
    assert kind("hidden_dim", ["dim"]) == "feed-forward"


def test_a_standard_name_is_given_once() -> None:
    assert standard_name("d_model") == "hidden_size"
    assert standard_name("d_model", {"hidden_size"}) == "d_model"


PROBED = [
    (LlamaForCausalLM, "llama", "intermediate_size", "width"),
    (LlamaForCausalLM, "llama", "vocab_size", "kept"),
    (LlamaForCausalLM, "llama", "num_hidden_layers", "kept"),
    (LlamaForCausalLM, "llama", "max_position_embeddings", "kept"),
    (Mamba2ForCausalLM, "mamba2", "conv_kernel", "kept"),
]


@pytest.mark.parametrize(("model_class", "model_type", "field", "means"), PROBED)
def test_a_name_that_says_nothing_is_asked_of_the_class(
    model_class: Any, model_type: str, field: str, means: str
) -> None:
    raw = {"model_type": model_type, "architectures": [model_class.__name__]}
    assert unknown_kind(raw, model_class, field) == means


def test_an_unknown_name_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    own = {"intermediate_size": "unknown", "vocab_size": "unknown"}
    monkeypatch.setattr(room, "kind", lambda name, beside=(): own.get(name) or kind(name, beside))
    assert growing_fields(raw) == {
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_key_value_heads",
    }


def test_a_field_of_a_section_has_its_path() -> None:
    raw = {"model_type": "gemma3", "architectures": ["Gemma3ForConditionalGeneration"]}
    found = inferred_sizes(raw, class_of(raw))
    assert found["text_config.hidden_size"].field == "text_config.hidden_size"
    assert found["vision_config.num_attention_heads"].grows == "heads"
    assert section_at({}, "text_config.hidden_size") == {}
