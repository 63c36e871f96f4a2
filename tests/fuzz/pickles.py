"""Pickles: weights and training states as PyTorch files, damaged as files or in what they hold."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from safetensors.torch import load as from_safetensors

from fuzz.damage import WEIGHTS
from fuzz.sources import Files, Folder, Link, Pipe, loaded, saved
from fuzz.values import TEXTS, change, damaged_text

MARK = "RAN"


class Hostile:
    """Unpickled with code allowed, it makes a folder named `MARK` in the working folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARK,)


def rezipped(content: bytes) -> bytes:
    """The same archive, compressed."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info.filename))
    return result.getvalue()


def with_pickle(content: bytes, pickled: bytes) -> bytes:
    """The same archive with another ``data.pkl``."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(result, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, pickled if info.filename.endswith("data.pkl") else old.read(info.filename))
    return result.getvalue()


def torch_file(rng: Random, value: Any) -> tuple[str, bytes]:
    """A file of ``torch.save`` that is damaged as a file, whatever it holds."""
    whole = saved(value)
    place = rng.randrange(len(whole))
    ways: dict[str, Callable[[], bytes]] = {
        "whole": lambda: whole,
        "old format": lambda: saved(value, zipped=False),
        "cut short": lambda: whole[:place],
        "old format, cut short": lambda: (old := saved(value, zipped=False))[: rng.randrange(len(old))],
        "one bit": lambda: whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :],
        "compressed": lambda: rezipped(whole),
        "hostile pickle": lambda: pickle.dumps(Hostile()),
        "hostile pickle in the archive": lambda: with_pickle(whole, pickle.dumps({"a": Hostile()}, 2)),
        "odd pickle": lambda: pickle.dumps(rng.choice(([1], "x", {"a": 1}, 3, None))),
        "bytes": lambda: bytes(rng.randrange(256) for _ in range(100)),
        "empty": lambda: b"",
        "start of an archive": lambda: b"PK\x03\x04" + bytes(60),
    }
    what = rng.choice(list(ways))
    return what, ways[what]()


def pickled(rng: Random, files: Files) -> str:
    """The weights as ``pytorch_model.bin``, whole or not."""
    tensors: dict[Any, Any] = from_safetensors(files.pop(WEIGHTS))  # type: ignore[arg-type]
    name = rng.choice(sorted(tensors))
    value, what = tensors[name], rng.choice("abcdefgh")
    if what == "a":
        odd = (
            None,
            3,
            "x",
            [value],
            {"a": value},
            value.to_sparse(),
            value.to(torch.complex64),
            value.to("meta"),
            value.T,
            value.int(),
        )
        tensors[name] = rng.choice(odd)
    elif what == "b":
        tensors[rng.choice((3, None, ("a",), *TEXTS[:-1]))] = value
    elif what == "c":
        tensors = rng.choice(
            ({"state_dict": tensors}, {"model": tensors}, list(tensors.values()), value, {}, {"a": 1})
        )
    elif what == "d":
        tensors = {key: torch.nn.Parameter(held) for key, held in tensors.items()}
    said, content = torch_file(rng, tensors)
    files["pytorch_model.bin"] = content
    return f"pickle: {said} ({what})"


def trained(rng: Random, files: Files) -> str:
    """A training state with something wrong in it."""
    what = rng.choice("aaaabbbbcdefg")
    if what == "a":
        tree = loaded(files["optimizer.pt"])  # type: ignore[arg-type]
        said = _odd_state(rng, tree)
        try:
            files["optimizer.pt"] = saved(tree)
        except (AttributeError, RuntimeError, UnicodeEncodeError):
            return "nothing"  # torch cannot save it either
        return f"optimizer.pt: {said}"
    if what == "b":
        tree = json.loads(files["trainer_state.json"])  # type: ignore[arg-type]
        said = change(rng, tree)
        files["trainer_state.json"] = json.dumps(tree).encode()
        return f"trainer_state.json: {said}"
    if what == "c":
        files["trainer_state.json"] = damaged_text(rng, {"global_step": 3})
        return "text of trainer_state.json"
    name = rng.choice(("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"))
    if what == "d":
        del files[name]
        return f"no {name}"
    if what == "e":
        files[name] = rng.choice((Link("../secret/secret.txt"), Link(name), Link("no"), Pipe(), Folder()))
        return f"{name} is no file"
    if what == "f":
        files[
            rng.choice(
                ("global_step3", "optimizer.bin", "optimizer_0", "scaler.pt", "rng_state_0.pth", "rank0-of-2.pth")
            )
        ] = b"x"
        return "files of another layout"
    said, files["optimizer.pt"] = torch_file(rng, loaded(files["optimizer.pt"]))  # type: ignore[arg-type]
    return f"optimizer.pt as a file: {said}"


def _odd_state(rng: Random, tree: dict[str, Any]) -> str:
    odd = (
        None,
        "x",
        -1,
        float("nan"),
        torch.zeros(3),
        torch.zeros(2, 2).to_sparse(),
        torch.zeros((), dtype=torch.int64),
        [1],
        {},
    )
    groups, state = tree["param_groups"], tree["state"]
    what = rng.choice("abcdefgh")
    if what == "a":
        tree[rng.choice(("state", "param_groups", "extra"))] = rng.choice((*odd, [], [[]], [{}], [{"params": [0]}]))
    elif what == "b":
        group = rng.choice(groups)
        group[rng.choice(sorted(group))] = rng.choice((*odd, 1e30, True, [0, 0], ["a"], 2**70))
    elif what == "c":
        del groups[0][rng.choice(sorted(groups[0]))]
    elif what == "d":
        groups.append(rng.choice((groups[0], {}, None, {"params": []})))
    elif what == "e":
        state[rng.choice(sorted(state))] = rng.choice((*odd, {"exp_avg": 1}))
    elif what == "f":
        held = state[rng.choice(sorted(state))]
        held[rng.choice(sorted(held))] = rng.choice(odd)
    elif what == "g":
        held = state[rng.choice(sorted(state))]
        held["exp_avg"] = rng.choice(
            (held["exp_avg"].half(), held["exp_avg"] * float("inf"), held["exp_avg"][:1], held["exp_avg"].int())
        )
    else:
        state[rng.choice((10**6, -1, "0", None))] = state.pop(rng.choice(sorted(state)))
    return what
