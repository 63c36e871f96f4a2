"""Does growing pay? A small model grown in mid-training against a wide one from scratch, and
against the small one continued.

    python benchmarks/payoff.py [--text FILE] [--hidden 64] [--width 2] [--small-steps 200]
                                [--wide-steps 200] [--arms scratch small noise:0.1,fresh,keep ...]
                                [--lrs 0.003 0.01 0.03] [--seeds 0 1 2] [--json FILE]

    python benchmarks/payoff.py --text FILE --hidden 512 --layers 8 --head-dim 64 --batch 64
    --context 512 --small-steps 5000 \\
        --wide-steps 5000 --warmup 200 --lrs 3e-4 1e-3 3e-3 --eval-windows 500 --device cuda --bfloat16 --compile

Arms are ``scratch``, ``small``, and ``SYMMETRY,MOMENTS,HYPER`` for grown ones, e.g.
``split:1/2:varied,preserve,preserve``. A grown arm trains S small and then W wide steps. It meets
the others twice:

* at equal FLOPs: they train for as many steps as cost the same as *both* its phases, to the
  nearest step;
* at equal tokens: they train for S + W steps.

FLOPs of a training step are those of its matrix products, forward and backward:

    tokens * (6 * N + 12 * layers * context * heads * head_dim)

with N the weights of all matrices but the input embedding, which is a look-up. The head is a
product, and counts even where it is tied: a small model spends a larger share of its work there, so
leaving it out would flatter growth. The second term is attention, without the half that a causal
kernel may save (PaLM, arXiv 2204.02311, appendix B).

What makes it fair:

* every arm of a seed sees the same batches in the same order and is scored on the same windows of
  the last tenth of the text, held out;
* every run has one cosine from the same warm-up to 0 at the end of its own budget: a grown arm's
  goes on through the growth, so its small phase, too, follows the schedule of the whole. At equal
  tokens the small arm is that very small phase, continued;
* every arm has the same grid of learning rates; grown arms use one for both phases. The best is
  chosen by the mean over seeds on every other held-out window, and what is reported is the loss
  on the others. A best rate at the edge of the grid is marked;
* AdamW, weight decay, clipping and the scale of the initial weights (init / sqrt(hidden)) are the
  same for all; arms that preserve the optimizer's settings carry the threshold of clipping over
  as well, by its factor at the growth (`growth.training.clipping.clip_factor`).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from payoff_report import EQUAL, GROWN, Run, report
from payoff_training import ASSETS, Corpus, Trainer, batches, read_corpus
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, logging

import growth

ARMS = [
    "scratch",
    "small",
    "none,preserve,preserve",
    "none,preserve,keep",
    "noise:0.1,preserve,preserve",
    "noise:1,preserve,preserve",
]
ARMS += ["noise:1,preserve,keep", "noise:1,fresh,keep", "noise:1,reset,keep", "split:1/8:varied,preserve,preserve"]


FREE = ("arms", "lrs", "seeds", "jobs", "json", "extend")
"""Settings in which files that are reported together may differ."""


@dataclass(frozen=True)
class Budget:
    """Steps of each phase."""

    small: int
    wide: int


@dataclass(frozen=True)
class Costs:
    """FLOPs per token of the small and of the wide model."""

    small: int
    wide: int

    def of(self, budget: Budget) -> int:
        return budget.small * self.small + budget.wide * self.wide


def small_config(args: argparse.Namespace) -> LlamaConfig:
    heads = args.hidden // args.head_dim
    return LlamaConfig(
        vocab_size=1024,
        hidden_size=args.hidden,
        intermediate_size=args.intermediate or 8 * round(args.hidden / 3),
        num_hidden_layers=args.layers,
        num_attention_heads=heads,
        num_key_value_heads=args.kv_heads or heads,
        head_dim=args.head_dim,
        max_position_embeddings=args.context,
        tie_word_embeddings=args.tied,
        initializer_range=args.init / math.sqrt(args.hidden),
        rms_norm_eps=1e-5,
        bos_token_id=0,
        eos_token_id=1,
    )


def wide_config(small: LlamaConfig, args: argparse.Namespace) -> LlamaConfig:
    """Of what the small one grows to, with initial weights of its own size."""
    config = copy.deepcopy(growth.widen(LlamaForCausalLM(small), width=args.width).model.config)
    config.initializer_range = args.init / math.sqrt(config.hidden_size)
    return config


def flops_per_token(model: LlamaForCausalLM, context: int) -> int:
    """Of a training step: 6 N + 12 layers * context * heads * head_dim."""
    matrices = {
        name: p.numel() for name, p in model.named_parameters() if p.ndim == 2 and name != "model.embed_tokens.weight"
    }
    head = model.lm_head.weight.numel() if "lm_head.weight" not in matrices else 0
    queries = sum(
        p.shape[0] for name, p in model.named_parameters() if name.endswith("q_proj.weight")
    )  # layers * heads * head_dim
    return 6 * (sum(matrices.values()) + head) + 12 * context * queries


def budgets(costs: Costs, small: int, wide: int) -> dict[tuple[str, str], Budget]:
    """(arm, what is equal) -> steps."""
    grown = Budget(small, wide)
    return {
        (GROWN, "FLOPs"): grown,
        (GROWN, "tokens"): grown,
        ("scratch", "FLOPs"): Budget(0, round(costs.of(grown) / costs.wide)),
        ("scratch", "tokens"): Budget(0, small + wide),
        ("small", "FLOPs"): Budget(round(costs.of(grown) / costs.small), 0),
        ("small", "tokens"): Budget(small + wide, 0),
    }


def cell(
    seed: int, lr: float, small: LlamaConfig, wide: LlamaConfig, corpus: Corpus, args: argparse.Namespace
) -> list[Run]:
    """Every arm at one seed and one learning rate. All grown arms, and the small one at equal
    tokens, share one small phase."""
    costs = Costs(*(flops_per_token(LlamaForCausalLM(config), args.context) for config in (small, wide)))
    steps = budgets(costs, args.small_steps, args.wide_steps)
    runs = []

    def trainer(config: LlamaConfig, total: int) -> Trainer:
        torch.manual_seed(seed)
        return Trainer(LlamaForCausalLM(config), lr, total, args)

    def finish(arm: str, equal: tuple[str, ...], budget: Budget, run: Trainer, jump: float = 0.0) -> None:
        run.train(batches(corpus, seed, run.taken, args), budget.small + budget.wide - run.taken)
        note(arm, equal, budget, (run.score(corpus.choosing), run.score(corpus.reported)), jump, run.seconds)

    def note(
        arm: str, equal: tuple[str, ...], budget: Budget, scores: tuple[float, float], jump: float, seconds: float
    ) -> None:
        tokens = args.batch * args.context * (budget.small + budget.wide)
        flops = args.batch * args.context * costs.of(budget)
        runs.append(Run(arm, equal, seed, lr, budget.small, budget.wide, tokens, flops, *scores, jump, seconds))

    for arm, config in (("scratch", wide), ("small", small)):
        for equal in EQUAL if arm in args.arms else ():
            budget = steps[arm, equal]
            if (arm, equal) != ("small", "tokens"):
                finish(arm, (equal,), budget, trainer(config, budget.small + budget.wide))
    begun = trainer(small, args.small_steps + args.wide_steps)
    begun.train(batches(corpus, seed, 0, args), args.small_steps)
    before = begun.score(corpus.reported)
    for arm in args.arms:
        if arm not in ("scratch", "small"):
            budget = steps[GROWN, "FLOPs"]
            if math.isfinite(before):
                run = begun.grown(arm, seed)
                finish(arm, EQUAL, budget, run, abs(run.score(corpus.reported) - before))
            else:  # a model that diverged does not grow
                note(arm, EQUAL, budget, (math.nan, math.nan), 0.0, begun.seconds)
    if "small" in args.arms:
        finish("small", ("tokens",), steps["small", "tokens"], begun)
    return runs


def costs_of(args: argparse.Namespace) -> Costs:
    small = small_config(args)
    models = (LlamaForCausalLM(small), LlamaForCausalLM(wide_config(small, args)))
    return Costs(*(flops_per_token(model, args.context) for model in models))


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--text", type=Path, default=ASSETS / "excerpt.txt", help="UTF-8; the excerpt that comes along is short"
    )
    for name, default in {
        "hidden": 64,
        "intermediate": 0,
        "layers": 2,
        "head-dim": 16,
        "kv-heads": 0,
        "context": 128,
        "batch": 8,
    }.items():
        parser.add_argument(
            f"--{name}", type=int, default=default, help="0: follows from hidden" if default == 0 else None
        )
    parser.add_argument("--tied", action="store_true", help="tie the head to the embedding")
    parser.add_argument("--width", type=float, default=2.0)
    parser.add_argument("--small-steps", type=int, default=200)
    parser.add_argument("--wide-steps", type=int, default=200)
    parser.add_argument("--warmup", type=int, default=20, help="steps of every run")
    parser.add_argument(
        "--fresh-warmup", type=int, default=0, help="steps after growth over which new coordinates come to full rate"
    )
    parser.add_argument(
        "--init", type=float, default=0.6, help="initial weights have a deviation of this over sqrt(hidden)"
    )
    parser.add_argument("--arms", nargs="+", default=ARMS)
    parser.add_argument("--lrs", type=float, nargs="+", default=[3e-3, 1e-2, 3e-2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--eval-windows", type=int, default=128, help="held-out windows to choose by, and as many to report"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="autocast")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="write everything there")
    parser.add_argument(
        "--extend", type=Path, nargs="+", default=[], help="report on the runs of these --json files as well"
    )
    args = parser.parse_args(given)
    for arm in args.arms:
        if arm not in ("scratch", "small") and arm.count(",") != 2:
            parser.error(
                f"arm {arm!r} is not scratch, small or SYMMETRY,MOMENTS,HYPER. Use e.g. noise:0.1,fresh,keep."
            )
    return args


def measure(args: argparse.Namespace) -> Iterator[list[Run]]:
    """The runs of one (seed, learning rate) after the other, ``jobs`` of them at once."""
    corpus, small = read_corpus(args.text, args.context, args.eval_windows), small_config(args)
    work = partial(_work, small=small, wide=wide_config(small, args), corpus=corpus, args=args)
    cells = [(seed, lr) for seed in args.seeds for lr in args.lrs]
    if args.jobs == 1:
        yield from tqdm(map(work, cells), total=len(cells), unit="cell")
    else:
        with ProcessPoolExecutor(args.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield from tqdm(pool.map(work, cells), total=len(cells), unit="cell")


def _work(at: tuple[int, float], **common: Any) -> list[Run]:
    logging.set_verbosity_error()
    return cell(*at, **common)


def earlier(path: Path, settings: dict[str, Any]) -> list[Run]:
    """The runs in a file, made under the same settings but for seeds, rates and arms."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if differ := [
        name for name, value in settings.items() if name not in FREE and content["settings"].get(name) != value
    ]:
        raise SystemExit(
            f"{path} was made with another --{differ[0].replace('_', '-')}. Repeat that, or leave the file out."
        )
    return [Run(**{**run, "equal": tuple(run["equal"])}) for run in content["runs"]]


def main() -> None:
    args = arguments()
    logging.set_verbosity_error()
    settings = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(args).items()
        if name != "extend"
    }
    content: dict[str, Any] = {"settings": settings, "flops_per_token": asdict(costs_of(args))}
    runs = [run for path in args.extend for run in earlier(path, settings)]
    for more in measure(args):
        runs += more
        table, verdict = report(runs)
        if args.json:  # after every cell, so that a run cut short leaves what it found
            content |= {"runs": [asdict(run) for run in runs], "table": table, "verdict": verdict}
            args.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    print(f"{table}\n\n{verdict}")


if __name__ == "__main__":
    main()
