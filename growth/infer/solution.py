"""From a walk to roles: which space every dimension of every parameter writes or reads, and how it scales."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from growth.infer.errors import Unexplained
from growth.infer.head import before_head, read_like
from growth.infer.parts import Part
from growth.infer.ranges import Range, free, growth_of, sources
from growth.infer.scales import SAME, Scale
from growth.infer.tensor_names import starred
from growth.infer.unification import unify
from growth.infer.values import Reading, Value
from growth.infer.walk import TABLE, Walk


@dataclass(frozen=True)
class Solution:
    """What was found.

    Args:
        walk: the walk.
        parts: parameter -> one part per dimension.
        offsets: parameter -> what the code adds to it, where that makes a difference.
        outputs: output -> (range of its last dimension, scale).
        as_reader: as ``parts``, where a matrix that is an embedding and a head is the head.
    """

    walk: Walk
    parts: Mapping[str, tuple[Part, ...]]
    offsets: Mapping[str, float]
    outputs: Mapping[str, tuple[Range, float]]
    as_reader: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)


def solve(
    walk: Walk, head: str | None, embedding: str | None, guessed: Mapping[str, tuple[Part, ...]] | None = None
) -> Solution:
    """Settle what a walk leaves open, and read the roles off.

    Args:
        walk: a finished walk.
        head, embedding: names of the matrix before the logits and of the input embedding, if there are such. A head
            takes the coefficient of the embedding where it can, as if they were tied: then the last norm carries
            what a reader of k copies is divided by, and one declaration serves both.
        guessed: parts of parameters that no operation ends in (`growth.infer.unused`).

    Raises:
        Unexplained: if the roles contradict one another.

    Example:
        >>> from torch import nn
        >>> from growth.infer.recording import record
        >>> import growth.infer.operations
        >>> layers = [nn.Linear(3, width, bias=False) for width in (4, 8)]
        >>> one, other = (record(layer, {"input": torch.ones(2, 3)}, {"weight": layer.weight}) for layer in layers)
        >>> found = solve(Walk(one, other).run(), None, None)
        >>> [part.kind for part in found.parts["weight"]]
        ['writes', 'keeps']
    """
    for name in walk.small.held:
        walk.parameter(name)  # also those that this forward pass does not use
    _same_in_every_layer(walk)
    for name, tensor in walk.small.outputs.items():
        value = walk.values.get(id(tensor))
        if value is None or value.grows or not tensor.is_floating_point():
            continue
        if not walk.scales.try_equal(value.scale):
            raise Unexplained(_left_over(walk, name, value.scale, head))
    if head and (embedding := read_like(walk, head, embedding)):
        walk.scales.try_equal(walk.parameters[head].scale, walk.parameters[embedding].scale)
    for value in walk.parameters.values():
        if not value.grows:  # what does not grow has no way to scale
            walk.scales.try_equal(value.scale)
    for scale in walk.order:
        walk.scales.try_equal(scale)
    for value in walk.parameters.values():
        walk.scales.try_equal(value.scale)
    for parts in walk.averaged:
        for factor in free(parts):
            factor.averaged = True
    _check_tables(walk)
    found_parts = {name: _parts(walk, name) for name in walk.small.held} | dict(guessed or {})
    found_parts |= before_head(walk, head, found_parts)
    as_reader = dict(found_parts)
    for name in walk.readings:
        if _also_written(walk, name):  # tied: as the embedding it writes, by the same coefficients
            found_parts[name] = _as_writer(walk, name, found_parts[name])
    return Solution(walk, found_parts, _offsets(walk), _outputs(walk), as_reader)


def _left_over(walk: Walk, name: str, scale: Scale, head: str | None) -> str:
    """Why an output that does not grow cannot stay as it is."""
    tied = head is not None and _also_written(walk, head)
    return (
        f"output '{name}' would be {math.exp(_value(walk, scale)):.4g} times the small model's, and no parameter on "
        "the way to it is free to make up for that"
        + (f"; '{head}' is the embedding too, and no gain stands between the two" if tied else "")
    )


def _also_written(walk: Walk, name: str) -> bool:
    """Whether one use of a parameter writes what another one reads."""
    read = [{id(factor) for parts in use for factor in free(parts)} for use in walk.uses.get(name, [])]
    every = set().union(*read) if read else set()
    return any(one != every for one in read)


def _as_writer(walk: Walk, name: str, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The same coefficients, as those of a parameter that writes."""
    scale = _value(walk, walk.parameters[name].scale)
    first = next(d for d, part in enumerate(parts) if part.kind != "keeps")
    return tuple(
        part if part.kind == "keeps" else Part("writes", part.parts, scale if d == first else 0.0)
        for d, part in enumerate(parts)
    )


def _value(walk: Walk, scale: Scale) -> float:
    value = walk.scales.value(scale)
    if value is None:
        raise Unexplained("nothing in the forward pass says by which factor some copies scale")
    return 0.0 if abs(value) < SAME else value


def _parts(walk: Walk, name: str) -> tuple[Part, ...]:
    value = walk.parameters[name]
    if not walk.small.held[name].is_floating_point():  # numbers of places: they are copied
        return tuple(Part("writes", parts) if free(parts) else Part("keeps", []) for parts in value.ranges)
    readings = walk.readings.get(name, [])
    read: dict[tuple[int, int], Reading] = {}
    for reading in readings:
        place = _dimension(value, reading)
        for d in range(len(value.ranges)) if place is None else (place,):
            for factor in free(reading.parts):
                read.setdefault((d, id(factor)), reading)
    kinds: list[str] = []
    for d, parts in enumerate(value.ranges):
        reads = [(d, id(factor)) in read for factor in free(parts)]
        kinds.append("keeps" if not reads else "reads" if all(reads) else "writes" if not any(reads) else "both")
    if "both" in kinds:
        raise Unexplained(
            f"of one dimension of '{name}', some coordinates are summed over and others written, so that it is "
            "neither an input nor an output"
        )
    growing = [d for d, kind in enumerate(kinds) if kind != "keeps"]
    if not growing:
        if abs(_value(walk, value.scale)) > SAME:
            raise Unexplained(
                f"'{name}' would have to be multiplied by {math.exp(_value(walk, value.scale)):.4g}, and none of its "
                "dimensions grows"
            )
        return tuple(Part("keeps", []) for _ in kinds)
    scales = dict.fromkeys(growing, 0.0)
    for d in growing:
        if kinds[d] == "reads":
            scales[d] = _value(walk, read[d, id(free(value.ranges[d])[0])].scale)
    writes = [d for d in growing if kinds[d] == "writes"]
    mixed = any(reading.mixed for reading in readings)
    if mixed:
        left = _value(walk, readings[0].out)
    else:
        own = _value(walk, value.scale if name not in walk.offsets else walk.parameters[f"{name}+"].scale)
        given = sum(-(scales[d] + math.log(growth_of(value.ranges[d]) or 1.0)) for d in growing if kinds[d] == "reads")
        left = own - given
    if abs(left) > SAME:
        if writes:
            scales[writes[0]] += left
        else:
            scales[growing[0]] -= left
    return tuple(
        Part(kind, value.ranges[d] if kind != "keeps" else [], scales.get(d, 0.0)) for d, kind in enumerate(kinds)
    )


def _dimension(value: Value, reading: Reading) -> int | None:
    """Which dimension of a parameter a use of it reads, where that can be told: a square matrix may read and write one
    space."""
    own = {id(factor) for factor in reading.own}
    found = [d for d, parts in enumerate(value.ranges) if own & {id(factor) for factor in parts}]
    return found[0] if len(found) == 1 else None


def _offsets(walk: Walk) -> dict[str, float]:
    return {
        name: by for name, by in walk.offsets.items() if abs(_value(walk, walk.parameters[f"{name}+"].scale)) > SAME
    }


def _outputs(walk: Walk) -> dict[str, tuple[Range, float]]:
    out = {}
    for name, tensor in walk.small.outputs.items():
        value = walk.values.get(id(tensor))
        if value is not None and value.grows and value.ranges and tensor.is_floating_point():
            scale = walk.scales.value(value.scale)
            out[name] = (value.ranges[-1], scale or 0.0)
    return out


def _same_in_every_layer(walk: Walk) -> None:
    """Layers of one kind have the same spaces, each its own copy; one space stands for all of them."""
    groups: dict[tuple[str, tuple[int, ...], tuple[int, ...]], list[str]] = defaultdict(list)
    for name in walk.parameters:
        if name.endswith("+"):
            continue
        one, other = walk.small.held[name], walk.wide.held[name]
        groups[starred(name), tuple(one.shape), tuple(other.shape)].append(name)
    for names in groups.values():
        first = walk.parameters[names[0]]
        for name in names[1:]:
            for parts, others in zip(first.ranges, walk.parameters[name].ranges, strict=True):
                try:
                    unify(parts, others)
                except Unexplained as error:
                    raise Unexplained(f"'{names[0]}' and '{name}' are laid out differently: {error}") from error


def _check_tables(walk: Walk) -> None:
    """Tables that the model computes must be copies too."""
    for one, other, value, where in walk.tables:
        grown = one
        for d, parts in enumerate(value.ranges):
            grown = grown.index_select(d, torch.tensor(sources(parts)))
        scale = walk.scales.value(value.scale) or 0.0
        grown = grown * math.exp(scale)
        size = max(1.0, float(one[one.isfinite()].abs().max()) if one.isfinite().any() else 1.0)
        both = grown.isfinite() & other.isfinite()
        if both.any() and float((grown - other)[both].abs().max()) > TABLE * size:
            raise Unexplained(
                f"{where}: a table that the model computes by itself, {list(one.shape)} and in a wider model "
                f"{list(other.shape)}, is not repeated there but another one. Sinusoids depend so on the number of "
                "features, and ALiBi's slopes on the number of heads"
            )
