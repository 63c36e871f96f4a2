"""What a plan says of a model that has more of something, and what is refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import BertConfig, MarianConfig, T5Config, T5ForConditionalGeneration

import growth
from growth.proof.twin import prove_twin
from support.optimizers import llama, step

T5 = {"vocab_size": 60, "d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 4}


@pytest.mark.parametrize("more", [{"decoder.num_hidden_layers": 3}, {"num_layers": 3, "num_decoder_layers": 3}])
def test_a_decoder_deeper_than_its_encoder_generates_without_a_cache(more: dict[str, Any]) -> None:
    """transformers makes a T5's cache for as many layers as the encoder has."""
    model = T5ForConditionalGeneration(T5Config(**T5, decoder_start_token_id=0)).eval()
    grown = growth.widen(model, sizes=more)
    ids = torch.arange(3, 9)[None]

    def generated(one: Any, **options: Any) -> list[int]:
        found: list[int] = one.generate(input_ids=ids, max_new_tokens=5, **options)[0].tolist()
        return found

    noted = any("use_cache=False" in note for note in grown.plan.notes)
    assert noted == ("num_layers" not in more)
    assert generated(model) == generated(grown.model, **({"use_cache": False} if noted else {}))
    if noted:
        with pytest.raises(IndexError):  # else the note is no longer true
            generated(grown.model)


def test_an_untied_head_names_each_copy_with_its_own_source() -> None:
    config = BertConfig(num_hidden_layers=1, architectures=["BertForMaskedLM"])
    (note,) = (note for note in growth.plan_widening(config, untie=True).notes if "starts as a copy" in note)
    assert "cls.predictions.decoder.weight starts as a copy of bert.embeddings.word_embeddings.weight" in note
    assert "decoder.bias starts as a copy of bert" not in note


def test_experts_of_a_model_without_any() -> None:
    with pytest.raises(growth.IllegalGrowthError, match="expert"):
        growth.plan_widening(MarianConfig(encoder_layers=1, decoder_layers=1), experts=4)


def test_a_rotary_part_that_no_small_head_has() -> None:
    raw = {"model_type": "stablelm", "num_hidden_layers": 1, "partial_rotary_factor": 1e-45}
    with pytest.raises(growth.UnsupportedModelError, match="partial_rotary_factor"):
        prove_twin(growth.plan_widening(raw, width=2))


def test_an_untied_head_and_its_source_do_not_go_on_exactly() -> None:
    """Their moments are those of the sum of both gradients."""
    model = llama(tied=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step(model, optimizer)
    grown = growth.widen(model, untie=True, optimizer=optimizer)
    assert set(grown.uneven) == {"model.embed_tokens.weight", "lm_head.weight"} and not grown.born
