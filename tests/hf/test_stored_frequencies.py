"""Rotary frequencies stored in the checkpoint. Whether they are rounded, named as in old files or left
out, the wide model rotates by the same frequencies as the small one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import growth
from growth.errors import IllegalGrowthError
from growth.plan.plan import TOLERANCE
from growth.proof.inputs import random_inputs
from growth.proof.miniature import build_exact, loud
from growth.proof.outputs import forward, largest_difference
from support.families import VOCABULARY, exact

exactly = pytest.fixture(exact, autouse=True)

State = dict[str, Tensor]

_SIZES = {
    "hidden_size": 18,
    "num_attention_heads": 3,
    "intermediate_size": 29,
    "num_hidden_layers": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 50,
    "layer_norm_eps": 0.03,
    "pad_token_id": 1,
    "mask_token_id": 3,
}
ESM = {
    "model_type": "esm",
    "architectures": ["EsmForMaskedLM"],
    "position_embedding_type": "rotary",
    "token_dropout": True,
    **_SIZES,
}
ROFORMER = {"model_type": "roformer", "architectures": ["RoFormerForMaskedLM"], "rotary_value": True, **_SIZES}
STORED = {
    "esm": "esm.encoder.layer.*.attention.self.rotary_embeddings.inv_freq",
    "roformer": "roformer.encoder.embed_positions.weight",
}


def as_saved(state: State, name: str) -> State:
    return state


def rounded(state: State, name: str) -> State:
    return {**state, name: state[name].to(torch.bfloat16).to(torch.float64)}


def per_layer(state: State, name: str) -> State:
    value = state.pop(name).to(torch.bfloat16).to(torch.float64)
    return {**state, **{name.replace("*", str(layer)): value.clone() for layer in range(2)}}


def left_out(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


CASES = [
    (ESM, as_saved),
    (ESM, rounded),
    (ESM, per_layer),
    (ESM, left_out),
    (ROFORMER, as_saved),
    (ROFORMER, rounded),
    (ROFORMER, left_out),
]


def stored(raw: dict[str, Any], change: Callable[[State, str], State], folder: Path) -> Path:
    model = build_exact(raw)
    loud(model, 1)
    if raw is ROFORMER:
        table = model.roformer.encoder.embed_positions
        table.weight.copy_(table.create_weight())
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file), STORED[raw["model_type"]]), file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("attention", ["heads", "head-dim"])
@pytest.mark.parametrize(
    ("raw", "change"), CASES, ids=lambda value: value["model_type"] if isinstance(value, dict) else value.__name__
)
def test_the_wide_model_rotates_by_the_stored_frequencies(
    raw: dict[str, Any], change: Callable[[State, str], State], attention: str, tmp_path: Path
) -> None:
    with torch.no_grad():
        source = stored(raw, change, tmp_path / "small")
    plan = growth.widen_checkpoint(source, tmp_path / "wide", width=3, attention=attention).plan
    cls = getattr(transformers, raw["architectures"][0])
    small, wide = (
        cls.from_pretrained(tmp_path / name, dtype=torch.float64, attn_implementation="eager").eval()
        for name in ("small", "wide")
    )
    inputs = random_inputs(small, VOCABULARY, length=30)
    assert largest_difference(forward(small, inputs), forward(wide, inputs), plan) <= TOLERANCE
    if raw is ESM:
        tokens = inputs["input_ids"].clamp(4)
        contacts = [model.predict_contacts(tokens, torch.ones_like(tokens)) for model in (small, wide)]
        assert (contacts[0] - contacts[1]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("raw", [ESM, ROFORMER], ids=lambda raw: raw["model_type"])
def test_repeated_pairs_are_refused_where_the_code_fixes_the_frequencies(raw: dict[str, Any]) -> None:
    with pytest.raises(IllegalGrowthError, match="the model's code fixes the rotary frequencies"):
        growth.plan_widening(raw, attention="head-dim", rope="pairs")
