"""Growth in memory on a GPU beside the CPU: seconds, and GB (1e9 bytes) of grown weights a second.

    python benchmarks/gpu.py [--parameters 100] [--devices cpu cuda] [--dtype bfloat16] [--rounds 3] [--markdown]

A random Llama of about the given number of millions of parameters is put on each device and grown there to twice the
width, with and without noise, by `growth.widen`, plan, proofs and runs of both models included. Each figure
is the median of the rounds after one that is not counted. Draws are made on the CPU on every device, so that a seed
gives the same weights everywhere. Without a GPU it measures nothing and says so, unless ``--devices cpu`` is asked
for."""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

import torch
from measured import table
from transformers import LlamaConfig, LlamaForCausalLM

import growth

CASES: dict[str, dict[str, Any]] = {"x2": {"width": 2, "symmetry": "none"}, "x2-noise": {"width": 2, "noise": 1}}


def make_model(millions: int, dtype: torch.dtype) -> LlamaForCausalLM:
    """A random Llama with heads of 64."""
    heads = 2 * max(1, round(8 * min(1.0, millions / 100) ** 0.5))
    hidden, layers = 64 * heads, max(2, round(millions / 100 * 8))
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        vocab_size=16000,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(dtype).eval()  # type: ignore[arg-type]


def seconds(model: LlamaForCausalLM, choices: dict[str, Any]) -> tuple[float, int]:
    """What one growth takes, and the bytes of the grown parameters."""
    wait = torch.cuda.synchronize if model.device.type == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    grown = growth.widen(model, **choices)
    wait()
    return time.perf_counter() - begun, sum(value.nbytes for value in grown.model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=100, help="millions")
    parser.add_argument("--devices", nargs="+", default=["cpu", "cuda"])
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = parser.parse_args()
    if any(torch.device(device).type == "cuda" for device in given.devices) and not torch.cuda.is_available():
        raise SystemExit("no GPU was found, so nothing was measured: --devices cpu measures the CPU alone")
    small = make_model(given.parameters, getattr(torch, given.dtype))
    rows = []
    for case, choices in CASES.items():
        for device in given.devices:
            model: Any = small.to(device)  # type: ignore[arg-type]
            taken = [seconds(model, choices) for _ in range(given.rounds + 1)][1:]
            each, written = median(one for one, _ in taken), taken[0][1]
            rows.append([f"{case}, {device}", f"{written / 1e9:.2f}", f"{each:.2f}", f"{written / 1e9 / each:.2f}"])
    print(table(("growth", "GB grown", "s", "GB/s"), rows, given.markdown))
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    count = sum(value.numel() for value in small.parameters())
    print(f"\n{count / 1e6:.0f} M parameters in {given.dtype}; {torch.get_num_threads()} threads; {name}")


if __name__ == "__main__":
    main()
