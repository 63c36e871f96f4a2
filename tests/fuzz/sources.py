"""Small checkpoints to damage: one class of each declared family under its plainest config, as files in
memory."""

from __future__ import annotations

import io
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from growth.checkpoint.parameter_numbers import trainer_order
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import build_exact, loud
from support.family_cases import ALL, MAIN, small_config

TRAINED = ("gpt2", "llama", "bert", "mixtral")
"""Families that also come as a checkpoint of `transformers.Trainer`."""


@dataclass(frozen=True)
class Link:
    """A symbolic link, to a path that may be relative to its folder."""

    to: str


@dataclass(frozen=True)
class Pipe:
    """A named pipe, which never ends if it is read."""


@dataclass(frozen=True)
class Folder:
    """An empty folder."""


Files = dict[str, "bytes | Link | Pipe | Folder"]
"""Name below the folder of a checkpoint -> what is there."""


def write(files: Files, folder: Path) -> None:
    """Make a folder of files. Of two that cannot both be there, the first is."""
    for name, content in files.items():
        path = folder / name
        with suppress(FileExistsError, NotADirectoryError, FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Link):
                path.symlink_to(content.to)
            elif isinstance(content, Pipe):
                os.mkfifo(path)
            elif isinstance(content, Folder):
                path.mkdir()
            elif not path.is_symlink() and path.parent.resolve().is_relative_to(folder.resolve()):
                path.write_bytes(content)


@cache
def config_of(number: int) -> dict[str, Any]:
    """The small config of one class of one family under one branch of its declaration. Do not change it."""
    return json.loads(json.dumps(small_config(*ALL[number % len(ALL)])))  # type: ignore[no-any-return]


def configs() -> int:
    return len(ALL)


@cache
def fields() -> list[tuple[str, Any]]:
    """Every field of every family's small config, by name."""
    return [entry for model_type, kind, branch in MAIN for entry in small_config(model_type, kind, branch).items()]


@cache
def checkpoint(model_type: str) -> Files:
    """The files that ``save_pretrained`` makes of a family. Copy them before changing any."""
    case = next(case for case in MAIN if case[0] == model_type)
    with TemporaryDirectory() as folder:
        with exact_arithmetic(), torch.random.fork_rng(devices=[]):
            model = build_exact(small_config(*case))
            loud(model, 1)
        model.to(torch.float32).save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def families() -> list[str]:
    return [case[0] for case in MAIN]


@cache
def training(model_type: str) -> Files:
    """The same with the files of a Trainer checkpoint: AdamW after one step in Trainer's two groups."""
    files = dict(checkpoint(model_type))
    case = next(case for case in MAIN if case[0] == model_type)
    model = build_exact(small_config(*case)).to(torch.float32)
    named = dict(model.named_parameters())
    decayed, others = ([named[name] for name in names] for names in trainer_order(model))
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for parameter in named.values():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    scheduler.step()
    state = {
        "global_step": 1,
        "epoch": 0.5,
        "best_model_checkpoint": "out/checkpoint-1",
        "log_history": [{"loss": 2.0, "step": 1}],
    }
    files["optimizer.pt"], files["scheduler.pt"] = saved(optimizer.state_dict()), saved(scheduler.state_dict())
    files["rng_state.pth"], files["training_args.bin"] = (
        saved({"cpu": torch.get_rng_state()}),
        b"a pickle nobody reads",
    )
    files["trainer_state.json"] = json.dumps(state).encode()
    return files


def saved(value: Any, zipped: bool = True) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def loaded(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=True)
