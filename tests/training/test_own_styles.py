"""Models of one's own in many styles, none of them registered: each grows exactly, or is refused with a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import AdamW

import growth
from growth.hf.own_inputs import call
from growth.infer import sizes, solution
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import loud
from support.own_styles import STYLES
from support.own_styles.style import Style

GROW = [name for name, style in STYLES.items() if not style.says]
REFUSED = [name for name, style in STYLES.items() if style.says]
EXACT = 1e-10


def field(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    else:
        for entry in output:
            if entry is not None:
                yield from tensors(entry)


def outputs(model: Any, style: Style, seed: int = 7) -> list[Tensor]:
    with exact_arithmetic(), torch.no_grad():
        return list(tensors(call(model, style.inputs(seed))))


def trained(style: Style) -> tuple[Any, AdamW]:
    """A model with loud weights, after a few steps."""
    model: Any = style.make().double().eval()
    loud(model)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    steps(model, optimizer, style)
    return model, optimizer


def steps(model: Any, optimizer: Any, style: Style) -> list[float]:
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = torch.stack([each.square().mean() for each in tensors(call(model, style.inputs(0)))]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("ratio", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", GROW)
def test_it_grows(name: str, ratio: int) -> None:
    style = STYLES[name]
    model, optimizer = trained(style)
    before = outputs(model, style)
    grown = growth.widen(model, width=ratio, noise=1.0, optimizer=optimizer, **style.told)
    for one, other in zip(before, outputs(grown.model, style), strict=True):
        assert one.shape == other.shape and float((one - other).abs().max()) <= EXACT * max(1, float(one.abs().max()))
        assert float(one.std()) > 1e-3  # it says something
    old = style.told.get("config", getattr(model, "config", getattr(model, "cfg", None)))
    assert {path: field(grown.config, path) for path in style.grows} == {
        path: ratio * field(old, path) for path in style.grows
    }
    assert {path: field(grown.config, path) for path in style.keeps} == {
        path: field(old, path) for path in style.keeps
    }
    first, *_, last = steps(grown.model, grown.optimizer, style)
    assert last < first


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str) -> None:
    style = STYLES[name]
    with pytest.raises(growth.UnsupportedModelError, match=re.escape(style.says)) as caught:
        growth.widen(style.make(), **style.told)
    said = str(caught.value)
    assert "\n" not in said and said.endswith(".") and len(said) < 500


def test_what_counts_outputs_grows_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above fails where sizes go by their names alone."""
    monkeypatch.setattr(sizes, "inner_fields", lambda config, kind, fields: fields)
    style = STYLES["token mixing"]
    model: Any = style.make()
    told = {**style.told, "build": lambda config: type(model)(**config)}  # another one is not known yet
    grown = growth.widen(model, **told)
    assert grown.config["classes"] == 10 and outputs(grown.model.double(), style)[0].shape == (2, 10)


def test_a_square_matrix_reads_one_of_its_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were both said to be read, noise would cancel along both, and part the copies of an output less."""
    model: Any = STYLES["actor and critic"].make()
    config = STYLES["actor and critic"].told["config"]

    def kinds() -> list[str]:
        plan = growth.plan_widening(model, config=config, build=lambda config: type(model)(**config))
        return [type(role).__name__ for role in plan.tensors["body.2.weight"].roles]

    assert kinds() == ["Writes", "Reads"]
    monkeypatch.setattr(solution, "_dimension", lambda value, reading: None)
    assert kinds() == ["Reads", "Reads"]


@pytest.mark.parametrize("name", ["minGPT", "diffusion"])
def test_both_are_compared(name: str) -> None:
    style = STYLES[name]
    model: Any = style.make()
    grown = growth.widen(model, noise=1.0, **style.told)
    report = growth.check_equivalence(model, grown.model)
    assert report.equal and "on random inputs" in str(report)
    with torch.no_grad():
        list(grown.model.parameters())[-1].mul_(1.1)
    assert not growth.check_equivalence(model, grown.model).equal


def test_a_plan_of_a_module() -> None:
    style = STYLES["Llama"]
    plan = growth.plan_widening(style.make(), width=3, **style.told)
    assert plan.config_changes.keys() == {"dim", "n_heads", "n_kv_heads", "ffn_dim"}
    plan = growth.plan_widening(STYLES["nested dataclasses"].make())
    assert plan.config_changes["attention.heads"] == (3, 6) and plan.config_changes["mlp.hidden"] == (44, 88)
    with pytest.raises(growth.UnsupportedModelError, match="say how a module in memory is built and run"):
        growth.plan_widening({"model_type": "llama"}, inputs=torch.zeros(1))


def test_sizes_that_are_all_equal_are_told_apart() -> None:
    """Roles are found on a miniature whose sizes differ, and hold where the user's do not."""
    from support.own_styles.nested import AttentionConfig, MlpConfig, Nested, NestedConfig

    config = NestedConfig(8, 8, 3, AttentionConfig(2, 4), MlpConfig(8))
    style = Style(lambda: Nested(config), lambda seed: {"ids": torch.arange(8).repeat(2, 1)})
    model, _ = trained(style)
    grown = growth.widen(model, noise=1.0)
    (before,), (after,) = outputs(model, style), outputs(grown.model, style)
    assert float((before - after).abs().max()) <= EXACT
    assert grown.config == NestedConfig(8, 16, 3, AttentionConfig(4, 4), MlpConfig(16)) and model.config == config
