"""The runs of `benchmarks/payoff.py`: its trainer against transformers and torch, its growth against `growth.widen`,
its books, and that an interrupted run goes on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import payoff
import payoff_jobs
import payoff_model
import payoff_results
from payoff_growth import grow, grown_run, optimizer_of
from payoff_model import build, config_of, flat_of
from payoff_plan import RECIPES, Arm, Recipe, Size, Sparse, schedule_of, steps_of
from payoff_presets import PRESETS
from payoff_stack import Stack
from payoff_text import Batches, Corpus, read_corpus

from support.optimizers import no_twin
from support.payoff_cases import TINY, WIDER, tiny_plan, write_texts
from support.threads import one_thread

__all__ = ["no_twin", "one_thread"]  # fixtures for every test here


STEPS = 12


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("payoff") / "texts")


@pytest.fixture(scope="module")
def corpus(texts: Path) -> Corpus:
    return read_corpus(texts, TINY.context, TINY.choose, TINY.report)


def constant(step: int) -> float:
    return min(1.0, (step + 1) / 4)


def trained(corpus: Corpus, steps: int = STEPS, size: Size = WIDER.small) -> Stack:
    return Stack.new(size, TINY, range(4), [0.01, 0.02] * 2).train(steps, constant, corpus)


def by_torch(model: PreTrainedModel, optimizer: Any, corpus: Corpus, run: int, first: int, steps: int) -> torch.Tensor:
    """The weights of a model after so many steps of torch's own AdamW and clipping, on the batches of a run."""
    batches = Batches(corpus.train, range(4), TINY.context, TINY.batch)
    factors = [group["lr"] for group in optimizer.param_groups]  # 1, but where growth preserves the pace
    for step in range(first, first + steps):
        windows = batches.at(step)[run]
        logits = model(input_ids=windows[:, :-1]).logits
        cross_entropy(logits.flatten(0, 1), windows[:, 1:].reshape(-1)).backward()
        clip_grad_norm_(model.parameters(), 1.0)
        for group, factor in zip(optimizer.param_groups, factors, strict=True):
            group["lr"] = factor * (0.01, 0.02)[run % 2] * constant(step)
        optimizer.step()
        optimizer.zero_grad()
    return flat_of(model.parameters())


def apart(corpus: Corpus, size: Size = WIDER.small) -> float:
    start = Stack.new(size, TINY, range(4), [0.01, 0.02] * 2)
    model = start.model(3)
    expected = by_torch(model, optimizer_of(model, None, 0), corpus, 3, 0, STEPS)
    return float((start.train(STEPS, constant, corpus).moments.weights[3] - expected).abs().max())


def test_a_run_of_a_stack_is_one_of_transformers_and_torch(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apart(corpus) < 1e-5 and apart(corpus, Sparse(12, 2)) < 1e-5
    for name, wrong in (("CLIP", 0.5), ("DECAY", 0.0), ("BETAS", (0.9, 0.999))):
        with monkeypatch.context() as patched:
            patched.setattr(payoff_model, name, wrong)
            assert apart(corpus) > 1e-4


@pytest.mark.parametrize(
    ("recipe", "large"),
    [
        ("noise:1", Size(24, 1)),
        ("noise:1, exact layers", Size(24, 2)),
        ("exact layers", Size(12, 2)),
        ("none, fresh moments, new x1.3", Size(24, 1)),
        ("noise:1, more experts", Sparse(12, 1, experts=8)),
        ("noise:1, rates preserved", Size(24, 1)),
    ],
)
def test_a_stack_grows_as_widen_does(recipe: str, large: Size, corpus: Corpus) -> None:
    stack = trained(corpus, size=Sparse(12, 1, experts=4) if isinstance(large, Sparse) else WIDER.small)
    grown, choices = grow(stack, large, RECIPES[recipe]), RECIPES[recipe]
    widened = grown_run(stack, 3, large, choices, choices.symmetry)
    assert flat_of(widened.model.parameters()).equal(grown.moments.weights[3])
    other = grown_run(replace(stack, seeds=(0, 1, 2, 4)), 3, large, choices, choices.symmetry)
    if "noise" in recipe:  # another seed would be seen
        assert not flat_of(other.model.parameters()).equal(grown.moments.weights[3])
    tokens = corpus.report[:3, :-1].expand(4, -1, -1)
    wide, small = (one.program.logits(one.moments.weights, tokens) for one in (grown, stack))
    assert torch.allclose(wide, small, atol=2e-5)
    expected = widened.model(input_ids=tokens[3]).logits.flatten(0, 1)
    assert torch.allclose(wide[3], expected, atol=2e-5)
    if choices.new_rate == 1:  # and goes on as widen's own model does under its own optimizer
        weights = by_torch(widened.model, widened.optimizer, corpus, 3, STEPS, 8)
        settings, one = grown.settings, torch.ones_like(grown.settings.rate)
        wrong = settings._replace(born=0 * one, rate=one, decay=grown.program.decayed)
        old = replace(grown.copy(), settings=wrong).train(STEPS + 8, constant, corpus)
        assert (grown.train(STEPS + 8, constant, corpus).moments.weights[3] - weights).abs().max() < 3e-5
        if large.layers > 1 or "preserved" in recipe:  # states as old as the others, equal rates: would be seen
            assert (old.moments.weights[3] - weights).abs().max() > 1e-3


def test_new_coordinates_move_at_their_own_rate(corpus: Corpus) -> None:
    stack = trained(corpus)
    faster = grow(stack, WIDER.large, RECIPES["none, fresh moments, new x1.3"])
    plain = replace(faster.copy(), settings=faster.settings._replace(rate=torch.ones_like(faster.settings.rate)))
    new = faster.settings.rate[0] > 1
    assert 0.6 < float(new.float().mean()) < 0.8
    assert (faster.moments.second[0][new] == 0).all()  # fresh
    weights = faster.moments.weights.clone()
    decayed = 1 - stack.lrs * payoff_model.DECAY * faster.program.decayed
    moved, expected = (
        one.train(STEPS + 1, constant, corpus).moments.weights - weights * decayed for one in (faster, plain)
    )
    seen = expected.abs() > 1e-4
    ratio = moved / expected
    assert ratio[seen & new].median() == pytest.approx(1.3, abs=1e-3)
    assert ratio[seen & ~new].median() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("name", "factor"), [("doubled", 2), pytest.param("quadrupled", 4, marks=pytest.mark.slow)])
def test_noise_is_scaled_up(name: str, factor: int, corpus: Corpus) -> None:
    stack = trained(corpus)
    none, one, more = (
        grow(stack, WIDER.large, RECIPES.get(recipe, Recipe())) for recipe in ("", "noise:1", f"noise:1 {name}")
    )
    apart, further = (made.moments.weights - none.moments.weights for made in (one, more))
    assert torch.allclose(further, factor * apart, atol=1e-6) and apart.abs().max() > 0.1
    assert more.score(corpus.report) == pytest.approx(stack.score(corpus.report), abs=1e-5)


@pytest.mark.parametrize("place", ["", ", at the end"])
def test_layers_stand_where_the_recipe_says(place: str, corpus: Corpus) -> None:
    stack = trained(corpus, size=Size(12, 2))
    deep = grow(stack, Size(12, 4), RECIPES[f"copied layers{place}"])
    weights = deep.program.parameters(deep.moments.weights)
    layers = [weights[f"model.layers.{number}.mlp.up_proj.weight"] for number in range(4)]
    assert [one.equal(layers[1]) for one in layers] == (
        [False, True, True, True] if place else [True, True, False, False]
    )


def test_what_growth_does_not_offer_changes_the_loss(corpus: Corpus) -> None:
    stack = trained(corpus)
    for name, large in (("zero-padded x0.4, perturbed", WIDER.large), ("copied layers", Size(12, 2))):
        changed = grow(stack, large, RECIPES[name]).score(corpus.report)
        assert changed != pytest.approx(stack.score(corpus.report), abs=1e-3)
    padded = grow(stack, WIDER.large, Recipe(shrink=1.0))
    corner = padded.program.parameters(padded.moments.first)["model.layers.0.mlp.up_proj.weight"]
    moments = stack.program.parameters(stack.moments.first)["model.layers.0.mlp.up_proj.weight"]
    assert corner[:, :32, :12].equal(moments) and not corner[:, 32:].any()


@pytest.mark.parametrize("size", [Size(24, 1), Size(48, 3)])
def test_flops_are_those_that_torch_counts(size: Size) -> None:
    model = build(config_of(size, TINY))
    model.set_attn_implementation("eager")  # fused kernels go uncounted
    tokens = torch.zeros(2, TINY.context, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, use_cache=False).logits.sum().backward()
    assert counter.get_total_flops() == 2 * TINY.context * TINY.flops_per_token(size)


@pytest.mark.parametrize("schedule", [None, "wsd", "cosine"])
def test_the_arms_of_one_schedule_and_the_sweeps_they_need(schedule: str | None) -> None:
    plan = PRESETS["cpu"][1]()
    chosen = payoff.scheduled(plan, schedule)
    assert {arm.schedule for arm in chosen if not arm.sweep} == ({schedule} if schedule else {"wsd", "cosine"})
    assert [arm for arm in chosen if arm.sweep] == [arm for arm in plan if arm.sweep]


@pytest.mark.parametrize("preset", PRESETS)
def test_arms_have_equal_flops_or_equal_tokens_and_fall_for_equal_flops(preset: str) -> None:
    setting, plan = PRESETS[preset][0], PRESETS[preset][1]()
    assert len({arm.job for arm in plan}) == len(plan)
    grown = {(arm.pair, arm.grown_at, arm.horizon): steps_of(arm, setting) for arm in plan if arm.grows}
    for arm in plan:
        steps = steps_of(arm, setting)
        large = setting.flops_per_step(arm.pair.large if arm.grows else arm.size)
        flops = steps.before * setting.flops_per_step(arm.size) + steps.after * large
        if "equal tokens" in arm.name:
            assert steps.total == grown[arm.pair, arm.grown_at, arm.horizon].total
        else:
            assert flops == pytest.approx(arm.horizon * setting.flops, rel=5e-4)
        assert steps.decay * large == pytest.approx(0.25 * flops, rel=2e-3)
        rates = [schedule_of(arm, steps, setting)(step) for step in range(steps.total)]
        assert max(rates) <= 1 and min(rates) > 0 and rates[-1] < 0.01
        if arm.schedule == "wsd":
            assert sum(rate < 1 for rate in rates) == steps.decay - 1 + setting.warmup - 1
    tokens = max(steps_of(arm, setting).total for arm in plan) * setting.tokens_per_step
    assert tokens < 2 * 8_174_319  # never more than two epochs


def test_whole_books_are_held_out_and_no_window_comes_twice(texts: Path, tmp_path: Path) -> None:
    corpus = read_corpus(texts, 64, TINY.choose, TINY.report)
    assert corpus.choose.shape == (6, 65) and corpus.report.shape == (9, 65)
    train = bytes(corpus.train.tolist())
    assert all(bytes(window.tolist()) not in train for window in (*corpus.choose, *corpus.report))
    batches = Batches(corpus.train, (5, 6), TINY.context, TINY.batch)
    first = [tuple(window.tolist()) for step in range(batches.epoch // 2) for window in batches.at(step)[0]]
    assert len(set(first)) == len(first)
    assert batches.at(3).equal(Batches(corpus.train, (5, 6), TINY.context, TINY.batch).at(3))
    assert not batches.at(3)[0].equal(batches.at(3)[1])
    copies = tmp_path / "texts"
    write_texts(copies)
    for name, wrong in (("kjv.txt", "has no book"), ("austen.txt", "is missing")):
        (copies / name).write_text("another text") if "no book" in wrong else (copies / name).unlink()
        with pytest.raises(SystemExit, match=wrong):
            read_corpus(copies, TINY.context, TINY.choose, TINY.report)


Timeless = list[dict[str, Any]]


def results(folder: Path, texts: Path, plan: list[Arm] | None = None, workers: int = 0) -> Timeless:
    """Run a plan, and what the file then has, but for seconds."""
    out = folder / "payoff.jsonl"
    head = payoff.header("tiny", TINY, texts)
    payoff.run(tiny_plan() if plan is None else plan, TINY, texts, out, folder / "trunks", workers, head)
    records = payoff_results.read(out)[1]
    return [{key: value for key, value in record.items() if key != "cpu_seconds"} for record in records]


@pytest.mark.slow
def test_an_interrupted_run_goes_on(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    whole = results(tmp_path / "one", texts)
    run, done = payoff_jobs.execute, 0

    def stopped(*job: Any) -> Any:
        nonlocal done
        done += 1
        if done in (3, 5, 9):
            raise KeyboardInterrupt
        return run(*job)

    monkeypatch.setattr(payoff, "execute", stopped)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            results(tmp_path / "two", texts)
    assert results(tmp_path / "two", texts) == whole
    before = done
    assert results(tmp_path / "two", texts) == whole and done == before  # nothing is left to do
    with pytest.raises(SystemExit, match=r"made with another setting\. Name another file"):
        out, head = tmp_path / "two" / "payoff.jsonl", payoff.header("tiny", replace(TINY, batch=3), texts)
        payoff.run(tiny_plan(), TINY, texts, out, tmp_path / "two" / "trunks", 0, head)
    _books_are_kept(whole)


def _books_are_kept(records: Timeless) -> None:
    jobs = {record["job"] for record in records if record["arm"] != "trunk"}
    assert jobs == {arm.job for arm in tiny_plan()}
    losses: dict[float, float] = {}
    for record in records:
        if record.get("sweep"):
            losses[record["lr"]] = losses.get(record["lr"], 0.0) + record["choose"]
    best = min(losses, key=losses.__getitem__)
    for record in records:
        curve = record["curve"]
        assert curve[-1] == pytest.approx([record["tokens"], record["flops"], record["choose"]], abs=2e-4)
        assert [point[1] for point in curve] == sorted({point[1] for point in curve})
        if record["arm"] not in ("trunk",) and not record.get("sweep"):
            assert record["lr"] == pytest.approx(best * (1.41 if record["schedule"] == "cosine" else 1), rel=5e-3)
        if record["arm"] == "grown":
            assert abs(record["jump"]) < 1e-5
    axes = {(record["axis"], record["arm"], record["seed"]) for record in records}
    assert {("width", "small", 0), ("depth", "small", 1)} <= axes
    by_factor = {record["wide_factor"]: record["report"] for record in records if record["seed"] == 0}
    assert len(set(by_factor.values())) == 3


@pytest.mark.slow
def test_processes_do_what_one_does(texts: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    plan = tiny_plan()[:5]
    one, two = (results(tmp_path / name, texts, plan, workers) for name, workers in (("one", 0), ("two", 2)))
    assert sorted(map(str, one)) == sorted(map(str, two))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch's own compiler warns
def test_a_compiled_stack_is_the_other_one(corpus: Corpus) -> None:
    compiled = Stack.new(WIDER.small, replace(TINY, compiled=True), range(4), [0.01, 0.02] * 2)
    compiled.train(STEPS, constant, corpus)
    assert torch.allclose(compiled.moments.weights, trained(corpus).moments.weights, atol=1e-5)
