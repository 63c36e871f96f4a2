"""`growth.infer_declaration` and ``grow architectures`` of what nobody declared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from transformers import ApertusConfig, ApertusForCausalLM, LlamaConfig

import growth
from growth.architectures import as_python, registry
from growth.cli.main import grow
from support.own_styles import STYLES

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def run(text: str) -> growth.Architecture:
    """The declaration that a printed file makes."""
    names: dict[str, Any] = {}
    exec(text, names)
    (found,) = (value for value in names.values() if isinstance(value, growth.Architecture))
    return found


def test_one_declaration_whatever_it_is_asked_of(tmp_path: Path) -> None:
    config = ApertusConfig(**SMALL)
    found = growth.infer_declaration(config)
    (tmp_path / "config.json").write_text(json.dumps({**config.to_dict(), "architectures": ["ApertusForCausalLM"]}))
    assert found == growth.infer_declaration(tmp_path / "config.json")
    assert found == growth.infer_declaration(ApertusForCausalLM(config)) == run(as_python(found))


def test_what_is_printed_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    config = ApertusConfig(**SMALL, architectures=["ApertusForCausalLM"])
    before = growth.plan_widening(config, width=2)
    growth.register(run(as_python(growth.infer_declaration(config))))
    after = growth.plan_widening(config, width=2)
    assert any("was inferred" in note for note in before.notes) and not any("inferred" in note for note in after.notes)
    assert before.new_config == after.new_config and before.tensors.keys() == after.tensors.keys()


@pytest.mark.parametrize("name", ["actor and critic", "nn.LSTM", "nested dataclasses"])
def test_of_a_module(name: str) -> None:
    style = STYLES[name]
    model = style.make()
    found = growth.infer_declaration(model, **style.told)
    assert found.model_type == type(model).__name__ and run(as_python(found)) == found
    assert "Left out" not in as_python(found)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(growth.UnsupportedModelError, match="say how a module in memory is built and run"):
        growth.infer_declaration(LlamaConfig(), build=lambda config: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(growth.CheckpointError):
        growth.infer_declaration("no/such/folder")


def test_the_command_prints_what_was_inferred(tmp_path: Path) -> None:
    config = {**ApertusConfig(**SMALL).to_dict(), "architectures": ["ApertusForCausalLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")  # no weight is read
    shown = CliRunner().invoke(grow, ["architectures", str(tmp_path)])
    assert shown.exit_code == 0 and "apertus: ApertusForCausalLM, inferred on a miniature" in shown.output
    assert "layers.*.mlp.down_proj.weight" in shown.output
    printed = CliRunner().invoke(grow, ["architectures", str(tmp_path), "--python"]).output
    assert run(printed) == growth.infer_declaration(config)
    as_json = json.loads(CliRunner().invoke(grow, ["architectures", str(tmp_path), "--json"]).output)
    assert as_json["inferred"] and as_json["classes"] == ["ApertusForCausalLM"]
    declared = json.loads(CliRunner().invoke(grow, ["architectures", "llama", "--json"]).output)
    assert not declared["inferred"]
    wrong = CliRunner().invoke(grow, ["architectures", "lama"])
    assert wrong.exit_code and "Did you mean llama?" in str(wrong.output) + str(wrong.exception)


@pytest.mark.slow
def test_a_model_type_alone_has_its_default_config() -> None:
    shown = CliRunner().invoke(grow, ["architectures", "qwen3_next"])
    assert "qwen3_next: Qwen3NextForCausalLM, inferred on a miniature" in shown.output
