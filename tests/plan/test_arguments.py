"""Arguments of wrong types and impossible values, everywhere in the public interface: a `GrowthError`
with the name of the argument, at once; numbers of other libraries are as good as Python's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

import growth
from growth.errors import GrowthError, IllegalGrowthError, shown
from growth.plan.choice_checks import width_text
from growth.plan.choices import CHOICES
from support.size_cases import BERT, GPT2, SMOLLM, refused
from support.small_models import llama


class OfBytes:
    """A path-like object of bytes."""

    def __fspath__(self) -> bytes:
        return b"/tmp"


NONSENSE: list[Any] = [
    *(5, -1, True, 1.5, float("nan"), float("inf"), 1j, 10**9, 10**5000, "", " ", "x", "\x1b[2J", "x" * 10**6),
    *(b"x", [], [5], {5: 6}, {"a": None}, {"hidden_size": "x"}, (1, 2), {5}, object(), type, lambda: 1),
    *(np.array([1, 2]), np.bool_(True), torch.tensor(True), torch.zeros(2, 2), OfBytes()),
]
MAY_BE: dict[str, Callable[[Any], bool]] = {
    "width": lambda value: isinstance(value, (int, float)) and value is not True,
    "layers": lambda value: value == 5,
    "seed": lambda value: isinstance(value, int) and value is not True,
    "noise": lambda value: value is None or (isinstance(value, int | float) and value is not True and 0 <= value <= 8),
    "lossy": lambda value: value is True,
    "vouch": lambda value: isinstance(value, list),
    "keep": lambda value: isinstance(value, list | str) and not "".join(value).strip(),
    "towers": lambda value: isinstance(value, list | str) and not "".join(value).strip(),
}
"""Choice -> which of the nonsense is none for it, if it is in range."""
CONFIG = LlamaConfig(
    hidden_size=64, intermediate_size=172, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=1
)


def check_refused(call: Callable[..., Any], *arguments: Any, says: str = "", **keywords: Any) -> None:
    started = time.process_time()
    with pytest.raises(GrowthError) as caught:
        call(*arguments, **keywords)
    message = str(caught.value)
    assert says in message and message.isprintable() and len(message) < 2100, message
    assert message.endswith((".", "?")), message
    assert time.process_time() - started < 2, message


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name: str) -> None:
    for value in (*NONSENSE, None):
        may_be = MAY_BE.get(name, lambda value: False)
        if value is None and (name in ("width", "sizes", "like", "noise") or CHOICES[name].size):
            continue  # as if it were not there
        try:
            growth.plan_widening(CONFIG, **{name: value})  # type: ignore[arg-type]
            assert may_be(value), (name, shown(value))
        except GrowthError:
            check_refused(growth.plan_widening, CONFIG, **{name: value})


def test_models_and_folders(tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path / "small")
    for value in (*NONSENSE, None):
        check_refused(growth.plan_widening, value)
        check_refused(growth.widen, value)
        check_refused(growth.register, value)
        check_refused(growth.widen_checkpoint, value, tmp_path / "wide")
        check_refused(growth.check_equivalence, value, tmp_path / "small")
        check_refused(growth.check_equivalence, tmp_path / "small", value)
        if not isinstance(value, str):
            check_refused(growth.widen_checkpoint, tmp_path / "small", value, says="dst must be a path")
    assert not (tmp_path / "wide").exists()


ELSEWHERE: dict[str, Callable[[Any], bool]] = {
    "optimizer": lambda value: value is True,
    "moments": lambda value: False,
    "dtype": lambda value: False,
    "max_shard_size": lambda value: isinstance(value, (int, float)) and value is not True and 0 < value <= 10**9,
    "overwrite": lambda value: value is True,
    "allow_nonfinite": lambda value: value is True,
    "device": lambda value: False,
    "progress": callable,
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_ways_of_writing(name: str, tmp_path: Path) -> None:
    for value in NONSENSE:
        says = "no such folder" if ELSEWHERE[name](value) else name
        check_refused(growth.widen_checkpoint, tmp_path / "gone", tmp_path / "wide", says=says, **{name: value})


def test_comparing_and_growing_in_memory(tmp_path: Path) -> None:
    model = llama()
    for value in NONSENSE:
        for name in ("text", "plan", "step", "device", "tokens"):
            fine = (name == "text" and isinstance(value, str)) or (name == "step" and callable(value))
            fine |= name == "tokens" and isinstance(value, int) and value > 1
            says = "no such folder" if fine else name
            check_refused(growth.check_equivalence, tmp_path / "gone", tmp_path / "gone", says=says, **{name: value})
        for name in ("moments", "hyper"):
            check_refused(growth.widen, model, says=name, **{name: value})
        for name in ("optimizer", "scheduler"):
            check_refused(growth.widen, model, **{name: value})
        if value is not True:
            check_refused(growth.widen, model, says="allow_nonfinite", allow_nonfinite=value)


def test_numbers_of_other_libraries() -> None:
    for three in (np.int64(3), np.uint8(3), torch.tensor(3), np.array(3), Fraction(3), "3", "6/2", 3.0):
        assert growth.plan_widening(CONFIG, width=three).options.width == 3  # type: ignore[arg-type]
    for size in (np.int64(96), torch.tensor(96), np.array(96)):
        plan = growth.plan_widening(CONFIG, hidden_size=size, noise=np.float32(0.5), seed=size)  # type: ignore[arg-type]
        assert plan.options.sizes == {"hidden_size": 96} and plan.options.seed == 96
        assert plan.options.symmetry == "noise:0.5" and isinstance(plan.options.seed, int)


HUGE: list[dict[str, Any]] = [
    *({name: size} for name in ("hidden_size", "heads", "head_dim") for size in (10**9, 2**62, 2**64, 10**30)),
    {"heads": 4000, "head_dim": 9999},
    {"hidden_size": 65535},
    {"heads": 4095},
    {"like": {"hidden_size": 65533, "num_attention_heads": 999}},
    {"width": "1e999999999"},
    {"width": "9" * 10**5},
    {"symmetry": "noise:1e999999999"},
    {"sizes": {"hidden_size": 10**12}},
]


@pytest.mark.parametrize("choices", HUGE, ids=lambda choices: repr(choices)[:60])
@pytest.mark.parametrize("source", [SMOLLM, GPT2, BERT], ids=["llama", "gpt2", "bert"])
def test_huge_sizes_are_refused_at_once(source: Any, choices: dict[str, Any]) -> None:
    started = time.process_time()
    try:
        growth.plan_widening(source, **choices)
        assert choices in ({"heads": 4095},)  # of a GPT-2, whose hidden_size goes along
    except GrowthError as error:
        assert "MemoryError" not in str(error)
    assert time.process_time() - started < 4


def test_what_is_too_large_is_told() -> None:
    message = refused(SMOLLM, hidden_size=10**9)
    assert message.startswith("hidden_size 1000000000 is more than 1024 times what the model has")
    assert message.endswith("Name a hidden_size of at most 589824.")
    message = refused(SMOLLM, heads=9000, head_dim=6400)
    assert "head_dim 6400 with 1000 times as many heads is more than 1024 times" in message


@pytest.mark.parametrize("attention", ["heads", "head-dim"])
@pytest.mark.parametrize("source", [SMOLLM, GPT2, BERT], ids=["llama", "gpt2", "bert"])
def test_a_width_that_adds_no_feature(source: Any, attention: Any) -> None:
    """It was accepted, and grew what it does not name, such as the heads, and printed "width 1"."""
    assert "width 1.0000001 adds" in refused(source, width=1.0000001, attention=attention)


def test_a_width_widens_and_is_printed_in_full() -> None:
    for width in (1.01, 1.02, 1.05, 1.1, 5 / 3, 1.2345678):
        try:
            plan = growth.plan_widening(SMOLLM, width=width)
        except IllegalGrowthError:
            continue
        assert plan.new_sizes["hidden_size"] > plan.old_sizes["hidden_size"]
        assert f"width {width_text(width)}," in plan.choices
    assert [width_text(width) for width in (2, 1.5, 5 / 3, 1.2345678)] == ["2", "1.5", "5/3", "1.2345678"]


def test_training_and_declarations() -> None:
    model = llama()
    optimizer = torch.optim.AdamW(model.parameters())
    grown = growth.widen(model, optimizer=optimizer)
    training = growth.training

    def step(*_: Any) -> None: ...

    for value in (*NONSENSE, None):
        check_refused(training.clip_factor, value, {})
        check_refused(training.clip_factor, grown, value)
        check_refused(training.fresh_warmup, value, 5)
        for function in (training.new_coordinates, training.train_new_only):
            check_refused(function, value)
            check_refused(function, value, grown.plan)
            check_refused(function, model, value)
        check_refused(training.resume, value, optimizer, {})
        check_refused(training.resume, model, value, {})
        check_refused(training.resume, model, optimizer, value)
        check_refused(training.staged, value, optimizer, step, {0: {}}, 1)
        check_refused(training.staged, model, value, step, {0: {}}, 1)
        check_refused(training.staged, model, optimizer, step, value, 1)
        check_refused(grown.plan.map, value)
        check_refused(growth.Architecture, "mine", value, {}) if not isinstance(value, dict) else None
        if not isinstance(value, str) or value == "":
            check_refused(growth.Architecture, value, {}, {})
        if not callable(value):
            check_refused(training.staged, model, optimizer, value, {0: {}}, 1)
        if value is not None and not isinstance(value, dict):
            check_refused(growth.widen, model, verify_inputs=value, says="verify_inputs")
        if value is not None:
            check_refused(training.staged, model, optimizer, step, {0: {}}, 1, scheduler=value, says="scheduler")
        if not isinstance(value, int) or value < 0 or value is True:
            check_refused(training.staged, model, optimizer, step, {0: {}}, 1, start=value, says="start")
        if not isinstance(value, int) or value < 1 or value is True:
            check_refused(training.fresh_warmup, grown, value)
            check_refused(training.staged, model, optimizer, step, {0: {}}, value)
    check_refused(training.staged, model, optimizer, step, {10**9: {}}, 10**9)


def test_entries_of_a_declaration() -> None:
    """A law's class where a law belongs, a number where values belong."""
    declared: Any = growth.architectures.find("llama")
    for table in ("modules", "laws", "outputs", "sizes", "constants", "vouched", "variants"):
        for value in (5, "x", growth.architectures.LayerNorm):
            with pytest.raises(growth.UnsupportedModelError, match=f"^the {table} of 'llama' must be a dictionary"):
                replace(declared, **{table: value})
            key = next(iter(declared.laws)) if table == "laws" else "entry"
            if not (table == "constants" and callable(value)):
                with pytest.raises(growth.UnsupportedModelError, match=f"^entry '.*' in the {table} of 'llama' must"):
                    replace(declared, **{table: {**getattr(declared, table), key: value}})
    with pytest.raises(growth.UnsupportedModelError, match=r"Give one, or call it: LayerNorm\(...\)\."):
        replace(declared, laws={**declared.laws, next(iter(declared.laws)): growth.architectures.LayerNorm})
