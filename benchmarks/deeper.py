"""What the steps after a growth in depth do to the loss: of the small model that goes on, and of the
same model with twice as many layers, silent or copied, from the same optimizer state on.

    python benchmarks/deeper.py austen.txt

The small model is the one that is shipped, trained a little further, so that its optimizer has moments.
The last tenth of the text is held out. All arms see the same batches.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from frozen import SMALL, loss, windows
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import AutoModelForCausalLM

import growth

LAYERS = 6
ARMS: dict[str, dict[str, Any]] = {
    "small": {},
    "silent, stacked": {"layers": LAYERS},
    "silent, even": {"layers": LAYERS, "insert": "even"},
    "silent, at the end": {"layers": LAYERS, "insert": "end"},
    "copied, stacked": {"layers": LAYERS, "new_layers": "copied", "lossy": True},
    "copied, even": {"layers": LAYERS, "insert": "even", "new_layers": "copied", "lossy": True},
}
"""Name -> how the model grows (empty: not at all)."""


def train(arm: str, seed: int, text: tuple[Tensor, Tensor], args: argparse.Namespace) -> Tensor:
    """The loss on held-out text after each number of steps in ``args.at``, from the growth on."""
    model: Any = AutoModelForCausalLM.from_pretrained(SMALL)
    optimizer: Any = AdamW(model.parameters(), lr=args.lr, weight_decay=0.1)
    generator = torch.Generator().manual_seed(seed)

    def step() -> None:
        batch = text[0][torch.randint(len(text[0]), (args.batch,), generator=generator)]
        model(input_ids=batch, labels=batch).loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(args.before):
        step()
    if ARMS[arm]:
        grown = growth.widen(model, optimizer=optimizer, **ARMS[arm])
        model, optimizer = grown.model, grown.optimizer
    found = []
    for number in range(max(args.at) + 1):
        if number in args.at:
            found.append(loss(model, text[1], args.eval_windows))
        step()
    return torch.tensor(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="the text that the small model was trained on")
    parser.add_argument("--before", type=int, default=30, help="steps before the growth")
    parser.add_argument("--at", type=int, nargs="+", default=[0, 1, 2, 5, 20, 60], help="steps after it")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--eval-windows", type=int, default=64)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    began, text = time.process_time(), windows(args.text, args.context)
    small = torch.stack([train("small", seed, text, args) for seed in args.seeds])
    print(f"| steps after the growth | {' | '.join(map(str, args.at))} |\n|---|{'---:|' * len(args.at)}")
    print(f"| loss of the small model | {' | '.join(f'{value:.3f}' for value in small.mean(0).tolist())} |")
    for arm in list(ARMS)[1:]:
        more = torch.stack([train(arm, seed, text, args) for seed in args.seeds]) - small
        cells = [
            f"{low:+.3f} to {high:+.3f}"
            for low, high in zip(more.amin(0).tolist(), more.amax(0).tolist(), strict=True)
        ]
        print(f"| {arm} | {' | '.join(cells)} |", flush=True)
    print(f"\n{len(args.seeds)} seeds; {time.process_time() - began:.0f} CPU seconds")


if __name__ == "__main__":
    main()
