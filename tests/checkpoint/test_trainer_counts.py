"""Checkpoints of the real `transformers.Trainer` that get more experts or key/value heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("accelerate", reason="transformers.Trainer needs it")

from transformers import AutoModelForCausalLM

import growth
from support.trainer_runs import by_name, checkpoint, loaded, mark, run, same

CHOICES: dict[str, tuple[str, dict[str, Any]]] = {
    "key/value heads": ("llama", {"kv_heads": 4, "layers": 3}),
    "finer experts": ("mixtral", {"experts": 15, "expert_size": 4, "kv_heads": 4}),
}


@pytest.mark.parametrize(
    ("name", "moments"), [("key/value heads", "preserve"), ("finer experts", "preserve"), ("finer experts", "fresh")]
)
def test_disk_and_memory_agree_bit_for_bit(name: str, moments: Any, tmp_path: Path) -> None:
    kind, choices = CHOICES[name]
    source, model, optimizer = checkpoint(tmp_path, kind)
    mark(source, model, optimizer)
    growth.widen_checkpoint(source, tmp_path / "grown", optimizer=True, moments=moments, **choices)
    grown = growth.widen(model, optimizer=optimizer, hyper="keep", moments=moments, **choices)
    after, read = loaded(tmp_path / "grown")
    assert grown.optimizer is not None and same(by_name(after, read), by_name(grown.model, grown.optimizer))
    assert all(torch.equal(value, after.state_dict()[key]) for key, value in grown.model.state_dict().items())
    assert growth.check_equivalence(source, tmp_path / "grown", tokens=64).equal


def test_training_goes_on(tmp_path: Path) -> None:
    """Whole copies of experts under AdamW train as the experts would, but for its epsilon."""
    source, *_ = checkpoint(tmp_path, "mixtral")
    small = run(AutoModelForCausalLM.from_pretrained(source), tmp_path / "same", source, steps=6)
    target = tmp_path / "more" / "checkpoint-2"
    growth.widen_checkpoint(source, target, optimizer=True, experts=6)
    more = run(AutoModelForCausalLM.from_pretrained(target), tmp_path / "more", target, steps=6)
    assert more.losses[3] == pytest.approx(small.losses[3], rel=2e-6)
    assert more.losses[6] == pytest.approx(small.losses[6], rel=1e-3)
