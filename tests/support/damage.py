"""Ways to damage a checkpoint, and cases: a damaged checkpoint with what is said of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from growth import GrowthError, UnsupportedModelError

QUERY = "model.layers.1.self_attn.q_proj.weight"
SHARD = "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"

Damage = Callable[[Path], None]


def config(**changes: Any) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def without(*fields: str) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(
            json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key not in fields})
        )

    return damage


def file(name: str, content: bytes) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return damage


def both(first: Damage, second: Damage) -> Damage:
    def damage(folder: Path) -> None:
        first(folder)
        second(folder)

    return damage


def gone(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()

    return damage


def tensors(change: Callable[[dict[str, Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def replaced(name: str, change: Callable[[Tensor], Tensor]) -> Damage:
    return tensors(lambda state: state.update({name: change(state[name])}))


def added(name: str, tensor: Tensor) -> Damage:
    return tensors(lambda state: state.update({name: tensor}))


def dropped(name: str) -> Damage:
    return tensors(lambda state: state.pop(name))


def weights(change: Callable[[bytes], bytes]) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return damage


def indexed(index: Any) -> Damage:
    """One shard under an index; ``{QUERY: name}`` moves that tensor to a shard of that name."""

    def damage(folder: Path) -> None:
        names = load_file(folder / "model.safetensors")
        os.rename(folder / "model.safetensors", folder / SHARD)
        whole = (
            {"weight_map": {**dict.fromkeys(names, SHARD), **index}}
            if isinstance(index, dict) and QUERY in index
            else index
        )
        (folder / INDEX).write_text(json.dumps(whole))

    return damage


def pickled(content: Callable[[dict[str, Tensor]], Any], zipped: bool = True) -> Damage:
    def damage(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save(content(state), folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)

    return damage


def binary(content: bytes) -> Damage:
    return both(gone("model.safetensors"), file("pytorch_model.bin", content))


def truncated_pickle(folder: Path) -> None:
    pickled(lambda state: state)(folder)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-3000])


@dataclass(frozen=True)
class Case:
    name: str
    damage: Damage
    error: type[GrowthError]
    says: tuple[str, ...]
    base: str = "llama"
    step: str | None = None
    planned: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def unvouched(name: str, value: Any, base: str = "llama") -> Case:
    return Case(
        f"{base} {name}",
        config(**{name: value}),
        UnsupportedModelError,
        (f"'{name}'", repr(value), base, f"--vouch {name}"),
        base=base,
    )


def rejected(label: str, says: tuple[str, ...] = (), base: str = "llama", **changes: Any) -> Case:
    """A config whose values no model can be built from."""
    return Case(label, config(**changes), UnsupportedModelError, says, base=base)
