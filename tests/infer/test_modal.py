"""Miniatures of models of images or sounds and text: they run, the image matters, they grow."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, PreTrainedModel

import growth
from growth.architectures.sizes import value_at
from growth.hf.configs import Config
from growth.hf.model_classes import class_of
from growth.hf.nested import nested_sections, plain_fields
from growth.infer.pair import Pair, pair
from growth.infer.readings import READINGS
from growth.infer.tower_drafts import draft
from growth.infer.tower_growth import text_growth
from growth.infer.towers import tower_sections
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import build_exact, loud
from growth.proof.modal_check import outputs_of, why_ignored
from growth.proof.modal_inputs import modal_inputs
from growth.proof.special_tokens import placeholder, small_tokens

PAIRS = {
    "llava": "LlavaForConditionalGeneration",
    "gemma3": "Gemma3ForConditionalGeneration",
}
SLOW = {
    "idefics3": "Idefics3ForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
    "qwen2_audio": "Qwen2AudioForConditionalGeneration",
    "florence2": "Florence2ForConditionalGeneration",
    "mllama": "MllamaForConditionalGeneration",
    "mistral3": "Mistral3ForConditionalGeneration",
    "paligemma": "PaliGemmaForConditionalGeneration",
    "llava_next": "LlavaNextForConditionalGeneration",
    "t5gemma2": "T5Gemma2ForConditionalGeneration",
    "blip": "BlipForConditionalGeneration",
    "pix2struct": "Pix2StructForConditionalGeneration",
    "smolvlm": "SmolVLMForConditionalGeneration",
    "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration",
}


def written(model_type: str, model_class: str) -> dict[str, Any]:
    """The config.json of a class's default config."""
    raw: dict[str, Any] = json.loads(CONFIG_MAPPING[model_type]().to_json_string())
    return {**raw, "architectures": [model_class]}


@cache
def found(model_type: str) -> Pair:
    """The pair of a type, for several tests."""
    raw = written(model_type, {**PAIRS, **SLOW}[model_type])
    return pair(raw, class_of(raw))


def built(two: Pair) -> PreTrainedModel:
    """The miniature, with weights that all matter."""
    model = build_exact(two.small)
    loud(model)
    return model


@pytest.mark.parametrize("model_type", [*PAIRS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_a_miniature_and_its_growth_run_with_what_is_seen_or_heard(model_type: str) -> None:
    two = found(model_type)
    raw = {name for name in two.inputs if name.startswith(("pixel", "input_features", "flattened"))}
    assert raw
    with exact_arithmetic():
        model = built(two)
        assert why_ignored(model, two.inputs, raw) is None
        small, grown = outputs_of(model, two.inputs), outputs_of(build_exact(two.wide), two.inputs)
    assert small["logits"].shape == grown["logits"].shape
    for path, ratio in two.ratios.items():
        assert value_at(two.wide.parsed, path) == ratio * value_at(two.small.parsed, path)


def test_widths_of_heads_and_kernels_are_those_of_the_user() -> None:
    raw = written("gemma3", PAIRS["gemma3"])
    user, small = Config(raw).parsed, draft(Config(raw), READINGS[0]).small.parsed
    for path in ("text_config.head_dim", "vision_config.patch_size", "text_config.query_pre_attn_scalar"):
        assert value_at(small, path) == value_at(user, path)
    assert small.vision_config.hidden_size // small.vision_config.num_attention_heads == 64
    assert {*small.text_config.layer_types} == {*user.text_config.layer_types}


def test_towers_that_are_not_named_stay() -> None:
    towers = tower_sections(CONFIG_MAPPING["qwen3_vl"]())
    text = text_growth(towers)
    assert text["text_config.hidden_size"] == text["vision_config.out_hidden_size"] == 2
    assert "vision_config.hidden_size" not in text


def test_a_named_tower_grows_by_its_own_ratio() -> None:
    raw = written("llava", PAIRS["llava"])
    ratios = pair(raw, class_of(raw), ("text", "vision")).ratios
    assert (ratios["text_config.hidden_size"], ratios["vision_config.hidden_size"]) == (2, 3)


def test_a_model_that_ignores_its_image_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model, inputs and check as above, with features that no longer come from the image."""
    two = found("llava")
    with exact_arithmetic():
        model: Any = built(two)
    inner = type(model.model)
    read = inner.get_image_features

    def blind(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = read(self, *args, **kwargs)
        result.pooler_output = [torch.ones_like(features) for features in result.pooler_output]
        return result

    with exact_arithmetic():
        assert why_ignored(model, two.inputs, {"pixel_values"}) is None
        monkeypatch.setattr(inner, "get_image_features", blind)
        said = why_ignored(model, two.inputs, {"pixel_values"})
        assert said == "the outputs are the same with other pixel_values"
        with pytest.raises(growth.UnsupportedModelError, match="no inputs with images or sounds"):
            modal_inputs(model)


def test_a_tower_whose_weights_do_not_matter_is_found_out() -> None:
    """Pixels that reach the text by another way than the first module which reads them."""

    class Beside(torch.nn.Module):
        device, dtype = "cpu", torch.float32

        def __init__(self) -> None:
            super().__init__()
            self.tower, self.head = torch.nn.Linear(4, 3), torch.nn.Linear(4, 3)

        def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
            read = self.tower(pixel_values)
            return {"logits": self.head(pixel_values) + 0 * read}

    said = why_ignored(Beside(), {"pixel_values": torch.ones(2, 4)}, {"pixel_values"})  # type: ignore[arg-type]
    assert said == "the outputs are the same with other weights in tower"


def test_a_class_without_images_has_no_inputs() -> None:
    raw = {**written("llama", "LlamaForCausalLM"), "vocab_size": 64, "hidden_size": 32, "intermediate_size": 16}
    raw |= {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    with exact_arithmetic():
        model = build_exact(raw)
        loud(model)
        with pytest.raises(growth.UnsupportedModelError, match="takes neither images nor sounds"):
            modal_inputs(model)


def test_special_tokens_stay_distinct_and_in_order() -> None:
    config = CONFIG_MAPPING["qwen2_vl"]()
    found = small_tokens(nested_sections(config))
    names = [name for name in plain_fields(config) if name.endswith("_token_id") and name in found]
    users = sorted(names, key=lambda name: getattr(config, name))
    assert users == sorted(names, key=lambda name: found[name])
    assert len({found[name] for name in names}) == len(names)
    assert all(found[name] < found["text_config.vocab_size"] for name in names)
    assert placeholder(config, "image") == config.image_token_id
