"""The bookkeeping of `benchmarks/payoff.py`: steps, tokens, FLOPs, arms, and the verdict from
made-up losses; and that of `benchmarks/frozen.py` and
`benchmarks/deeper.py`."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import deeper
import frozen
import payoff
import payoff_training
from payoff_report import Run, report, rows
from payoff_training import batches, read_corpus

from support.optimizers import no_twin

__all__ = ["no_twin"]  # a fixture for every test here

TINY = (
    "--hidden 32 --layers 1 --context 16 --batch 2 --small-steps 7 --wide-steps 5 --warmup 2 --eval-windows 4 "
    "--seeds 3 --lrs 0.01 0.03"
)
ARMS = ["scratch", "small", "none,preserve,preserve", "noise:0.1,fresh,keep", "split:1/2:varied,reset,keep"]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_payoff_keeps_its_books(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        payoff_training, "CLIP", 1e9
    )  # clipping parts the curves a little, since its threshold is matched but once
    args = payoff.arguments([*TINY.split(), "--arms", *ARMS])
    costs = payoff.costs_of(args)
    # by hand: q, k, v, o; three feed-forward matrices; the head; attention over 16 positions
    assert costs.small == 6 * (4 * 32 * 32 + 3 * 32 * 88 + 1024 * 32) + 12 * 16 * 32
    assert costs.wide == 6 * (4 * 64 * 64 + 3 * 64 * 176 + 1024 * 64) + 12 * 16 * 64
    runs = [run for cell in payoff.measure(args) for run in cell]
    assert len(runs) == 2 * (len(ARMS) + 2)  # scratch and small train once for each comparison
    price = 2 * 16 * (7 * costs.small + 5 * costs.wide)
    for run in runs:
        steps = run.small_steps + run.wide_steps
        assert run.tokens == steps * 2 * 16
        assert run.flops == 2 * 16 * (run.small_steps * costs.small + run.wide_steps * costs.wide)
        if "tokens" in run.equal:
            assert steps == 12
        if "FLOPs" in run.equal:
            assert abs(run.flops - price) <= 2 * 16 * (costs.small if run.arm == "small" else costs.wide) / 2
        assert (run.small_steps == 0) == (run.arm == "scratch") and (run.wide_steps == 0) == (run.arm == "small")
        assert run.jump < 1e-5
    at = {(run.arm, run.equal, run.seed, run.lr): run for run in runs}
    for seed, lr in itertools.product(args.seeds, args.lrs):  # without noise nothing is gained, nor lost
        continued = at["small", ("tokens",), seed, lr].reported
        assert at["none,preserve,preserve", ("FLOPs", "tokens"), seed, lr].reported == pytest.approx(
            continued, rel=2e-6
        )
        assert at["noise:0.1,fresh,keep", ("FLOPs", "tokens"), seed, lr].reported != pytest.approx(continued, rel=1e-5)
    assert (
        len(report(runs)[0].splitlines()) == 2 + len(ARMS) + 2
    )  # only scratch and small meet the others by runs of their own


@pytest.mark.parametrize("flags", ["", "--tied", "--hidden 64 --context 32 --kv-heads 2"])
def test_flops_are_those_that_torch_counts(flags: str) -> None:
    args = payoff.arguments([*TINY.split(), *flags.split()])
    model = LlamaForCausalLM(payoff.small_config(args))
    model.set_attn_implementation("eager")  # fused kernels go uncounted
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.zeros(2, args.context, dtype=torch.long), use_cache=False).logits.sum().backward()
    assert counter.get_total_flops() == 2 * args.context * payoff.flops_per_token(model, args.context)


def test_payoff_tied_head_costs_the_same_and_phases_share_their_batches() -> None:
    args = payoff.arguments(TINY.split())
    assert payoff.costs_of(args) == payoff.costs_of(payoff.arguments([*TINY.split(), "--tied"]))
    wide = payoff.wide_config(payoff.small_config(args), args)
    assert (
        sum(p.numel() for p in LlamaForCausalLM(wide).parameters() if p.ndim == 2)
        == 2 * 1024 * 64 + 4 * 64 * 64 + 3 * 64 * 176
    )
    corpus = read_corpus(args.text, args.context, args.eval_windows)
    whole = list(itertools.islice(batches(corpus, 3, 0, args), 4))
    later = list(itertools.islice(batches(corpus, 3, 2, args), 2))
    assert all(map(torch.equal, whole[2:], later))
    assert not torch.equal(whole[0], next(batches(corpus, 4, 0, args)))
    assert corpus.choosing.shape == corpus.reported.shape == (4, 17)


def made_up(arm: str, losses: list[float], lr: float = 0.1, choosing: float = 1.0, equal: str = "FLOPs") -> list[Run]:
    return [Run(arm, (equal,), seed, lr, 1, 1, 1, 1, choosing, loss, 0.0, 0.0) for seed, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "counted", "said"),
    [
        (
            [0.9, 1.91, 2.89],
            "1 ended lower, 0 higher, and 0",
            "grown (none, fresh, keep): lower by 0.1000 ± 0.0248, in 3 of 3 seeds.",
        ),
        (
            [1.1, 2.11, 3.09],
            "0 ended lower, 1 higher, and 0",
            "grown (none, fresh, keep): higher by 0.1000 ± 0.0248, in 3 of 3 seeds.",
        ),
        (
            [0.8, 1.9, 3.1],
            "0 ended lower, 0 higher, and 1",
            "no difference beyond the spread (lower by 0.0667 ± 0.3795, in 2 of 3 seeds)",
        ),
        ([float("nan"), 1.0, 2.0], "0 ended lower, 0 higher, and 1", "a run did not stay finite"),
    ],
)
def test_payoff_verdict(losses: list[float], counted: str, said: str) -> None:
    verdict = report(made_up("scratch", [1.0, 2.0, 3.0]) + made_up("none,fresh,keep", losses))[1]
    assert f"At equal FLOPs, against the wide model from scratch: of 1 grown arms {counted}" in verdict
    assert said in verdict


def test_payoff_chooses_the_rate_on_one_half_and_reports_the_other() -> None:
    runs = [
        run
        for lr, choosing, loss in ((1.0, 3.0, 0.1), (2.0, 1.0, 0.5), (3.0, float("nan"), 0.0))
        for run in made_up("small", [loss], lr, choosing)
    ]
    (row,) = rows(runs)
    assert (row.lr, row.losses, row.edge) == (2.0, [0.5], False)
    (row,) = rows(runs[:2])
    assert row.edge


def test_payoff_compares_the_seeds_that_all_have() -> None:
    cut_short = made_up("scratch", [1.0, 2.0, 3.0]) + made_up("none,fresh,keep", [0.9, 1.9])
    assert {(row.arm, tuple(row.runs)) for row in rows(cut_short)} == {
        ("scratch", (0, 1)),
        ("none,fresh,keep", (0, 1)),
    }
    assert "in 2 of 2 seeds" in report(cut_short)[1]
    with pytest.raises(SystemExit, match="no seed was run for every arm"):
        rows(made_up("scratch", [1.0]) + [replace(run, seed=7) for run in made_up("small", [1.0])])


def test_payoff_extends_what_was_run_under_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*more: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["payoff.py", *TINY.split(), "--arms", "small", *more])
        payoff.main()
        content: dict[str, Any] = (
            json.loads((tmp_path / "b.json").read_text(encoding="utf-8")) if "b.json" in str(more) else {}
        )
        return content

    one, other = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    run("--json", one, "--lrs", "0.01")
    both = run("--json", other, "--lrs", "0.03", "--extend", one)
    assert [made["lr"] for made in both["runs"]] == [0.01, 0.01, 0.03, 0.03] and "extend" not in both["settings"]
    with pytest.raises(SystemExit, match=r"a.json was made with another --small-steps. Repeat that"):
        run("--small-steps", "3", "--extend", one)


@pytest.mark.slow
def test_frozen_trains_every_arm_on_the_same_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    excerpt = str(frozen.SMALL.parent / "excerpt.txt")
    tiny = ["--steps", "2", "--batch", "2", "--context", "16", "--eval-windows", "8", "--lrs", "1e-3", "--seeds", "0"]
    monkeypatch.setattr(sys, "argv", ["frozen.py", excerpt, excerpt, *tiny])
    frozen.main()
    *table, _, before, _ = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]
    assert [arm for arm, *_ in rows] == [*frozen.ARMS]
    start = before.split()[1]
    assert all(old == new != start for _, _, old, new in rows) and len({old for _, _, old, _ in rows}) == len(rows)


@pytest.mark.slow
def test_deeper_starts_where_the_small_model_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--before", "1", "--at", "0", "1", "--batch", "2", "--context", "16", "--eval-windows", "8"]
    monkeypatch.setattr(sys, "argv", ["deeper.py", str(deeper.SMALL.parent / "excerpt.txt"), *tiny])
    deeper.main()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()]
    at_once = {row[0]: row[1] for row in rows if row[0] in deeper.ARMS}
    assert at_once["silent, even"] == at_once["silent, at the end"] == "+0.000 to +0.000" != at_once["copied, even"]
