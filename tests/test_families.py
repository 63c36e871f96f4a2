"""The claim itself, for every declared family: saved to disk, widened, loaded by stock transformers, equal in exact arithmetic.

The cases come from the declarations: every class of every family, under every config its declaration branches on, as small as its twin.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from families import difference, exact
from test_equivalence import generate
from transformers import AutoConfig, GenerationMixin, PreTrainedModel

import growth
from growth import architectures
from growth.config import parse
from growth.equivalence.twin import build_exact, loud, miniature
from growth.errors import IllegalGrowthError
from growth.plan import TOLERANCE

exactly = pytest.fixture(exact, autouse=True)

Choice = dict[str, Any]


def small_config(model_type: str, model_class: str, branch: dict[str, Any], tied: bool | None = None) -> dict[str, Any]:
    """The config of the twin of this class, every norm's epsilon loud."""
    raw = {**AutoConfig.for_model(model_type, **branch).to_dict(), "architectures": [model_class]}
    if tied is not None:
        raw["tie_word_embeddings"] = tied
    if raw.get("is_encoder_decoder") and raw.get("decoder_start_token_id") is None:
        raw["decoder_start_token_id"] = 0
    architecture = architectures.find(model_type).at(parse(raw))
    small = miniature(raw, architecture)
    if isinstance(architecture.epsilon, str) and architecture.epsilon in raw:
        small[architecture.epsilon] = 0.03
    return small


def cases() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for model_type in architectures.known():
        for model_class, branch in itertools.product(architectures.classes(model_type), architectures.find(model_type).branches):
            yield model_type, model_class, dict(branch)


def choices(model_type: str) -> Iterator[Choice]:
    attention: list[Choice] = [{"attention": "heads"}, {"attention": "head-dim"}]
    if architectures.find(model_type).rotary:
        attention.append({"attention": "head-dim", "rope": "pairs"})
    for grown_by, scaling, width, noise in itertools.product(attention, ("unit", "orthogonal"), (2, 3), (0.0, 0.4)):
        yield {**grown_by, "scaling": scaling, "width": width, "noise": noise}


def label(value: object) -> str:
    return "-".join(str(v) for v in value.values()) if isinstance(value, dict) else str(value)


def load(folder: Path, model_class: str) -> PreTrainedModel:
    """Plain ``from_pretrained``, in float64; nothing missing, nothing unexpected."""
    cls = getattr(transformers, model_class)
    model, info = cls.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.to(torch.float64).eval()


def check(model_type: str, model_class: str, branch: dict[str, Any], choice: Choice, folder: Path, tied: bool | None = None) -> None:
    """Widen one checkpoint and compare; a refusal counts where the declaration says that there is one."""
    raw = small_config(model_type, model_class, branch, tied)
    small = build_exact(raw)
    loud(small, 1)
    small.save_pretrained(folder / "small")
    try:
        result = growth.widen_checkpoint(folder / "small", folder / "wide", **choice)
    except IllegalGrowthError:
        assert architectures.find(model_type).at(parse(raw)).refuses
        return
    small, wide = load(folder / "small", model_class), load(folder / "wide", model_class)
    assert difference(small, wide, result.plan) <= TOLERANCE
    assert result.proof.twin.difference <= TOLERANCE and result.proof.fold.ok
    if isinstance(small, GenerationMixin) and "input_ids" in small.dummy_inputs and small.can_generate():
        assert generate(wide) == generate(small)


ALL = list(cases())
QUICK = [
    (*case, choice)
    for number, case in enumerate(ALL)
    for choice in [[c for c in choices(case[0]) if c["width"] == 3 and c["noise"]][number % 4]]
]


@pytest.mark.parametrize(("model_type", "model_class", "branch", "choice"), QUICK, ids=label)
def test_every_class(model_type: str, model_class: str, branch: dict[str, Any], choice: Choice, tmp_path: Path) -> None:
    check(model_type, model_class, branch, choice, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "model_class", "branch", "choice"), [(*case, choice) for case in ALL for choice in choices(case[0])], ids=label
)
def test_every_class_full_product(model_type: str, model_class: str, branch: dict[str, Any], choice: Choice, tmp_path: Path) -> None:
    check(model_type, model_class, branch, choice, tmp_path)
