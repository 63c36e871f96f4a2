"""A model in training that becomes like another one: wider, deeper and untied at once, with its
optimizer."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaForCausalLM

import growth
from growth.hf.config_comparison import alike, fields_of
from growth.hf.configs import Config
from support.other_models import SMOLLM2_135M, SMOLLM2_360M


def narrow(published: dict[str, object], layers: int, **changes: object) -> Config:
    """A published SmolLM2, a sixteenth as wide."""
    sizes = {name: int(str(published[name])) // 16 for name in ("hidden_size", "intermediate_size")}
    return Config({**published, **sizes, "num_hidden_layers": layers, "vocab_size": 97, "dtype": "float32", **changes})


def test_training_goes_on_under_the_other_models_config() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(narrow(SMOLLM2_135M, 3).parsed)
    other = narrow(SMOLLM2_360M, 4, tie_word_embeddings=False, attention_dropout=0.25)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(0, 97, (2, 12))
    for _ in range(3):
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
    before = model(tokens, labels=tokens).loss
    grown = growth.widen(model, like=other, noise=1, optimizer=optimizer)
    after = grown.model(tokens, labels=tokens).loss
    assert after.item() == pytest.approx(before.item(), rel=1e-5)
    after.backward()
    grown.optimizer.step()
    assert grown.model(tokens, labels=tokens).loss < after
    own, wanted = fields_of(grown.model.config), fields_of(other.parsed)
    differing = {name for name in {*own, *wanted} if not alike(own.get(name), wanted.get(name))}
    assert differing <= {"rms_norm_eps", "attention_dropout", "_name_or_path", "architectures", "transformers_version"}
    assert any("attention_dropout 0.25 (0.0 here)" in note for note in grown.plan.notes)
