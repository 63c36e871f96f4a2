"""Sizes of a section that follow another section's: a class that finds them unequal sets more than them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

import growth
from growth.plan import candidate


def perceiver() -> dict[str, Any]:
    """A config whose resampler has an epsilon of its own, and as many features as the text."""
    raw: dict[str, Any] = json.loads(CONFIG_MAPPING["idefics2"]().to_json_string(use_diff=False))
    tokens = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    raw["vision_config"] |= tokens | {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 1}
    assert raw["perceiver_config"]["rms_norm_eps"] != raw["text_config"]["rms_norm_eps"]
    return {**raw, "architectures": ["Idefics2ForConditionalGeneration"]}


@pytest.mark.slow
@pytest.mark.parametrize("said", [True, False], ids=["written", "left out"])
def test_a_section_that_follows_keeps_its_epsilon(said: bool) -> None:
    raw = perceiver()
    if not said:
        del raw["perceiver_config"]["hidden_size"]
    plan = growth.plan_widening(raw, width=2)
    section = plan.new.parsed.perceiver_config
    assert section.hidden_size == plan.new.parsed.text_config.hidden_size == 2 * 4096
    assert section.rms_norm_eps == plan.old.parsed.perceiver_config.rms_norm_eps


def test_without_writing_them_the_epsilon_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = perceiver()
    del raw["perceiver_config"]["hidden_size"]
    monkeypatch.setattr(candidate, "_beside_moved", lambda *given: set())
    plan = growth.plan_widening(raw, width=2)
    assert plan.new.parsed.perceiver_config.rms_norm_eps != plan.old.parsed.perceiver_config.rms_norm_eps
