"""``grow advise``: its output, its picture, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from growth.planner import advising
from support import trainer_runs
from support.command import Grow, grow, run, small

__all__ = ["grow", "small"]  # fixtures


@pytest.fixture
def logs(tmp_path: Path) -> tuple[Path, Path]:
    """Of a small and a large model, as CSV files."""
    for name, floor, excess in (("small", 2.6, 0.5), ("large", 2.2, 0.6)):
        tokens = np.geomspace(1e7, 1e8, 20)
        rows = "".join(f"{one:.0f},{floor + excess * (one / 1e8) ** -0.4:.6f}\n" for one in tokens)
        (tmp_path / f"{name}.csv").write_text(f"tokens,loss\n{rows}")
    return tmp_path / "small.csv", tmp_path / "large.csv"


BUDGET = ("--budget-tokens", "1e9")


def test_the_advice(grow: Grow, logs: tuple[Path, Path]) -> None:
    result = grow("advise", logs[0], "--large-log", logs[1], "--cost-ratio", "4", "--axis", "width", *BUDGET)
    assert result.code == 0 and result.err == ""
    assert "grow at 25 %" in result.out and "break-even" in result.out
    told = grow(
        "advise", logs[0], "--large-log", logs[1], "--cost-ratio", 4, "--axis", "width", *BUDGET, "--json"
    ).json
    assert told["verdict"] in ("grow", "cannot tell") and " ".join(result.out.split()).endswith(told["recommendation"])
    assert told["budget"] == {"small_tokens": 4e9, "flops": None, "free_small_tokens": 0.0}
    free = grow("advise", logs[0], "--large-log", logs[1], "--cost-ratio", "4", *BUDGET, "--small-is-free", "--json")
    assert free.json["budget"]["free_small_tokens"] == 1e8


def test_costs_of_configs(grow: Grow, logs: tuple[Path, Path], small: Path, tmp_path: Path) -> None:
    config = json.loads((small / "config.json").read_text())
    for name, change in (("deep", {"num_hidden_layers": 5}), ("wide", {"intermediate_size": 400})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({**config, **change}))
    options = ("--small-config", small, "--large-config", tmp_path / "deep", "--context", 16)
    told = grow("advise", logs[0], "--large-log", logs[1], *options, "--budget-flops", "1e14", "--json").json
    assert told["costs"]["axes"] == {"large": "depth"} and told["costs"]["context"] == 16
    assert told["budget"]["flops"] == pytest.approx(1e14)
    both = (*options, "--large-config", tmp_path / "wide")
    told = grow("advise", logs[0], *both, "--large-log", logs[1], "--large-log", logs[1], *BUDGET, "--json").json
    assert told["costs"]["axes"] == {"deep": "depth", "wide": "width"}
    out = grow("advise", logs[0], *both, *BUDGET).out
    assert "grow into deep at 25 %" in out and "wide is GUESSED" in out
    twice = grow("advise", logs[0], "--cost-ratio", "2", "--cost-ratio", "4", *BUDGET, "--json").json
    assert twice["costs"]["ratios"] == {"x2": 2, "x4": 4}
    for name, change in (("Wide-1.5B", {"intermediate_size": 400}), ("Wide-2.5B", {"intermediate_size": 500})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({**config, **change}))
    names = (
        "--small-config",
        small,
        "--large-config",
        tmp_path / "Wide-1.5B",
        "--large-config",
        tmp_path / "Wide-2.5B",
    )
    assert {"Wide-1.5B", "Wide-2.5B"} == {*grow("advise", logs[0], *names, *BUDGET, "--json").json["costs"]["ratios"]}


def test_real_trainer_runs(grow: Grow, tmp_path: Path) -> None:
    """Two short runs of Trainer, by the folders they leave and the configs in these."""
    settings: dict[str, Any] = {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 5, "logging_steps": 2}
    folders, config = [], trainer_runs.MODELS["llama"]().config
    for name, wider in (("small", 1), ("large", 2)):
        torch.manual_seed(1)
        folders.append(tmp_path / name)
        sizes = {"hidden_size": 24 * wider, "intermediate_size": 40 * wider, "head_dim": 6 * wider}
        model = LlamaForCausalLM(LlamaConfig(**{**config.to_dict(), **sizes}))
        trainer_runs.run(model, folders[-1], steps=40, save=40, **settings)
    arguments = (
        folders[0],
        "--large-log",
        folders[1] / "checkpoint-40",
        "--cost-ratio",
        "2",
        "--budget-tokens",
        "1e5",
    )
    assert "Give --tokens-per-step N" in grow("advise", *arguments).complaint
    result = grow("advise", *arguments, "--tokens-per-step", "256")
    assert result.code == 0 and "cannot tell" in result.out
    by_configs = grow(
        *("advise", folders[0], "--large-log", folders[1], "--tokens-per-step", "256", "--budget-tokens", "1e5"),
        *("--small-config", folders[0] / "checkpoint-40", "--large-config", folders[1] / "checkpoint-40"),
    )
    assert (
        by_configs.code == 0 and "width grows" in by_configs.out and "costs are counted at 64 tokens" in by_configs.out
    )


def test_a_picture(grow: Grow, logs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "advice.png"
    result = grow("advise", *logs[:1], "--cost-ratio", "4", *BUDGET, "--plot", picture)
    assert result.out.endswith(f"written: {picture}\n") and picture.read_bytes()[:4] == b"\x89PNG"
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    complaint = grow("advise", *logs[:1], "--cost-ratio", "4", *BUDGET, "--plot", tmp_path / "b.png").complaint
    assert "pip install 'transformer-growth[plot]'" in complaint and not (tmp_path / "b.png").exists()


def test_the_ending_of_a_picture(grow: Grow, logs: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    complaint = grow("advise", *logs[:1], "--cost-ratio", "4", *BUDGET, "--plot", tmp_path / "b.doc").complaint
    assert "Use .png" in complaint
    nowhere = tmp_path / "no" / "a.png"
    complaint = grow("advise", *logs[:1], "--cost-ratio", "4", *BUDGET, "--plot", nowhere).complaint
    assert f"the folder of {nowhere} does not exist" in complaint


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no budget": (("--cost-ratio", "4"), "give the budget once"),
    "two budgets": (("--cost-ratio", "4", *BUDGET, "--budget-flops", "1e20"), "give the budget once"),
    "no costs": (BUDGET, "give the costs"),
    "costs twice": (("--cost-ratio", "4", "--small-config", "x", *BUDGET), "give the costs once"),
    "logs of other models": (
        ("--cost-ratio", "4", *BUDGET, "--large-log", "a", "--large-log", "b"),
        "there are 2 --large-log for 1 large models",
    ),
    "a cheaper model": (("--cost-ratio", "0.5", *BUDGET), "0.5 is not in the range x>1"),
    "an axis that is none": (("--cost-ratio", "4", "--axis", "up", *BUDGET), "'up' is not one of"),
    "a trial without its place": (
        ("--cost-ratio", "4", *BUDGET, "--grown-log", "a"),
        "a trial growth needs both: --grown-log LOG --grown-at N",
    ),
    "an axis beside configs": (
        ("--small-config", "x", "--large-config", "y", "--axis", "width", *BUDGET),
        "--axis goes with --cost-ratio",
    ),
}


@pytest.mark.parametrize(("options", "says"), WRONG.values(), ids=WRONG)
def test_wrong_usage(options: tuple[str, ...], says: str, grow: Grow, logs: tuple[Path, Path]) -> None:
    result = grow("advise", logs[0], *options)
    assert result.code == 2 and says in " ".join(result.err.split())


@pytest.mark.parametrize(
    ("log", "says"),
    [("gone.csv", "no such log: gone.csv"), (".", "holds no trainer_state.json")],
)
def test_refusals(log: str, says: str, grow: Grow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in grow("advise", log, "--cost-ratio", "4", *BUDGET).complaint


def test_a_missing_log_costs_no_import() -> None:
    """torch takes seconds to import."""
    result = run("advise", "gone.csv", "--cost-ratio", "4", *BUDGET)
    assert result.code == 1 and "no such log" in result.complaint


def test_a_trial_growth(grow: Grow, logs: tuple[Path, Path], tmp_path: Path) -> None:
    """Of which the log has the small model's part, too, as Trainer's has."""
    rows = [*logs[0].read_text().splitlines()[:15], *(f"{tokens}e7,{2.9 - 0.01 * tokens}" for tokens in range(7, 20))]
    (tmp_path / "grown.csv").write_text("\n".join(rows))
    arguments = ("advise", logs[0], "--large-log", logs[1], "--cost-ratio", "4", *BUDGET)
    without = grow(*arguments, "--json").json
    told = grow(*arguments, "--grown-log", tmp_path / "grown.csv", "--grown-at", "6e7", "--json").json
    assert any("a trial growth after 60M tokens, seen to 190M" in note for note in told["notes"])
    assert told["candidates"][4]["loss"] != without["candidates"][4]["loss"]


def test_it_says_what_the_library_says(grow: Grow, logs: tuple[Path, Path]) -> None:
    advice = advising.advise(logs[0], logs[1], cost_ratio=4, budget_tokens=1e9, axis="width")
    result = grow("advise", logs[0], "--large-log", logs[1], "--cost-ratio", "4", "--axis", "width", *BUDGET)
    assert result.out == f"{advice}\n"
