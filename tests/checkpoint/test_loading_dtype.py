"""A config that names a coarser dtype than the weights are stored in: what loading makes of copies that
differ is said, and the remedy that is named works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import growth
from support.small_models import llama

SAID = "copies that differ then no longer add up to the last bit"
IDS = torch.arange(2, 42).reshape(2, 20)


def stored(folder: Path, said: str, field: str = "dtype") -> Path:
    """Weights in float32 under a config that says something else, as merged shards come."""
    llama().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps({**config, field: said}))
    return folder


def logits(folder: Path) -> Tensor:
    """What the weights compute as they are loaded by default, in exact arithmetic."""
    with torch.no_grad():
        found: Tensor = AutoModelForCausalLM.from_pretrained(folder).double()(IDS).logits
    return found


def noted(result: Any) -> bool:
    return any(SAID in note for note in getattr(result, "plan", result).notes)


@pytest.mark.parametrize("choice", [{"noise": 1}, {"symmetry": "split:1/2"}], ids=["noise", "split"])
def test_what_loading_rounds_is_said_and_its_remedy_is_exact(choice: dict[str, Any], tmp_path: Path) -> None:
    source = stored(tmp_path / "small", "bfloat16")
    result = growth.widen_checkpoint(source, tmp_path / "wide", width=2, **choice)
    assert noted(result) and noted(growth.plan_widening(source, width=2, **choice))
    remedy = growth.widen_checkpoint(source, tmp_path / "exact", width=2, dtype="bfloat16", **choice)
    assert not noted(remedy)
    small, wide, exact = (logits(folder) for folder in (source, tmp_path / "wide", tmp_path / "exact"))
    assert (wide - small).abs().max() > 1e-3 * small.abs().max(), "as the note says"
    assert (exact - small).abs().max() < 1e-6 * small.abs().max(), "as its remedy says"


@pytest.mark.parametrize(
    ("said", "field", "choice", "expected"),
    [
        ("bfloat16", "torch_dtype", {"noise": 1}, True),
        ("float16", "dtype", {"noise": 1}, True),
        ("float32", "dtype", {"noise": 1}, False),
        ("float64", "dtype", {"noise": 1}, False),
        ("bfloat16", "dtype", {"symmetry": "none"}, False),
    ],
    ids=str,
)
def test_it_is_said_only_where_copies_differ_and_the_config_is_coarser(
    said: str, field: str, choice: dict[str, Any], expected: bool, tmp_path: Path
) -> None:
    assert noted(growth.plan_widening(stored(tmp_path / "small", said, field), width=2, **choice)) == expected
