"""Choices and options drawn at random: mostly sensible ones, some that are not."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import click

from fuzz.values import INTEGERS, TEXTS, argument, junk
from growth.cli.main import widen
from growth.plan.choices import CHOICES
from growth.plan.keep import WORDS

SYMMETRIES = ("none", "noise:1", "noise:0.3", "split:1/2", "split:1/8:varied", "split", "noise:2", "split:0/1", "x")
TARGETS = (
    *("wide",) * 12,
    *("./wide/", "new/deep/wide", "~/wide", "wïde 🦙", "wid\x1b[31me", "wide\x00x", "wide\nx", "\ud800"),
    *("n" * 240, "n" * 300, "", ".", "..", "src", "src/wide", "/dev/null/x", "file", "link"),
)
ODD: Mapping[str, tuple[Any, ...]] = {
    "dtype": ("int8", "x", None, 3, "\x1b[31m"),
    "max_shard_size": ("1", -1, "x", "nanGB", "infGB", "1e400GB", None, 0.5),
    "allow_nonfinite": (True, False, None, "x"),
    "device": ("cpu", "cuda", "meta", "x", "", "cpu:9", 3, None),
    "overwrite": (True, 1, None),
    "moments": ("fresh", "x", None, []),
    "optimizer": (True, 1, None),
}


MORE: list[dict[str, Any]] = [
    {"layers": 3},
    {"layers": 5, "insert": "start"},
    {"layers": 4, "insert": "end"},
    {"layers": 3, "insert": "after:0"},
    {"sizes": {"decoder.num_hidden_layers": 3}},
    {"untie": True},
    {"layers": 4, "untie": True},
    {"kv_heads": 6},
    {"experts": 10},
    {"experts": 15, "layers": 3},
]
"""What a model may have more of at unchanged widths."""


def sensible(rng: Random, sizes: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Keywords of `growth.widen` within their ranges; sizes of the model are named if they are known."""
    found: dict[str, Any] = {}
    if sizes and rng.random() < 0.3:
        some = rng.sample(sorted(sizes), rng.randint(1, min(3, len(sizes))))
        found["sizes"] = {
            name: rng.choice((sizes[name] * 2, sizes[name] * 3, sizes[name] + 1, "keep")) for name in some
        }
    if "sizes" not in found or rng.random() < 0.2:
        found["width"] = rng.choice((2, 2, 3, 1.5, "5/3", 1.25, 4, 2.7))
    if rng.random() < 0.5:
        found[rng.choice(("noise", "symmetry"))] = 1
        found = (
            {**found, "noise": rng.choice((1, 0.3))}
            if "noise" in found
            else {**found, "symmetry": rng.choice(SYMMETRIES[:6])}
        )
    if rng.random() < 0.3:
        found |= rng.choice(MORE)
        if rng.random() < 0.4:
            found.pop("width", None)
    found["attention"] = rng.choice(("heads", "heads", "head-dim"))
    found["rope"] = rng.choice(("slots", "slots", "pairs"))
    found["scaling"] = rng.choice(("unit", "unit", "orthogonal"))
    if rng.random() < 0.2:
        found["seed"] = rng.randrange(2**32)
    if rng.random() < 0.05:
        found["lossy"] = True
    return found


def odd(rng: Random, choices: dict[str, Any], fields: Mapping[str, Any], like: list[Any]) -> dict[str, Any]:
    """The same keywords with one or more that are out of range, of another type, or contradictory.

    Args:
        fields: of the config, some of which are vouched for.
        like: what may be named as another model.
    """
    found = dict(choices)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(list(CHOICES))
        if name == "like" and rng.random() < 0.7:
            found[name] = rng.choice(like)
            if rng.random() < 0.7:
                found["keep"] = ",".join(rng.sample(WORDS, rng.randint(1, len(WORDS))))
        elif name == "vouch" and rng.random() < 0.7:
            found[name] = rng.sample(sorted(fields), min(len(fields), 2))
        elif name == "sizes":
            found[name] = {
                rng.choice((*TEXTS, "hidden_size", "n_layer")): argument(rng) for _ in range(rng.choice((0, 1, 2)))
            }
        elif name == "symmetry" and rng.random() < 0.7:
            found[name] = rng.choice(SYMMETRIES)
        elif name == "seed" and rng.random() < 0.5:
            found[name] = rng.choice(INTEGERS)
        else:
            found[name] = argument(rng)
    return found


def further(rng: Random) -> dict[str, Any]:
    """Keywords of `growth.widen_checkpoint` beside the choices: sensible ones, and at times odd ones."""
    found: dict[str, Any] = {}
    if rng.random() < 0.2:
        found["dtype"] = rng.choice(("float32", "bfloat16", "float16", "fp16"))
    if rng.random() < 0.2:
        found["max_shard_size"] = rng.choice(("5GB", "8KB", "100B", 30_000))
    if rng.random() < 0.1:
        found["overwrite"] = True
    if rng.random() < 0.1:
        found["moments"], found["optimizer"] = rng.choice(("preserve", "fresh", "reset")), True
    if rng.random() < 0.15:
        name = rng.choice(list(ODD))
        found[name] = junk(rng) if rng.random() < 0.3 else rng.choice(ODD[name])
    return found


def command(rng: Random, choices: Mapping[str, Any], source: str, target: str) -> list[str]:
    """A command line of ``grow``, sensible or not."""
    words = rng.choice(
        (
            *(["widen", source, target],) * 5,
            *(["plan", source],) * 5,
            *(["verify", source, target], ["architectures", "llama"], ["architectures", rng.choice(TEXTS)]),
            *(["widen", source], ["other"]),
        )
    )
    options = [
        (CHOICES[name].flag, f"{key}={size}" if name == "sizes" else str(value))
        for name, value in choices.items()
        if not isinstance(value, bool)
        for key, size in (value.items() if isinstance(value, dict) else [("", "")])
    ]
    for flag, value in options:
        words += [flag, value] if rng.random() < 0.95 else [flag, rng.choice(TEXTS)]
    for flag in (
        "--json",
        "-v",
        "--lossy",
        "--overwrite",
        "--optimizer",
        "--help",
        "--depth",
        "--dtype",
        "--hidden_size",
        "--vouch",
    ):
        if rng.random() < 0.04:
            words.append(flag)
    if rng.random() < 0.2:
        place, word = rng.randrange(1, len(words) + 1), rng.choice((*TEXTS, "--", "-", "--x", "--width=", "--width=0"))
        words[place:place] = [] if "/" in word else [word]  # it may become the destination
    return words


def destination(words: list[str]) -> str:
    """The destination that the words of a command name, as click reads them; empty if it does not."""
    try:
        context = widen.make_context("widen", words[1:], resilient_parsing=True)
    except (click.ClickException, click.exceptions.Exit):
        return ""
    return str(context.params.get("dst") or "")
