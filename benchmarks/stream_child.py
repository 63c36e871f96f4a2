"""What ``stream.py`` measures, a process each:

    python benchmarks/stream_child.py before SRC OPTIONS        # the plan and the proof by twin
    python benchmarks/stream_child.py widen SRC DST OPTIONS     # all of `growth.widen_checkpoint`
    python benchmarks/stream_child.py floor SRC LIKE DST        # reading and writing alone

OPTIONS are those of `growth.widen_checkpoint`, as JSON. Each prints the CPU seconds, in the program and in the system,
and the seconds that it took once everything was imported."""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import growth
import growth.checkpoint.widen
import growth.proof.twin
import growth.training.model
from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.hf.reader import open_checkpoint

BLOCK = 1 << 21
"""Weights that are written at a time, as growth writes them."""


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def before(source: str, options: str) -> dict[str, Any]:
    """What a growth does before it touches a weight."""
    given = json.loads(options)
    choices = {name: given[name] for name in ("width", "noise", "symmetry", "layers") if name in given}
    growth.proof.twin.prove_twin(growth.plan_widening(source, **choices))
    return {}


def widen(source: str, target: str, options: str) -> dict[str, Any]:
    """A growth from folder to folder."""
    given = json.loads(options)
    bare = peak()
    result = growth.widen_checkpoint(source, target, **given)
    return {"memory": peak() - bare, "exact": result.proof.fold.exact}


def floor(source: str, like: str, target: str) -> dict[str, Any]:
    """Read every tensor of the source once, and write as many bytes as ``like`` has once, through the same writer:
    blocks of each tensor, over and over, until its grown size is reached."""
    checkpoint = open_checkpoint(source)
    tensors = json.loads((Path(like) / "growth.json").read_text())["plan"]["tensors"]
    shapes = {tensor["name"]: tuple(tensor["new"]) for tensor in tensors}
    sources = {tensor["name"]: tensor["source"] or tensor["name"] for tensor in tensors}
    Path(target).mkdir()
    announced = {name: (shape, checkpoint.dtypes[sources[name]]) for name, shape in shapes.items()}
    with SafetensorsWriter(Path(target) / "model.safetensors", announced) as writer:
        for name in shapes:
            blocks, missing = checkpoint.read(sources[name]).reshape(-1).split(BLOCK), math.prod(shapes[name])
            for block in itertools.cycle(blocks):
                writer.append(part := block[:missing])
                missing -= len(part)
                if not missing:
                    break
    return {}


def cpu() -> float:
    """Seconds of all processors for this process, its threads and the processes that it has ended."""
    return sum(os.times()[:4])


if __name__ == "__main__":
    mode = {"before": before, "widen": widen, "floor": floor}[sys.argv[1]]
    spent, begun = cpu(), time.perf_counter()
    found = mode(*sys.argv[2:])
    print(json.dumps({"cpu": cpu() - spent, "seconds": time.perf_counter() - begun, **found}))
