"""The inputs that growth makes up itself fit the model, whatever token ids its config names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BartConfig, BartForSequenceClassification, SiglipConfig, SiglipModel

import growth
from growth.proof.inputs import few_inputs

TEXT = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 20}
VISION = {**TEXT, "image_size": 16, "patch_size": 8}


def siglip(vocabulary: int = 60, **more: Any) -> SiglipModel:
    """As published: `eos_token_id` is the class's default, 49407, which the vocabulary does not have."""
    torch.manual_seed(0)
    text = {**TEXT, "vocab_size": vocabulary, "max_position_embeddings": 20, **more}
    return SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))


@pytest.mark.parametrize("eos", [49407, 60, -1, None], ids=str)
def test_a_token_that_the_vocabulary_does_not_have_is_not_used(eos: int | None) -> None:
    (first, _) = few_inputs(siglip(eos_token_id=eos))
    assert first["input_ids"].min() >= 0 and first["input_ids"].max() < 60
    assert (next(few_inputs(siglip(eos_token_id=7)))["input_ids"][:, -1] == 7).all(), "where there is one, it is"


def test_siglip_as_published_grows_in_memory_and_is_verified(tmp_path: Path) -> None:
    model = siglip()
    assert growth.widen(model, width=2).proof.run is not None
    model.save_pretrained(tmp_path / "small")
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", width=2)
    assert growth.check_equivalence(tmp_path / "small", tmp_path / "wide", device="cpu").equal


@pytest.mark.parametrize("start", [99, None], ids=str)
def test_a_decoder_starts_with_a_token_that_is_there(start: int | None) -> None:
    sizes = {"d_model": 16, "encoder_ffn_dim": 20, "decoder_ffn_dim": 20, "max_position_embeddings": 40}
    layers = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    config = BartConfig(**sizes, **layers, vocab_size=60, decoder_start_token_id=start, eos_token_id=[2, 3])
    model = BartForSequenceClassification(config)
    assert next(few_inputs(model))["decoder_input_ids"].max() < 60
