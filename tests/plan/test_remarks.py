"""What a plan says of configs that releases of transformers read differently."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoConfig

import growth
from growth.architectures.families.t5 import output_remarks


def remarks(model_type: str, model_class: str = "", **written: Any) -> list[str]:
    """The notes on a config as it stands in the file, with some fields written and None left out."""
    sizes = {"d_model": 24, "d_kv": 5, "d_ff": 40, "num_layers": 1, "num_heads": 3, "vocab_size": 61}
    named = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}[model_type] + "ForConditionalGeneration"
    raw = {"model_type": model_type, "architectures": [model_class or named], **sizes, **written}
    return [note for note in growth.plan_widening(raw, noise=1).notes if "transformers 4" in note]


OTHERWISE: list[tuple[str, dict[str, Any], str]] = [
    ("t5", {"tie_word_embeddings": True, "scale_decoder_outputs": False}, "is true, and multiplies"),
    ("t5", {"scale_decoder_outputs": False}, "is true, and multiplies"),
    ("t5", {"tie_word_embeddings": False, "scale_decoder_outputs": True}, "is false, and does not multiply"),
    ("mt5", {"tie_word_embeddings": True}, "is true, and multiplies"),
    ("umt5", {"tie_word_embeddings": False}, "is false, and does not multiply"),
]
ALIKE: list[tuple[str, dict[str, Any]]] = [
    ("t5", {}),
    ("t5", {"tie_word_embeddings": False}),
    ("t5", {"tie_word_embeddings": False, "scale_decoder_outputs": False}),
    ("t5", {"tie_word_embeddings": True, "scale_decoder_outputs": True}),
    ("mt5", {"tie_word_embeddings": False}),
    ("mt5", {}),
    ("umt5", {"tie_word_embeddings": True}),
]


@pytest.mark.parametrize(("model_type", "written", "says"), OTHERWISE)
def test_what_transformers_4_reads_otherwise_is_said(model_type: str, written: dict[str, Any], says: str) -> None:
    (note,) = remarks(model_type, **written)
    assert says in note and note.endswith("so use 5 for both")


@pytest.mark.parametrize(("model_type", "written"), ALIKE)
def test_what_both_read_alike_is_not(model_type: str, written: dict[str, Any]) -> None:
    assert not remarks(model_type, **written)


def test_what_transformers_5_saves_of_an_untied_model_is_said() -> None:
    saved = AutoConfig.for_model("t5", tie_word_embeddings=False).to_dict()
    assert saved["tie_word_embeddings"] is True and saved["scale_decoder_outputs"] is False
    assert remarks("t5", **{name: saved[name] for name in ("tie_word_embeddings", "scale_decoder_outputs")})


def test_an_encoder_has_no_such_output() -> None:
    assert not remarks("t5", "T5EncoderModel", scale_decoder_outputs=False)


def test_one_default_for_both_families_is_seen() -> None:
    declared = growth.architectures.find("mt5")
    wrong = output_remarks(declared.constants["output_scale"], tied=True)
    config = growth.plan_widening({"model_type": "mt5", "architectures": ["MT5ForConditionalGeneration"]}).old
    assert list(wrong(config, "MT5ForConditionalGeneration"))
    assert not list(declared.remarks(config, "MT5ForConditionalGeneration"))
