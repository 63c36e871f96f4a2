"""The claim itself: saved to disk, widened, loaded by stock transformers, equal in exact arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from families import LANGUAGE_MODELS, OTHER_HEADS, VOCABULARY, Case, build, difference, exact, load

import growth
from growth import architectures
from growth.plan import TOLERANCE

exactly = pytest.fixture(exact, autouse=True)

ATTENTION: list[dict[str, Any]] = [{"attention": "heads"}, {"attention": "head-dim"}]
PAIRS: dict[str, Any] = {"attention": "head-dim", "rope": "pairs"}


def choices(case: Case) -> Iterator[dict[str, Any]]:
    attention = ATTENTION + [PAIRS] * architectures.find(case.model_type).rotary
    for grown_by, scaling, width, noise in itertools.product(attention, ("unit", "orthogonal"), (2, 3), (0.0, 0.4)):
        yield {**grown_by, "scaling": scaling, "width": width, "noise": noise}


def label(value: object) -> str:
    return "-".join(str(v) for v in value.values()) if isinstance(value, dict) else str(value)


FULL = [(case, tied, choice) for case in LANGUAGE_MODELS for tied in (True, False) for choice in choices(case)]
# Everything odd at once, then plain doubling; the rest is in the full product.
QUICK = [
    (case, tied, choice)
    for case, tied, choice in FULL
    if (choice["width"], choice["noise"], choice["scaling"]) in ((3, 0.4, "orthogonal"), (3, 0.4, "unit"))
    or (choice["width"] == 2 and tied and choice["scaling"] == "unit" and not choice["noise"])
]


def check(case: Case, tied: bool, choice: dict[str, Any], folder: Path) -> None:
    changes: dict[str, Any] = {}
    if choice["scaling"] == "orthogonal" and case.model_class in NEED_SMALL_EPSILON:
        changes["layer_norm_eps"] = 1e-12  # one epsilon for two norms that want different ones, see growth.plan._epsilon
    small = build(case, tied=tied, **changes)
    small.save_pretrained(folder / "small")
    result = growth.widen_checkpoint(folder / "small", folder / "wide", **choice)
    small, wide = load(folder / "small", case), load(folder / "wide", case)
    assert difference(small, wide, result.plan) <= TOLERANCE
    assert result.proof.twin.difference <= TOLERANCE and result.proof.fold.ok
    if case.generates:
        assert generate(wide) == generate(small)


NEED_SMALL_EPSILON = ("BertForMaskedLM", "BertForPreTraining", "BertLMHeadModel", "RobertaForMaskedLM", "RobertaForCausalLM")


def generate(model: Any) -> list[list[int]]:
    """Greedy, with KV cache, one row padded on the left."""
    ids = torch.randint(3, VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    ids[0, :3] = 0
    output: list[list[int]] = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=9, do_sample=False, use_cache=True).tolist()
    return output


@pytest.mark.parametrize(("case", "tied", "choice"), QUICK, ids=label)
def test_language_models(case: Case, tied: bool, choice: dict[str, Any], tmp_path: Path) -> None:
    check(case, tied, choice, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "tied", "choice"), FULL, ids=label)
def test_language_models_full_product(case: Case, tied: bool, choice: dict[str, Any], tmp_path: Path) -> None:
    check(case, tied, choice, tmp_path)


@pytest.mark.parametrize("choice", [{"attention": "head-dim", "scaling": "orthogonal", "width": 3, "noise": 0.4}], ids=label)
@pytest.mark.parametrize("case", OTHER_HEADS, ids=str)
def test_every_head(case: Case, choice: dict[str, Any], tmp_path: Path) -> None:
    check(case, True, choice, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "choice"), [(case, choice) for case in OTHER_HEADS for choice in choices(case)], ids=label)
def test_every_head_full_product(case: Case, choice: dict[str, Any], tmp_path: Path) -> None:
    check(case, True, choice, tmp_path)


@pytest.mark.parametrize("case", LANGUAGE_MODELS, ids=str)
def test_memory_and_disk_agree_bit_for_bit_and_grow_again(case: Case, tmp_path: Path) -> None:
    small = build(case)
    small.save_pretrained(tmp_path / "small")
    choice: dict[str, Any] = {"width": 2, "attention": "head-dim", "noise": 0.3, "seed": 7}
    growth.widen_checkpoint(tmp_path / "small", tmp_path / "wide", **choice)
    grown = growth.widen(small, **choice)
    on_disk = load(tmp_path / "wide", case).state_dict()
    in_memory = grown.model.state_dict()
    assert in_memory.keys() == on_disk.keys()
    assert all(torch.equal(in_memory[name], value) for name, value in on_disk.items())
    again = growth.widen(grown.model, width=3)
    assert difference(grown.model, again.model, again.plan) <= TOLERANCE


def test_every_declared_family_has_a_case() -> None:
    assert {case.model_type for case in LANGUAGE_MODELS} == set(architectures.known())
