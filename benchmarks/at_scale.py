"""The largest open models, planned: what it takes, and what growing them would take.

    python benchmarks/at_scale.py [--models NAME ...] [--width 2] [--folder DIR] [--plain 4.4 --noise 29 | --measure]
                                  [--workers 1 8 64] [--disk 2 10] [--markdown]

Makes checkpoints of Llama-3.1-405B and DeepSeek-V3 (671 B) that hold no weights: the configs of the published models,
safetensors files with the headers of all their tensors in bfloat16, and holes of the right size in place of the data,
which take no room on the disk. ``grow plan`` plans each of them in a process of its own and reads headers alone, and
``grow widen`` must refuse it for lack of disk and leave nothing behind.

What the growth itself would take follows from its cost: CPU seconds for each GB (1e9 bytes) written, given as
``--plain`` (copies alike) and ``--noise`` (noise 1), or measured in the same run by ``stream.py`` (``--measure``).
Assumed: as many cores as workers, each as fast as the one that was measured; shards that divide the work evenly; a
start-up of nothing; and a disk that carries ``--disk`` GB/s, reading and writing together, where the source is read
once. The time is that of the workers or that of the disk, whichever is longer."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import stream
from measured import Took, table, took
from transformers import DeepseekV3Config, LlamaConfig, PreTrainedConfig

from growth.hf.expected_tensors import expected_tensors
from growth.hf.model_classes import class_of

SHARD = 4_000_000_000
"""Bytes of a file of the source."""


def llama_405b() -> PreTrainedConfig:
    """Llama-3.1-405B as published."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    return LlamaConfig(
        vocab_size=128256,
        hidden_size=16384,
        intermediate_size=53248,
        num_hidden_layers=126,
        num_attention_heads=128,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_parameters=rope,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )


def deepseek_v3() -> PreTrainedConfig:
    """DeepSeek-V3 as published, without its layer that predicts a second token, which transformers does not load. Its
    sizes are the defaults of the class."""
    rope = {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
    }
    return DeepseekV3Config(
        max_position_embeddings=163840,
        rope_parameters=rope,
        architectures=["DeepseekV3ForCausalLM"],
        dtype="bfloat16",
    )


MODELS: dict[str, Callable[[], PreTrainedConfig]] = {"Llama-3.1-405B": llama_405b, "DeepSeek-V3": deepseek_v3}


@dataclass(frozen=True)
class Sparse:
    """A checkpoint without weights: how many tensors, files, and bytes they would have."""

    tensors: int
    files: int
    size: int


def make_sparse(folder: Path, raw: Mapping[str, Any]) -> Sparse:
    """Write the config, the index, and files whose data are holes."""
    shapes, tied = expected_tensors(raw, class_of(raw))
    size = {name: 2 * math.prod(shape) for name, shape in shapes.items() if name not in tied}
    shards: list[list[str]] = [[]]
    for name in size:
        if shards[-1] and sum(map(size.__getitem__, shards[-1])) + size[name] > SHARD:
            shards.append([])
        shards[-1].append(name)
    folder.mkdir()
    weight_map = {}
    for number, names in enumerate(shards, 1):
        file, header, end = f"model-{number:05}-of-{len(shards):05}.safetensors", {}, 0
        for name in names:
            header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [end, end + size[name]]}
            end += size[name]
            weight_map[name] = file
        encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        with (folder / file).open("wb") as made:
            made.write(len(encoded).to_bytes(8, "little") + encoded)
            made.truncate(8 + len(encoded) + end)
    index = {"metadata": {"total_size": sum(size.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(raw))
    return Sparse(len(size), len(shards), sum(size.values()))


def grow(*arguments: object) -> Took:
    """The command line, in a process of its own."""
    return took([sys.executable, "-m", "growth", *map(str, arguments)])


def refused(source: Path, target: Path, width: float, size: int) -> str:
    """What ``grow widen`` says where the disk is too small for the result of that size, and what that took."""
    if shutil.disk_usage(target.parent).free > size:
        return f"{source.name}: not tried to widen, since the disk of {target.parent} could hold the result"
    before = sorted(os.listdir(target.parent))
    done = grow("widen", source, target, "--width", width)
    if done.code != 1 or "free" not in done.err:
        raise SystemExit(f"a result of {size / 1e9:.0f} GB was not refused for the disk: {done}")
    if (after := sorted(os.listdir(target.parent))) != before:
        raise SystemExit(f"a refusal left something behind: {before} became {after}")
    said = done.err.strip().splitlines()[-1]
    return f"{source.name}: refused after {done.cpu:.0f} CPU s, nothing left behind: {said}"


@dataclass(frozen=True)
class Growth:
    """One growth: bytes read and written in GB, and its cost in CPU seconds for each GB written."""

    read: float
    written: float
    cost: float

    def seconds(self, workers: int, disk: float) -> float:
        """What it takes with so many workers, on a disk of so many GB/s."""
        return max(self.cost * self.written / workers, (self.read + self.written) / disk)

    def enough(self, disk: float) -> int:
        """From how many workers on the disk is the limit."""
        return math.ceil(self.cost * self.written / ((self.read + self.written) / disk))


def clock(seconds: float) -> str:
    """Hours or minutes.

    >>> clock(5400), clock(61)
    ('1.5 h', '1 min')
    """
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{math.ceil(seconds / 60)} min"


def plans(work: Path, given: argparse.Namespace) -> tuple[list[list[str]], list[str], dict[str, tuple[int, int]]]:
    """Rows of the first table, what the refusals said, and the bytes of each model before and after."""
    found, said, sizes = [], [], {}
    for name in given.models:
        source = work / name
        raw = json.loads(MODELS[name]().to_json_string(use_diff=False))
        made = make_sparse(source, raw)
        plan = grow("plan", source, "--width", given.width, "--json").checked()
        old, new = json.loads(plan.out)["bytes"]
        if old != made.size:
            raise SystemExit(f"{name}: the plan speaks of {old} bytes, the headers of {made.size}")
        sizes[name] = (old, new)
        counts = [f"{made.tensors:,}", f"{made.files}", f"{old / 1e9:,.0f} GB", f"{new / 1e9:,.0f} GB"]
        found.append([name, *counts, f"{plan.cpu:.0f}", f"{plan.peak / 1e6:.0f} MB"])
        said.append(refused(source, work / f"{name}-wide", given.width, new))
        shutil.rmtree(source)
    return found, said, sizes


def projections(sizes: Mapping[str, tuple[int, int]], costs: Mapping[str, float], given: Any) -> list[list[str]]:
    """Rows of the second table."""
    made = []
    for name, (old, new) in sizes.items():
        for case, cost in costs.items():
            growth = Growth(old / 1e9, new / 1e9, cost)
            for disk in given.disk:
                times = [clock(growth.seconds(workers, disk)) for workers in given.workers]
                core_hours = f"{cost * growth.written / 3600:.0f}"
                made.append([f"{name}, {case}", core_hours, f"{disk:g} GB/s", *times, f"{growth.enough(disk)}"])
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=[*MODELS], default=[*MODELS])
    parser.add_argument("--width", type=float, default=2)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    parser.add_argument("--plain", type=float, default=4.4, help="CPU seconds for each GB written, copies alike")
    parser.add_argument("--noise", type=float, default=29, help="the same with noise 1")
    parser.add_argument("--measure", action="store_true", help="measure both with stream.py, in minutes")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--disk", type=float, nargs="+", default=[2, 10], help="GB/s, reading and writing together")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    costs = {"plain": given.plain, "noise 1": given.noise}
    if given.measure:
        setting = stream.Setting(cases=("x2", "x2-noise"), rounds=1, folder=given.folder)
        costs = dict(zip(costs, stream.costs(stream.measure(setting)), strict=True))
    work = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        rows, said, sizes = plans(work, given)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    header = ("model", "tensors", "files", "source", "result", "CPU s of the plan", "peak memory")
    print(table(header, rows, given.markdown), "", *said, "", sep="\n")
    workers = [f"{count} worker{'s' if count > 1 else ''}" for count in given.workers]
    header = ("growth", "core-hours", "disk", *workers, "disk-bound from")
    print(table(header, projections(sizes, costs, given), given.markdown), "", sep="\n")
    told = ", ".join(f"{case} {cost:.1f}" for case, cost in costs.items())
    print(f"CPU seconds for each GB written: {told}")


if __name__ == "__main__":
    main()
