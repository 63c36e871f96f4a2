"""The inputs on which a model of an unknown class is compared."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from growth.errors import UnsupportedModelError
from growth.hf.configs import Config
from growth.hf.model_classes import class_of
from growth.infer.infer import infer
from growth.infer.pair import attempts
from growth.proof import unknown_inputs
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import few_inputs, random_inputs
from growth.proof.miniature import VOCABULARY, build_exact, loud
from growth.proof.outputs import forward
from growth.proof.unknown_inputs import inputs_that_run

SMALL = {"num_hidden_layers": 2, "hidden_size": 48, "intermediate_size": 40, "num_attention_heads": 4}
RAW: dict[str, dict[str, Any]] = {
    "xmod": {"architectures": ["XmodForMaskedLM"], "languages": ["en_XX", "de_DE"], **SMALL},  # wants a language
    "tapas": {"architectures": ["TapasForMaskedLM"], **SMALL},  # seven kinds of segments to a token
}
RAW = {name: {"model_type": name, **raw} for name, raw in RAW.items()}


@pytest.mark.parametrize("model_type", RAW)
def test_a_model_runs_on_its_inputs(model_type: str) -> None:
    with exact_arithmetic():
        model = build_exact({**RAW[model_type], "vocab_size": 60})
        loud(model)
        for length in (11, 6):
            inputs = random_inputs(model, VOCABULARY, length=length)
            assert inputs["input_ids"].shape == (2, length)
            assert all(bool(value.isfinite().all()) for value in forward(model, inputs).values())


def test_what_the_first_inputs_lack_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with exact_arithmetic():
        model = build_exact({**RAW["xmod"], "vocab_size": 60})
        first = next(iter(unknown_inputs.inputs_to_try(model, VOCABULARY)))
        monkeypatch.setattr(unknown_inputs, "inputs_to_try", lambda *_, **__: iter([first]))
        with pytest.raises(ValueError, match="language"):
            inputs_that_run(model, VOCABULARY)


def test_numbers_that_are_not_finite_are_no_outputs() -> None:
    with exact_arithmetic():
        raw = {"model_type": "apertus", "architectures": ["ApertusForCausalLM"], "num_key_value_heads": 4}
        model = build_exact({**raw, **SMALL, "vocab_size": 60})
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))
        with pytest.raises(UnsupportedModelError, match="not finite"):
            inputs_that_run(model, VOCABULARY)


def test_a_real_model_is_given_the_same_to_try() -> None:
    model = class_of(RAW["xmod"])(Config({**RAW["xmod"], "vocab_size": 60}).parsed).eval()
    assert any("lang_ids" in inputs for inputs in few_inputs(model))


def test_fields_that_disagree_are_named() -> None:
    raw = {"model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"]}
    with pytest.raises(UnsupportedModelError) as error:
        infer(raw, class_of(raw))
    assert "text_config.hidden_size is 4096 and vision_config.out_hidden_size 3584" in str(error.value)


def test_a_class_of_images_alone_is_read_in_both_ways() -> None:
    raw = {"model_type": "convnext", "architectures": ["ConvNextForImageClassification"]}
    kinds = {attempt.func.__module__ for attempt in attempts(Config(raw), class_of(raw))}  # type: ignore[attr-defined]
    assert kinds == {"growth.infer.levels", "growth.infer.tower_drafts"}
