"""What a head reads: the matrix before the logits, the embedding that it may be tied to, and the norm before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from growth.infer.parts import Part
from growth.infer.ranges import grows
from growth.infer.walk import Walk


def is_head(walk: Walk, name: str) -> bool:
    """Whether a parameter makes what does not grow of what does. Some classes call the dense layer before it so."""
    if name not in walk.parameters:
        return False
    return sum(grows(parts) for parts in walk.parameters[name].ranges) == 1


def read_like(walk: Walk, head: str, embedding: str | None) -> str | None:
    """The embedding that a head may be tied to: the one that the forward pass looks up, of its shape.

    Args:
        walk: a finished walk.
        head: name of the matrix before the logits.
        embedding: what the class calls its input embedding.
    """
    if not is_head(walk, head):
        return None
    shape = walk.small.held[head].shape
    used = [name for name in walk.uses if name not in walk.readings and walk.small.held[name].shape == shape]
    if embedding in walk.uses or not used:
        return embedding if embedding in walk.parameters else None
    return used[-1]  # of an encoder and a decoder, the decoder's


def before_head(walk: Walk, head: str | None, parts: Mapping[str, tuple[Part, ...]]) -> dict[str, tuple[Part, ...]]:
    """The parts of a head, and of the gain and the bias whose product it reads, marked as such.

    The head reads the dual of what the embedding writes. A declaration says so, since it is more than a number: where
    both are 1 / sqrt(k), the two round otherwise."""
    if head is None or not is_head(walk, head) or not (readings := walk.readings.get(head)):
        return {}
    wanted = readings[0].scale
    gains = [
        name.removesuffix("+") for name, value in walk.parameters.items()
        if wanted.terms and value.scale.terms == wanted.terms and name != head
    ]  # fmt: skip
    modules = {name.rpartition(".")[0] for name in gains}
    found: dict[str, tuple[Part, ...]] = {}
    for name in parts:
        if name == head:
            found[name] = tuple(replace(p, before_head=0.0) if p.kind == "reads" else p for p in parts[name])
        elif name.rpartition(".")[0] in modules and len(parts[name]) == 1 and parts[name][0].kind == "writes":
            found[name] = (replace(parts[name][0], before_head=wanted.constant),)
    return found
