"""Streaming: seconds and peak memory of widening a large random Llama, beside copying as many
bytes.

    python benchmarks/stream.py [--parameters 500] [--width 2] [--layers 24] [--dtype bfloat16] [--folder DIR]

Makes a random Llama of about the given number of millions of parameters, widens it in a process of
its own, and copies the result with ``cp`` in the same run. Both are timed until the files are on
the disk. Prints the ratio of the seconds, and the
peak memory above that of the bare interpreter with torch and transformers imported, beside the
bound: twice the largest grown tensor plus 300 MB."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from growth.checkpoint.durable import force
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.hf.expected_tensors import expected_tensors

MEASURED = """
import sys, time, json
import torch, transformers, growth
from growth.checkpoint import widen
from growth.proof import twin
from growth.training import model
peak = lambda: 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
bare, begun = peak(), time.perf_counter()
width, noise, layers = int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
result = growth.widen_checkpoint(sys.argv[1], sys.argv[2], width=width, noise=noise, layers=layers)
seconds, exact = time.perf_counter() - begun, result.proof.fold.exact
print(json.dumps({"seconds": seconds, "bare": bare, "peak": peak(), "exact": exact}))
"""

LAYERS = 24
"""Of the model that is widened."""


def make_source(folder: Path, millions: int, dtype: torch.dtype) -> None:
    """A random Llama, written tensor by tensor."""
    hidden, layers, vocabulary = 1280, LAYERS, 32000
    intermediate = max(
        64, int((millions * 1e6 - 2 * vocabulary * hidden) / layers / hidden - 3 * hidden) // 3 // 64 * 64
    )
    raw = {
        **{
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "hidden_size": hidden,
            "intermediate_size": intermediate,
        },
        **{
            "num_hidden_layers": layers,
            "num_attention_heads": 20,
            "num_key_value_heads": 10,
            "vocab_size": vocabulary,
        },
        **{"tie_word_embeddings": False, "torch_dtype": str(dtype).removeprefix("torch.")},
    }
    from growth.hf.model_classes import class_of

    shapes, _ = expected_tensors(raw, class_of(raw))
    (folder / "config.json").write_text(json.dumps(raw))
    with SafetensorsWriter(
        folder / "model.safetensors", {name: (shape, dtype) for name, shape in shapes.items()}
    ) as writer:
        for shape in shapes.values():
            writer.append(torch.randn(shape).to(dtype))


def copy_seconds(source: Path, target: Path) -> float:
    begun = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    force(target)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=500, help="millions")
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    arguments = parser.parse_args()
    dtype = getattr(torch, arguments.dtype)
    work = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        small, wide, copied = work / "small", work / "wide", work / "copied"
        small.mkdir()
        make_source(small, arguments.parameters, dtype)
        ratios = []
        for number in range(arguments.rounds):
            for folder in (wide, copied):
                shutil.rmtree(folder, ignore_errors=True)
            os.sync()
            command = [
                sys.executable,
                "-c",
                MEASURED,
                str(small),
                str(wide),
                str(arguments.width),
                str(arguments.noise),
                str(arguments.layers),
            ]
            run = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
            os.sync()
            copying = copy_seconds(wide, copied)
            ratios.append(run["seconds"] / copying)
            print(
                f"round {number + 1}: widening {run['seconds']:.1f} s, cp {copying:.1f} s, ratio {ratios[-1]:.2f}",
                flush=True,
            )
        written = sum(path.stat().st_size for path in wide.glob("*.safetensors"))
        plan = json.loads((wide / "growth.json").read_text())["plan"]
        largest = max(torch.Size(tensor["new"]).numel() for tensor in plan["tensors"]) * dtype.itemsize
        used, bound = run["peak"] - run["bare"], 2 * largest + 300e6
        print(
            f"{plan['parameters'][0] / 1e6:.0f} M -> {plan['parameters'][1] / 1e6:.0f} M parameters, "
            f"{written / 1e9:.2f} GB written"
        )
        print(f"median ratio to cp: {statistics.median(ratios):.2f} (wanted: at most 2)")
        print(
            f"peak memory above the interpreter: {used / 1e6:.0f} MB, bound {bound / 1e6:.0f} MB; fold bit for bit: "
            f"{run['exact']}"
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
