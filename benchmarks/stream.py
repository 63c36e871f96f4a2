"""Streaming: CPU seconds, seconds and peak memory of widening a large random Llama, beside those of its bytes alone.

    python benchmarks/stream.py [--parameters 250] [--layers N] [--dtype bfloat16] [--cases NAME ...] [--jobs N]
                                [--rounds 3] [--against TREE] [--folder DIR] [--markdown]

Makes a random Llama of about the given number of millions of parameters, and widens it case by case, each time in a
process of its own: twice the width, 1.5 times, with and without noise. In the same run it measures

* the start-up, which every figure leaves out: imports, and, in a process of its own, the plan and the proof by twin,
  which a growth of any size makes once;
* the floor: a process that reads every tensor of the source once and writes as many bytes once, through the same
  writer, and computes nothing;
* ``cp -r`` of the result;
* with ``--against``, the same growth by another source tree of the project, an earlier one, say.

All wait until the files are on the disk. CPU seconds are those of the whole process, in the program and in the system:
they say what the work costs where other programs run too, which seconds on the clock do not. Printed are medians over
the rounds, and the peak memory above that of the bare interpreter with torch and transformers imported, beside the
bound: for each of the jobs twice the largest grown tensor plus 300 MB."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measured import table, took

from growth.checkpoint.safetensors_writer import SafetensorsWriter
from growth.hf.expected_tensors import expected_tensors
from growth.hf.model_classes import class_of

CASES: dict[str, dict[str, Any]] = {
    "x2": {"width": 2, "symmetry": "none"},
    "x2-noise": {"width": 2, "noise": 1},
    "x1.5": {"width": 1.5, "symmetry": "none"},
    "x1.5-noise": {"width": 1.5, "noise": 1},
}
PLAIN = "x2"
CHILD = Path(__file__).with_name("stream_child.py")
LAYERS = 24
"""Of the model that is widened."""


@dataclass
class Setting:
    """What is measured.

    Args:
        parameters: of the model that is widened, in millions.
        dtype: of its weights.
        cases: names from ``CASES``.
        rounds: how often each of them.
        jobs: how many of them work at once, None for growth's own choice.
        layers: of the result, if it gets deeper too.
        shard: largest file of the result: there is work for as many jobs as files.
        against: a source tree whose growth is measured beside.
        folder: where to work; by default a temporary folder.
    """

    parameters: int = 250
    dtype: str = "bfloat16"
    cases: Sequence[str] = tuple(CASES)
    rounds: int = 3
    jobs: int | None = None
    layers: int | None = None
    shard: str = "250MB"
    against: Path | None = None
    folder: Path | None = None

    def options(self, case: str) -> dict[str, Any]:
        """Of `growth.widen_checkpoint`."""
        own = {"jobs": self.jobs, "layers": self.layers}
        given = {name: value for name, value in own.items() if value is not None}
        return {**CASES[case], "max_shard_size": self.shard, **given}


@dataclass
class Case:
    """What one case took, a figure for each round: CPU seconds without the start-up, for each GB (1e9 bytes) written,
    and seconds on the clock."""

    written: int = 0
    memory: int = 0
    bound: float = 0.0
    exact: bool = True
    cpu: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    cp: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    floor_wall: list[float] = field(default_factory=list)
    cp_wall: list[float] = field(default_factory=list)
    against: list[float] = field(default_factory=list)


@dataclass
class Measured:
    """All cases; CPU seconds of the imports of each process, and of a plan and its twin in each round."""

    cases: dict[str, Case]
    imports: list[float]
    before: list[float]
    parameters: tuple[int, int]


def make_source(folder: Path, millions: int, dtype: torch.dtype) -> None:
    """A random Llama, written tensor by tensor."""
    heads = 2 * max(1, round(10 * min(1.0, millions / 250) ** 0.5))
    hidden, vocabulary = 64 * heads, 1600 * heads
    wanted = (millions * 1e6 - 2 * vocabulary * hidden) / LAYERS / hidden
    raw = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": max(64, int(wanted - 3 * hidden) // 3 // 64 * 64),
        "num_hidden_layers": LAYERS,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    shapes, _ = expected_tensors(raw, class_of(raw))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(raw))
    announced = {name: (shape, dtype) for name, shape in shapes.items()}
    with SafetensorsWriter(folder / "model.safetensors", announced) as writer:
        for shape in shapes.values():
            writer.append(torch.randn(shape).to(dtype))


def child(found: Measured, *arguments: object, tree: Path | None = None) -> dict[str, Any]:
    """What a process of ``stream_child.py`` printed, with growth from a source tree."""
    path = [] if tree is None else ["env", f"PYTHONPATH={tree.resolve()}"]
    done = took([*path, sys.executable, str(CHILD), *map(str, arguments)]).checked()
    said: dict[str, Any] = json.loads(done.out.splitlines()[-1])
    found.imports.append(done.cpu - said["cpu"])
    return said


def measure(setting: Setting, tell: Callable[[str], None] = lambda line: None) -> Measured:
    """Make the model and measure every case.

    Args:
        setting: what to measure.
        tell: called with a line after each case of each round.
    """
    found = Measured(defaultdict(Case), [], [], (0, 0))
    work = Path(tempfile.mkdtemp(dir=setting.folder))
    small, wide, copied, floored, other = (work / name for name in ("small", "wide", "copied", "floored", "other"))
    try:
        make_source(small, setting.parameters, getattr(torch, setting.dtype))
        for number in range(setting.rounds):
            options = json.dumps(setting.options(setting.cases[0]))
            found.before.append(child(found, "before", small, options)["cpu"])
            for name in setting.cases:
                case = found.cases[name]
                for folder in (wide, copied, floored, other):
                    shutil.rmtree(folder, ignore_errors=True)
                os.sync()
                if setting.against is not None:
                    asked = {name: value for name, value in setting.options(name).items() if name != "jobs"}
                    then = child(found, "widen", small, other, json.dumps(asked), tree=setting.against)
                    written = sum(path.stat().st_size for path in other.glob("*.safetensors"))
                    case.against.append((then["cpu"] - found.before[-1]) / written * 1e9)
                    shutil.rmtree(other)
                    os.sync()
                run = child(found, "widen", small, wide, json.dumps(setting.options(name)))
                floor = child(found, "floor", small, wide, floored)
                copy = took(["sh", "-c", 'cp -r "$0" "$1" && sync "$1"/*', wide, copied]).checked()
                case.written = sum(path.stat().st_size for path in wide.glob("*.safetensors"))
                amount = case.written / 1e9
                case.cpu.append((run["cpu"] - found.before[-1]) / amount)
                case.floor.append(floor["cpu"] / amount)
                case.cp.append(copy.cpu / amount)
                case.wall.append(run["seconds"])
                case.floor_wall.append(floor["seconds"])
                case.cp_wall.append(copy.wall)
                plan = json.loads((wide / "growth.json").read_text())["plan"]
                found.parameters = (plan["parameters"][0], plan["parameters"][1])
                largest = max(math.prod(tensor["new"]) for tensor in plan["tensors"])
                size = largest * getattr(torch, setting.dtype).itemsize
                case.bound = (setting.jobs or 1) * (2 * size + 300e6)
                case.memory, case.exact = max(case.memory, run["memory"]), case.exact and run["exact"]
                tell(
                    f"round {number + 1}, {name}: {case.cpu[-1]:.2f} CPU s/GB, floor {case.floor[-1]:.2f}, cp "
                    f"{case.cp[-1]:.2f}; {case.wall[-1]:.1f} s, floor {case.floor_wall[-1]:.1f} s, cp "
                    f"{case.cp_wall[-1]:.1f} s"
                )
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return found


def costs(found: Measured) -> list[float]:
    """CPU seconds for each GB written, of each case."""
    return [median(case.cpu) for case in found.cases.values()]


HEADER = (
    *("case", "GB written", "CPU s/GB", "before", "to the floor", "to plain", "s", "floor, s", "cp, s"),
    *("memory", "bound", "fold bit for bit"),
)


def ratio(own: Sequence[float], beside: Sequence[float]) -> str:
    """The median over rounds of the ratio within a round."""
    return f"{median(one / other for one, other in zip(own, beside, strict=True)):.1f}"


def rows(found: Measured) -> list[list[str]]:
    """A row of the table for each case."""
    plain = found.cases.get(PLAIN)
    made = []
    for name, case in found.cases.items():
        made.append(
            [
                *(name, f"{case.written / 1e9:.2f}", f"{median(case.cpu):.1f}"),
                f"{median(case.against):.1f}" if case.against else "-",
                ratio(case.cpu, case.floor),
                "-" if plain is None else ratio(case.cpu, plain.cpu),
                *(f"{median(taken):.0f}" for taken in (case.wall, case.floor_wall, case.cp_wall)),
                *(f"{case.memory / 1e6:.0f} MB", f"{case.bound / 1e6:.0f} MB", "yes" if case.exact else "no"),
            ]
        )
    return made


def report(found: Measured, setting: Setting, markdown: bool) -> str:
    """The table, and a line of what it rests on."""
    floors = [cost for case in found.cases.values() for cost in case.floor]
    copies = [cost for case in found.cases.values() for cost in case.cp]
    jobs = "its own number of jobs" if setting.jobs is None else f"{setting.jobs} jobs"
    said = (
        f"{found.parameters[0] / 1e6:.0f} M parameters in {setting.dtype}, rounds: {setting.rounds}, {jobs}. "
        f"Left out: {median(found.imports):.1f} CPU s of imports, {median(found.before):.1f} of plan and twin. "
        f"Floor {median(floors):.2f} CPU s/GB, cp {median(copies):.2f}."
    )
    return f"{table(HEADER, rows(found), markdown)}\n\n{said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=Setting.parameters, help="millions")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default=Setting.dtype)
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=[*CASES])
    parser.add_argument("--rounds", type=int, default=Setting.rounds)
    parser.add_argument("--jobs", type=int, help="how many work at once")
    parser.add_argument("--layers", type=int, help="of the result")
    parser.add_argument("--shard", default=Setting.shard, help="largest file of the result")
    parser.add_argument("--against", type=Path, help="a source tree of growth to measure beside")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    given = vars(parser.parse_args())
    markdown = given.pop("markdown")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    setting = Setting(**given)
    print(report(measure(setting, lambda line: print(line, file=sys.stderr, flush=True)), setting, markdown))


if __name__ == "__main__":
    main()
