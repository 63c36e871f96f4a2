"""What freezing the old weights does in continued pre-training: the loss on the old text and on a
new one, of a small model, of it grown, and of it grown with only what is new trained.

    python benchmarks/frozen.py austen.txt kjv.txt

The small model is the one that is shipped, trained on the first nine tenths of the old text. Of both
texts the last tenth is held out. All arms see the same batches of the new text.
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import growth

SMALL = Path(growth.__file__).parent / "assets" / "austen-llama"
ARMS: dict[str, tuple[dict[str, Any], bool]] = {
    "small, all": ({}, False),
    "twice as wide, all": ({"width": 2}, False),
    "twice as wide, new only": ({"width": 2}, True),
    "feed-forward layers twice as wide, new only": ({"intermediate_size": 512}, True),
}
"""What is trained -> how the model grows (empty: not at all), and whether only what is new trains."""


def windows(text: Path, context: int) -> tuple[Tensor, Tensor]:
    """Windows of tokens ``[windows, context]``: those to train on, and those held out."""
    tokens = torch.tensor(AutoTokenizer.from_pretrained(SMALL)(text.read_text(encoding="utf-8"))["input_ids"])
    rows = tokens[: len(tokens) // context * context].reshape(-1, context)
    cut = len(rows) * 9 // 10
    return rows[:cut], rows[cut:]


@torch.no_grad()
def loss(model: PreTrainedModel, held_out: Tensor, count: int) -> float:
    """Mean loss per token of ``count`` windows, spread evenly."""
    chosen = held_out[torch.linspace(0, len(held_out) - 1, count).long()]
    parts = [float(model(input_ids=part, labels=part).loss) * len(part) for part in chosen.split(16)]
    return sum(parts) / count


def train(
    arm: str, rate: float, seed: int, old: Tensor, new: tuple[Tensor, Tensor], args: argparse.Namespace
) -> Tensor:
    """The losses on the old and the new text, at the start and at the end: ``[2, 2]``."""
    choices, new_only = ARMS[arm]
    model = AutoModelForCausalLM.from_pretrained(SMALL)
    grown = growth.widen(model, noise=1, seed=seed, **choices) if choices else None
    model = grown.model if grown else model
    losses = [[loss(model, text, args.eval_windows) for text in (old, new[1])]]
    with growth.training.train_new_only(grown) if grown and new_only else nullcontext():
        optimizer = AdamW(model.parameters(), lr=rate, weight_decay=0.1)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(args.steps):
            batch = new[0][torch.randint(len(new[0]), (args.batch,), generator=generator)]
            model(input_ids=batch, labels=batch).loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return torch.tensor([*losses, [loss(model, text, args.eval_windows) for text in (old, new[1])]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="the text that the small model was trained on")
    parser.add_argument("new", type=Path, help="the text to go on with")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--eval-windows", type=int, default=64)
    parser.add_argument("--lrs", type=float, nargs="+", default=[3e-4, 1e-3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    args = parser.parse_args()
    began = time.process_time()
    (_, old), new = windows(args.old, args.context), windows(args.new, args.context)
    print("| trained | learning rate | old text | new text |\n|---|---:|---:|---:|")
    for arm in ARMS:
        for rate in args.lrs:
            runs = torch.stack([train(arm, rate, seed, old, new, args) for seed in args.seeds])
            low, high = runs[:, 1].amin(0).tolist(), runs[:, 1].amax(0).tolist()
            both = [f"{a:.3f}" if a == b else f"{a:.3f} to {b:.3f}" for a, b in zip(low, high, strict=True)]
            print(f"| {arm} | {rate:g} | {both[0]} | {both[1]} |", flush=True)
    print(f"\nbefore: {runs[0, 0, 0]:.3f} on the old text, {runs[0, 0, 1]:.3f} on the new one")
    print(f"{time.process_time() - began:.0f} CPU seconds, {args.batch * args.context} tokens a step")


if __name__ == "__main__":
    main()
