"""Planning, growing in memory and growing on disk share one preparation: a config is parsed once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaForCausalLM

import growth
from growth.hf import configs
from support.small_models import llama


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Every JSON object that is parsed."""
    seen: list[dict[str, Any]] = []
    right = configs._parse
    monkeypatch.setattr(configs, "_parse", lambda raw: seen.append(dict(raw)) or right(raw))
    return seen


def repeated(seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that were parsed more than once."""
    return [raw for i, raw in enumerate(seen) if raw in seen[:i]]


def test_a_config_is_parsed_once_per_call(parses: list[dict[str, Any]], tmp_path: Path) -> None:
    model = llama()
    model.save_pretrained(tmp_path / "small")
    for call in (
        lambda: growth.plan_widening(tmp_path / "small", width=2),
        lambda: growth.plan_widening(model.config, width=1.5),
        lambda: growth.widen(model, width=2, noise=1.0),
        lambda: growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", width=3),
    ):
        parses.clear()
        call()
        assert parses and not repeated(parses)


def test_parsing_again_is_seen(parses: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a step forgets what was parsed, as each did that took the raw JSON."""
    monkeypatch.setattr(configs.Config, "of", classmethod(lambda cls, raw: cls(dict(raw))))
    growth.plan_widening(llama().config, width=2)
    assert repeated(parses)


def test_the_parsed_config_is_not_written_to(tmp_path: Path) -> None:
    """Models are built from copies: building one writes dtype and attention into its config."""
    config = configs.Config({**llama().config.to_dict(), "architectures": ["LlamaForCausalLM"]})
    before = config.parsed.to_dict()
    growth.plan_widening(config, width=2)
    assert config.parsed.to_dict() == before
    built = LlamaForCausalLM(configs.config_to_build(config))
    built.config.hidden_size = 1
    assert config.parsed.to_dict() == before


def test_a_plan_holds_configs_as_plain_json() -> None:
    plan = growth.plan_widening(llama().config, width=2)
    assert json.loads(json.dumps(plan.new_config))["hidden_size"] == 48 and plan.new_config == dict(plan.new)
    plan.old_config["hidden_size"] = 1  # a copy: the plan stays what it is
    assert plan.old_config["hidden_size"] == 24 == plan.old.parsed.hidden_size
