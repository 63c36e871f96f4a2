"""Ways to damage config, header and index of a checkpoint.

Each function changes a mapping of files in place and says what it did."""

from __future__ import annotations

import json
import struct
from random import Random
from typing import Any

import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors

from fuzz.sources import Files, Folder, Link, Pipe
from fuzz.values import TEXTS, change, damaged_text, junk

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SECRET = b"the-secret-of-another-folder"


def config_text(rng: Random, files: Files) -> str:
    files["config.json"] = damaged_text(rng, json.loads(files["config.json"]))  # type: ignore[arg-type]
    return "text of config.json"


def config_values(rng: Random, files: Files, pool: list[tuple[str, Any]]) -> str:
    tree = json.loads(files["config.json"])  # type: ignore[arg-type]
    said = [change(rng, tree, pool) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    files["config.json"] = json.dumps(tree).encode()
    return "config: " + "; ".join(said)


def header(rng: Random, files: Files) -> str:
    """The header of the safetensors file, its length, or the bytes behind it."""
    content: bytes = files[WEIGHTS]  # type: ignore[assignment]
    (length,) = struct.unpack("<Q", content[:8])
    tree, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    name = rng.choice([key for key in tree if key != "__metadata__"])
    entry, other = tree[name], tree[rng.choice([key for key in tree if key != "__metadata__"])]
    raw: bytes | None = None
    what = rng.choice("abcdefghijklmnopqrst")
    if what == "a":
        entry["data_offsets"] = rng.choice(
            ([0, 2**63], [-1, 4], [4, 0], other["data_offsets"], [0], None, ["0", "4"], [0, 2**64])
        )
    elif what == "b":
        entry["dtype"] = rng.choice(
            ("F64", "I8", "F8_E4M3", "BF16", "X", None, 3, "BOOL", "F4", "C64", "U16", "\x1b[31m")
        )
    elif what == "c":
        entry["shape"] = rng.choice(
            ([], [0], [2**62, 4], [-1], entry["shape"][::-1], [*entry["shape"], 1], None, ["3"], [2**40, 2**40], [1.5])
        )
    elif what == "d":
        tree["__metadata__"] = rng.choice(
            ({"format": "tf"}, {"a": 1}, "x", None, {"\x1b": "\x1b"}, {"format": "pt", "x": "y" * 10**6})
        )
    elif what == "e":
        tree[rng.choice(TEXTS)] = tree.pop(name)
    elif what == "f":
        tree[rng.choice((*TEXTS, f"module.{name}", f"_orig_mod.{name}", f"x.{name}", name + "_scale"))] = dict(entry)
    elif what == "g":
        del tree[name]
    elif what == "h":
        tree = {
            f"{rng.choice(('module', '_orig_mod', 'model', 'x', 'base_model.model'))}.{key}"
            if key != "__metadata__"
            else key: value
            for key, value in tree.items()
        }
    elif what == "i":
        raw = json.dumps(tree)[:-1].encode() + b"," + json.dumps({name: other})[1:].encode()  # one name twice
    elif what == "j":
        raw = json.dumps(tree).encode().replace(name.encode(), b"\xff\xfe\x80", 1)
    elif what == "k":
        raw = rng.choice(
            (b"", b"{}", b"[]", b"null", b"[" * 50_000, b'{"a":' * 5000, b" " * 100, b"{" + b" " * 100 + b"}")
        )
    elif what == "l":
        files[WEIGHTS] = (
            struct.pack("<Q", rng.choice((0, 1, length - 1, length + 1, 2**40, 2**63, 2**64 - 1))) + content[8:]
        )
        return "length of the header"
    elif what == "m":
        files[WEIGHTS] = content[: rng.randrange(len(content))]
        return "weights cut short"
    elif what == "n":
        data += bytes(rng.choice((1, 4, 4096)))
    elif what == "o":
        place = rng.randrange(len(content))
        files[WEIGHTS] = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
        return f"bit {place}"
    elif what == "p":
        files[WEIGHTS] = rng.choice(
            (b"", b"PK\x03\x04", b"version https://git-lfs.github.com/spec/v1\n", bytes(64), b"\xff" * 64)
        )
        return "not a safetensors file"
    else:
        tensors = from_safetensors(content)
        value = tensors[name]
        if what == "q":
            tensors[name] = rng.choice(
                (value.half(), value.bfloat16(), value.double(), value.to(torch.int32), value.to(torch.bool))
            )
        elif what == "r":
            value.flatten()[rng.randrange(value.numel())] = rng.choice((float("nan"), float("inf"), 3e38, 1e-45, -0.0))
        elif what == "s":
            tensors[name] = rng.choice(
                (value[:0], value.new_zeros(()), torch.cat([value, value]), value.flatten(), value * 0)
            )
        else:
            tensors = {
                key: value.to(rng.choice((torch.float16, torch.bfloat16, torch.float64)))
                for key, value in tensors.items()
            }
        files[WEIGHTS] = to_safetensors(tensors, {"format": "pt"})
        return f"tensor {name} ({what})"
    text = json.dumps(tree).encode() if raw is None else raw
    files[WEIGHTS] = struct.pack("<Q", len(text)) + text + data
    return f"header of {name} ({what})"


def index(rng: Random, files: Files) -> str:
    """Two shards under an index, which then is damaged."""
    tensors = from_safetensors(files.pop(WEIGHTS))  # type: ignore[arg-type]
    names = sorted(tensors)
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map: dict[str, Any] = {name: shards[i % 2] for i, name in enumerate(names)}
    for shard in shards:
        files[shard] = to_safetensors(
            {name: tensors[name] for name in names if weight_map[name] == shard}, {"format": "pt"}
        )
    tree: dict[str, Any] = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    name, what = rng.choice(names), rng.choice("abcdefghijkl")
    if what == "a":
        weight_map[name] = rng.choice(
            (
                "../secret/secret.safetensors",
                "/etc/passwd",
                "..",
                ".",
                "",
                "a/b",
                "config.json",
                INDEX,
                "no",
                "\x1b[31m",
                "a\x00b",
                "\ud800",
                "x" * 300,
                "..\\x",
                "~/x",
            )
        )
    elif what == "b":
        weight_map[name] = junk(rng)
    elif what == "c":
        weight_map[rng.choice((*TEXTS, name + "x"))] = shards[0]
    elif what == "d":
        del weight_map[name]
    elif what == "e":
        weight_map[name] = shards[shards[0] == weight_map[name]]
    elif what == "f":
        del files[rng.choice(shards)]
    elif what == "g":
        tree["weight_map"] = junk(rng)
    elif what == "h":
        files[INDEX] = damaged_text(rng, tree)
        return "text of the index"
    elif what == "i":
        files[shards[0]] = rng.choice(
            (Link(shards[0]), Link("../secret/secret.safetensors"), Link(INDEX), Link("no"), Pipe(), Folder())
        )
    elif what == "j":
        files[INDEX] = rng.choice((Link(INDEX), Link("../secret/secret.json"), Pipe(), Folder()))
        return "the index is no file"
    elif what == "k":
        change(rng, tree)
    files[INDEX] = json.dumps(tree).encode()
    return f"index ({what})"
