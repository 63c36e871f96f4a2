"""``like=``: the grown model's config is the other model's, field by field, in all that a growth can
take; the rest is named with the word that keeps it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from transformers import (
    AutoConfig,
    BertConfig,
    Gemma2Config,
    LlamaConfig,
    MBartConfig,
    MixtralConfig,
    OlmoConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SiglipConfig,
    T5Config,
)

from growth import plan_widening
from growth.errors import GrowthError
from growth.extension import layer_config
from growth.hf.configs import parse
from growth.plan import beside, taken_over
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.twin import prove_twin
from support.other_models import SMOLLM2_135M, SMOLLM2_360M, missed
from support.size_cases import SMOLLM, refused


def check_reached(small: Any, other: PreTrainedConfig, but: tuple[str, ...] = (), **choices: Any) -> Plan:
    plan = plan_widening(small, like=other, **choices)
    assert missed(plan, other).keys() == set(but), missed(plan, other)
    assert prove_twin(plan).difference <= TOLERANCE
    return plan


def config(kind: type[PreTrainedConfig], model_class: str, **sizes: Any) -> PreTrainedConfig:
    return kind(architectures=[model_class], vocab_size=97, **sizes)


def test_the_published_config_is_reached_field_by_field() -> None:
    """But for the epsilon, which an uneven width multiplies by 1.2 so that the function stays."""
    plan = check_reached(SMOLLM2_135M, parse(SMOLLM2_360M), but=("rms_norm_eps",))
    assert plan.new_config == {**SMOLLM2_360M, "rms_norm_eps": pytest.approx(1.2e-5, rel=1e-12)}
    assert any(note.startswith("rms_norm_eps becomes 1.2e-05, and is 1e-05 in the other model") for note in plan.notes)
    assert plan.why["num_hidden_layers"] == "insert stack: silent copies of 0, 1"
    assert plan.parameters(new=True) == 361_821_120  # as in the published checkpoint


def test_a_number_that_a_file_kept_in_float32_is_no_difference() -> None:
    """Weights out of a GGUF file, whose config says little else of the tokenizer."""
    gguf = {**SMOLLM2_135M, "rms_norm_eps": 9.999999747378752e-06, "head_dim": 64, "bos_token_id": 1}
    gguf.pop("is_llama_config")
    plan = plan_widening(gguf, like=SMOLLM2_360M)
    told = "not taken from the other model, as no output depends on it: bos_token_id 0 (1 here), is_llama_config true"
    assert any(note.startswith(told) for note in plan.notes)


QWEN: dict[str, Any] = {"head_dim": 16, "num_key_value_heads": 2, "max_position_embeddings": 64}


def qwen3(*sizes: int, tied: bool = True) -> PreTrainedConfig:
    names = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
    named = dict(zip(names, sizes, strict=True))
    return config(
        Qwen3Config, "Qwen3ForCausalLM", **named, **QWEN, max_window_layers=sizes[-1], tie_word_embeddings=tied
    )


OTHERS: dict[str, tuple[PreTrainedConfig, PreTrainedConfig, tuple[str, ...]]] = {
    "pure width (0.6B to 1.7B)": (qwen3(64, 192, 4, 5), qwen3(128, 384, 4, 5), ()),
    "all at once (1.7B to 4B)": (qwen3(128, 384, 4, 5), qwen3(160, 608, 8, 7), ()),
    "untied (4B to 8B)": (qwen3(128, 384, 8, 5), qwen3(256, 768, 8, 5, tied=False), ()),
    "OLMo, whose tied head cannot grow": (
        config(OlmoConfig, "OlmoForCausalLM", hidden_size=24, intermediate_size=40, num_attention_heads=2,
               num_hidden_layers=2, tie_word_embeddings=True),
        config(OlmoConfig, "OlmoForCausalLM", hidden_size=48, intermediate_size=80, num_attention_heads=4,
               num_hidden_layers=3, tie_word_embeddings=False),
        (),
    ),
    "a pattern of layers": (
        config(Gemma2Config, "Gemma2ForCausalLM", hidden_size=32, intermediate_size=48, num_attention_heads=4,
               num_key_value_heads=2, head_dim=8, num_hidden_layers=4),
        config(Gemma2Config, "Gemma2ForCausalLM", hidden_size=64, intermediate_size=96, num_attention_heads=8,
               num_key_value_heads=4, head_dim=8, num_hidden_layers=6),
        (),
    ),
    "windows from a layer on": (
        config(Qwen2Config, "Qwen2ForCausalLM", hidden_size=32, intermediate_size=48, num_attention_heads=4,
               num_key_value_heads=2, num_hidden_layers=3, max_window_layers=2, use_sliding_window=True),
        config(Qwen2Config, "Qwen2ForCausalLM", hidden_size=64, intermediate_size=96, num_attention_heads=8,
               num_key_value_heads=4, num_hidden_layers=5, max_window_layers=3, use_sliding_window=True),
        (),
    ),
    "two lists": (
        config(T5Config, "T5ForConditionalGeneration", d_model=32, d_kv=8, d_ff=48, num_heads=4, num_layers=2),
        config(T5Config, "T5ForConditionalGeneration", d_model=64, d_kv=8, d_ff=96, num_heads=8, num_layers=3,
               num_decoder_layers=4),
        (),
    ),
    "two lists, each with its field": (
        config(MBartConfig, "MBartForConditionalGeneration", d_model=32, encoder_layers=2, decoder_layers=2,
               encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=40, decoder_ffn_dim=48),
        config(MBartConfig, "MBartForConditionalGeneration", d_model=64, encoder_layers=3, decoder_layers=2,
               encoder_attention_heads=8, decoder_attention_heads=8, encoder_ffn_dim=80, decoder_ffn_dim=96),
        (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_model_is_reached(name: str) -> None:
    small, other, but = OTHERS[name]
    plan = check_reached(small, other, but)
    assert json.loads(json.dumps(plan.to_json()["options"]["like"])) == json.loads(json.dumps(other.to_dict()))


def tower(width: int, layers: int) -> dict[str, Any]:
    heads = {"num_attention_heads": width // 8, "num_hidden_layers": layers}
    return {"hidden_size": width, "intermediate_size": 2 * width, "vocab_size": 97, **heads}


def test_both_towers_are_reached() -> None:
    image = {"image_size": 16, "patch_size": 8}

    def siglip(text: tuple[int, int], vision: tuple[int, int]) -> PreTrainedConfig:
        sections = {
            "text_config": {**tower(*text), "projection_size": text[0]},
            "vision_config": tower(*vision) | image,
        }
        return SiglipConfig(**sections, architectures=["SiglipModel"])

    plan = plan_widening(siglip((24, 2), (24, 2)), like=siglip((24, 3), (24, 4)))
    assert plan.config_changes.keys() == {"text_config.num_hidden_layers", "vision_config.num_hidden_layers"}


@pytest.mark.parametrize("asked", [{"layers": 5}, {"experts": 8}])
def test_what_the_caller_names_overrides_what_does_not_differ(asked: dict[str, int]) -> None:
    """The other model has as many layers and experts as this one."""
    sizes = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2, "num_local_experts": 4}
    small, large = (
        MixtralConfig(hidden_size=width, intermediate_size=2 * width, vocab_size=99, **sizes) for width in (32, 64)
    )
    plan = plan_widening(small, like=large, **asked)  # type: ignore[arg-type]
    grown = (plan.new["num_hidden_layers"], plan.new["num_local_experts"], plan.new["hidden_size"])
    assert grown == (asked.get("layers", 2), asked.get("experts", 4), 64)
    assert not any("num_" in note and "function needs it" in note for note in plan.notes)


def test_what_the_caller_names_overrides_the_other_model() -> None:
    small, other, _ = OTHERS["all at once (1.7B to 4B)"]
    plan = plan_widening(small, like=other, layers=9, heads="keep")
    assert plan.new_sizes["num_hidden_layers"] == 9 and plan.new_sizes["num_attention_heads"] == 4
    assert missed(plan, other).keys() >= {"num_hidden_layers", "num_attention_heads"}
    deeper = plan_widening(small, like=OTHERS["pure width (0.6B to 1.7B)"][1], layers=9, keep="hidden_size")
    assert deeper.new_sizes["num_hidden_layers"] == 9
    assert plan_widening(small, like=other, untie=True).new_config["tie_word_embeddings"] is False


LARGE = {**SMOLLM, "hidden_size": 1152, "num_attention_heads": 18, "num_key_value_heads": 6, "intermediate_size": 3072}
BEYOND: dict[str, tuple[dict[str, Any], str]] = {
    "vocab": ({"vocab_size": 99}, r"vocab_size 99 \(97 here\)"),
    "positions": ({"max_position_embeddings": 128}, r"max_position_embeddings 128 \(64 here\)"),
    "heads": ({"num_attention_heads": 6, "num_key_value_heads": 3}, r"num_attention_heads 6 \(9 here\)"),
    "layers": ({"num_hidden_layers": 1}, r"num_hidden_layers 1 \(2 here\)"),
    "rope": ({"rope_theta": 5e5}, r"rope_parameters .*500000.* here\)"),
    "epsilon": ({"rms_norm_eps": 1e-3}, r"rms_norm_eps 0.001 \(1e-06 here\)"),
    "activation": ({"hidden_act": "gelu"}, r'hidden_act "gelu" \("silu" here\)'),
    "attention_bias": ({"attention_bias": True}, r"attention_bias true \(false here\)"),
}


@pytest.mark.parametrize("word", BEYOND)
def test_what_cannot_be_taken_is_named_with_the_word_that_keeps_it(word: str) -> None:
    changed, says = BEYOND[word]
    said = refused(SMOLLM, like={**LARGE, **changed})
    assert f"Add --keep {word} (in Python keep=('{word}',)) to take all else." in said
    assert re.search(says, said)
    plan = plan_widening(SMOLLM, like={**LARGE, **changed}, keep=word)
    assert any(note.startswith("kept, though the other model differs: ") for note in plan.notes)
    assert plan.new_sizes["intermediate_size"] == 3072


def test_all_that_cannot_be_taken_is_named_at_once() -> None:
    other = {**LARGE, "vocab_size": 99, "num_hidden_layers": 1, "hidden_act": "gelu"}
    said = refused(SMOLLM, like=other)
    assert "--keep layers,activation,vocab (in Python keep=('layers', 'activation', 'vocab'))" in said
    more = refused(SMOLLM, like=other, keep=["vocab"])
    assert "--keep vocab,layers,activation " in more and "vocab_size" not in more
    assert plan_widening(SMOLLM, like=other, keep="vocab, layers,activation").options.keep[0] == "vocab"


def test_ties() -> None:
    """A model without a head has nothing to untie, and two matrices that differ cannot become one."""
    bare = {**SMOLLM, "architectures": ["LlamaModel"]}
    assert "Add --keep ties " in refused(bare, like={**LARGE, "tie_word_embeddings": False})
    untied = {**SMOLLM, "tie_word_embeddings": False}
    assert "tie_word_embeddings true (false here)" in refused(untied, like=LARGE)
    assert plan_widening(untied, like=LARGE, keep="ties").new_config["tie_word_embeddings"] is False


def test_a_model_of_another_type_lends_its_sizes_where_the_type_is_kept() -> None:
    other = LlamaConfig(**{name: value for name, value in LARGE.items() if name != "model_type"})
    qwen = config(Qwen2Config, "Qwen2ForCausalLM", hidden_size=576, intermediate_size=1536, num_attention_heads=9,
                  num_key_value_heads=3, num_hidden_layers=1)  # fmt: skip
    assert 'model_type "llama" ("qwen2" here)' in refused(qwen, like=other)
    plan = plan_widening(qwen, like=other, keep="model_type")
    assert plan.new_sizes["hidden_size"] == 1152 and plan.new_sizes["num_hidden_layers"] == 2
    assert plan.new_config["max_position_embeddings"] == qwen.max_position_embeddings


def test_layers_that_cannot_be_exact_are_refused_with_the_word_that_keeps_them() -> None:
    bert = config(BertConfig, "BertForMaskedLM", num_hidden_layers=1)
    other = config(BertConfig, "BertForMaskedLM", num_hidden_layers=2, hidden_size=1536, num_attention_heads=24,
                   intermediate_size=6144)  # fmt: skip
    assert "a new layer of this bert cannot be exact" in (said := refused(bert, like=other))
    assert said.endswith("Add --keep layers (in Python keep=('layers',)) to take all else of the other model.")
    assert plan_widening(bert, like=other, keep="layers").new_sizes["hidden_size"] == 1536


def test_words() -> None:
    assert "did you mean 'vocab'?" in refused(SMOLLM, like=LARGE, keep="vocb")
    assert "none is named: vocab" in refused(SMOLLM, keep="vocab")
    plan = plan_widening(SMOLLM, like=LARGE, keep=("kv-heads", "rope_parameters", "vocab"))
    assert plan.new_sizes["num_key_value_heads"] == 3 and plan.options.keep[0] == "kv_heads"
    assert any(note.startswith("keep vocab changes nothing here") for note in plan.notes)


def test_a_dictionary_of_sizes_stays() -> None:
    plan = plan_widening(SMOLLM, like={"hidden_size": 1152, "num_hidden_layers": 3, "unknown": 5})
    assert plan.new_sizes["num_hidden_layers"] == 3 and plan.new_sizes["hidden_size"] == 1152
    assert plan.to_json()["options"]["like"] == {"hidden_size": 1152, "num_hidden_layers": 3, "unknown": 5}


def blind_to_fields(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(beside.Beside, "fields", lambda self: iter(()))


def without_the_other_pattern(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(taken_over.TakenOver, "request", property(lambda self: self.options.extends))


def nothing_adopted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(taken_over, "reached", lambda taken, config: (config, ()))
    from growth.plan import build

    patch.setattr(build, "reached", lambda taken, config: (config, ()))


def layers_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(beside.Beside, "layers", lambda self: iter(()))


def ties_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(beside.Beside, "ties", lambda self: iter(()))


def stale(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(layer_config, "_holding", lambda config, fields: config)


MUTANTS = [
    (blind_to_fields, lambda: test_what_cannot_be_taken_is_named_with_the_word_that_keeps_it("vocab")),
    (without_the_other_pattern, lambda: test_the_other_model_is_reached("windows from a layer on")),
    (nothing_adopted, test_the_published_config_is_reached_field_by_field),
    (layers_forgotten, lambda: test_the_other_model_is_reached("two lists")),
    (ties_forgotten, lambda: test_the_other_model_is_reached("untied (4B to 8B)")),
    (stale, lambda: test_stale_fields_follow()),
]


@pytest.mark.parametrize(("wrong", "check"), MUTANTS, ids=lambda one: getattr(one, "__name__", ""))
def test_a_wrong_version_is_seen(wrong: Any, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong(monkeypatch)
    with pytest.raises((AssertionError, GrowthError, pytest.fail.Exception)):
        check()


def test_stale_fields_follow() -> None:
    """Files of older versions write BART's number of encoder layers twice."""
    small = {**OTHERS["two lists, each with its field"][0].to_dict(), "num_hidden_layers": 2}
    plan = plan_widening(small, sizes={"encoder_layers": 4})
    assert plan.new_config["num_hidden_layers"] == plan.new_config["encoder_layers"] == 4
    assert plan.new_config["decoder_layers"] == 2
    null = {**OTHERS["two lists"][0].to_dict(), "num_decoder_layers": None}
    absent = {name: value for name, value in null.items() if value is not None}
    asked = ({"encoder.num_hidden_layers": 3}, {"num_layers": 3, "num_decoder_layers": "keep"})
    for t5, choices in ((null, asked[0]), (absent, asked[0]), (absent, asked[1])):
        plan = plan_widening(t5, sizes=choices)
        read = AutoConfig.for_model("t5").from_dict(plan.new_config)
        assert (read.num_layers, read.num_decoder_layers) == (3, 2)
