"""A short run of the fuzz harness (`make fuzz` is the long one), and proof that it sees what it is for:
planted faults, each of which it must find."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import growth
from fuzz import guard
from fuzz.cases import KINDS, run_case
from fuzz.guard import Found, Refused, guarded
from fuzz.outcome import remembered_twins
from growth.algebra.laws import Copied
from growth.algebra.maps import Map
from growth.checkpoint import destination, widen
from growth.errors import GrowthError
from growth.hf import configs, reader
from growth.proof import twin
from support.family_cases import small_config

pytestmark = pytest.mark.filterwarnings("ignore")  # of what transformers thinks of damaged configs
SEED, CASES = 0, 160
Patch = pytest.MonkeyPatch
_rmtree = shutil.rmtree


@pytest.fixture(autouse=True)
def twins() -> Iterator[None]:
    with remembered_twins():
        yield


def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    outcomes = [run_case(SEED, number, tmp_path) for number in range(CASES)]
    ended = {outcome.ended.partition(" ")[0] for outcome in outcomes}
    assert {"planned", "proved", "grown", "UnsupportedModelError", "CheckpointError", "IllegalGrowthError"} <= ended
    assert {outcome.kind for outcome in outcomes} == set(KINDS)
    assert not list(tmp_path.iterdir())


def test_a_case_is_the_same_whenever_it_runs(tmp_path: Path) -> None:
    assert [run_case(3, number, tmp_path) for number in range(5)] == [
        run_case(3, number, tmp_path) for number in range(5)
    ]


def foreign(patch: Patch) -> None:
    """What transformers raises about a config is let through."""
    patch.setattr(configs, "FOREIGN_ERRORS", ())


def file_outside(patch: Patch) -> None:
    right = widen.write_card

    def write(source: Any, folder: Path, *rest: Any) -> None:
        right(source, folder, *rest)
        (folder.parent / "log.txt").write_text("done")

    patch.setattr(widen, "write_card", write)


def nothing_removed(patch: Patch) -> None:
    """What failed stays where it was written."""
    patch.setattr(destination.shutil, "rmtree", lambda *_, **__: None)
    patch.setattr(widen, "write_card", refuse)


def source_touched(patch: Patch) -> None:
    right = widen.copy_companions

    def copy(source: Any, *rest: Any) -> Any:
        path = getattr(source, "folder", source) / "config.json"
        path.write_text(path.read_text() + " ")
        return right(source, *rest)

    patch.setattr(widen, "copy_companions", copy)


def endless(patch: Patch) -> None:
    patch.setattr(guard, "CPU_SECONDS", 0.2)

    def wait(*_: Any) -> None:
        while True:
            pass

    patch.setattr(widen, "write_card", wait)


def raw_text(patch: Patch) -> None:
    """Messages as they come."""
    patch.setattr(GrowthError, "__init__", lambda self, message: Exception.__init__(self, message))


def code_run(patch: Patch) -> None:
    right = torch.load
    patch.setattr(reader.torch, "load", lambda *args, **options: right(*args, **{**options, "weights_only": False}))


def another_function(patch: Patch) -> None:
    """A sign that no activation function lets through, and a twin that does not look."""
    patch.setattr(Copied, "grow", lambda law, g: Map.repeat(g.n, g.m, -1.0))
    patch.setattr(twin, "largest_difference", lambda *_: 0.0)


def refuse(*_: Any) -> None:
    raise GrowthError("a planted refusal. Check nothing.")


PLANTED: dict[str, tuple[Callable[[Patch], None], str, str]] = {
    "a foreign exception": (foreign, "config", "foreign"),
    "a file outside": (file_outside, "companion", "left outside"),
    "a folder left behind": (nothing_removed, "companion", "left outside"),
    "a source that changes": (source_touched, "companion", "source changed"),
    "a hang": (endless, "companion", "hang"),
    "control characters": (raw_text, "config", "control character"),
    "code of a pickle": (code_run, "pickle", "left outside"),
    "another function": (another_function, "header", "silently wrong"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    plant, kind, finding = PLANTED[name]
    plant(monkeypatch)
    found = set()
    for number in range(300):
        try:
            run_case(SEED, number, tmp_path, {kind: 1})
        except Found as error:
            found.add(error.kind)
        for left in tmp_path.iterdir():  # by what removes folders where nothing is planted
            _rmtree(left)
        if finding in found:
            return
    pytest.fail(f"{finding} is not among {found}")


FOUND: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a class that is a list, beside a model_type that nobody has": (
        *("llama", "LlamaForCausalLM"),
        {"model_type": "lama", "architectures": [["A"]]},
    ),
    "a number of draft layers that is none": (
        *("deepseek_v3", "DeepseekV3ForCausalLM"),
        {"num_nextn_predict_layers": "one"},
    ),
    "a classifier without labels": ("stablelm", "StableLmForTokenClassification", {"id2label": {}}),
}
"""What long runs found, by hand, so that it stays when cases are drawn anew."""


@pytest.mark.parametrize("name", FOUND)
def test_a_former_finding_is_planned_or_refused_in_a_sentence(name: str) -> None:
    model_type, kind, changes = FOUND[name]
    config = {**small_config(model_type, kind, {}), **changes}
    plan = guarded(lambda: growth.plan_widening(config, width=1.5, scaling="orthogonal"))
    assert isinstance(plan, Refused) or str(plan)
