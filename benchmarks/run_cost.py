"""CPU seconds of `growth.widen` in memory, and how much of them are the runs of the models.

    python benchmarks/run_cost.py

Random Llamas of 10 and 135 M parameters (the shape of SmolLM2-135M), one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import growth
from growth.training import model as widening
from growth.training import unsharded

SHAPES: dict[str, dict[str, Any]] = {
    "10 M": {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 8,
        "vocab_size": 8192,
    },
    "135 M": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "num_hidden_layers": 30,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
}
RUNS = {
    "same_by_config": widening,
    "share_weights": unsharded,
    "try_model": widening,
    "prove_grown": widening,
}
"""What the runs add to `growth.widen` -> the module that calls it."""


def main() -> None:
    torch.set_num_threads(1)
    spent = 0.0

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            nonlocal spent
            start = time.process_time()
            result = function(*given)
            spent += time.process_time() - start
            return result

        return run

    for name, caller in RUNS.items():
        setattr(caller, name, timed(getattr(caller, name)))
    for name, shape in SHAPES.items():
        for dtype in (torch.float32, torch.bfloat16):
            model = LlamaForCausalLM(LlamaConfig(**shape)).to(dtype)  # type: ignore[arg-type]
            for noise in (0.0, 1.0):
                spent, start = 0.0, time.process_time()
                growth.widen(model, width=2, noise=noise)
                total = time.process_time() - start
                print(f"{name}, {dtype}, noise {noise:g}: {total:.2f} s, of which the runs {spent:.2f} s", flush=True)


if __name__ == "__main__":
    main()
