"""Walking two runs side by side: what each operation says of ranges and scales."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from growth.infer.errors import Unexplained
from growth.infer.ranges import Range, count_of, described, fresh, grows, growth_of
from growth.infer.recording import Call, Recording, side_by_side, tensors_in
from growth.infer.scales import ONE, SAME, Scale, Scales
from growth.infer.values import RULES, Pair, Reading, Value

TABLE = 1e-9
"""How far two tables that a model computes may be apart, relative to their size."""

IN_PLACE = ("copy_", "fill_", "put_", "add_", "scatter_", "reduce_")
"""Ends of the names of operations that change a part of a tensor: what they put there scales as the rest."""


@dataclass(eq=False)
class Walk:
    """Two runs, walked from the first operation to the last.

    Args:
        small, wide: the recordings.

    Example:
        >>> from torch import nn
        >>> from growth.infer.recording import record
        >>> import growth.infer.operations
        >>> layers = [nn.Linear(3, width, bias=False) for width in (4, 8)]
        >>> one, other = (record(layer, {"input": torch.ones(2, 3)}, {"weight": layer.weight}) for layer in layers)
        >>> walk = Walk(one, other).run()
        >>> [count_of(parts) for parts in walk.parameter("weight").ranges]
        [(4, 8), (3, 3)]
    """

    small: Recording
    wide: Recording
    scales: Scales = field(default_factory=Scales)
    values: dict[int, Value] = field(default_factory=dict)
    parameters: dict[str, Value] = field(default_factory=dict)
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    uses: dict[str, list[list[Range]]] = field(default_factory=dict)
    averaged: list[Range] = field(default_factory=list)
    tables: list[tuple[Tensor, Tensor, Value, str]] = field(default_factory=list)
    offsets: dict[str, float] = field(default_factory=dict)
    order: list[Scale] = field(default_factory=list)
    _here: tuple[str, Pair] = field(init=False)
    _later: list[tuple[Callable[[], None], str, Pair]] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)
    _keep: list[Any] = field(default_factory=list)

    def run(self) -> Walk:
        """Walk.

        Raises:
            Unexplained: naming the operation and the module that have no explanation.
        """
        for name, tensor in self.small.held.items():
            self._names.setdefault(id(tensor), name)
        for one, other in side_by_side(self.small, self.wide):
            if other is None:
                self._copied(one)
            else:
                self._step(Pair(one, other))
        for say, where, pair in self._later:
            try:
                say()
            except Unexplained as error:
                raise Unexplained(f"{where}: {error}{self._said_of_ties(pair)}") from error
        return self

    def _copied(self, call: Call) -> None:
        (source,) = tensors_in([next(iter(call.arguments.values()))])
        if (known := self.values.get(id(source))) is None and id(source) in self._names:
            known = self.parameter(self._names[id(source)])
        if known is not None:
            self.values[id(call.out)] = known

    def _step(self, pair: Pair) -> None:
        where = f"'{pair.name}' in module '{pair.one.module or 'the model itself'}'"
        self._here = (where, pair)
        rule = RULES.get(pair.name) or RULES.get(pair.name.removesuffix("_"))
        if rule is None:
            rule = RULES["curved"] if torch.Tag.pointwise in pair.one.op.tags else unknown_operation
        before = {name: len(readings) for name, readings in self.readings.items()}
        try:
            results = rule(self, pair)
        except Unexplained as error:
            raise Unexplained(f"{where}: {error}{self._said_of_ties(pair)}") from error
        self._note_uses(pair, results, before)
        for out, partner, value in zip(_listed(pair.one.out), _listed(pair.other.out), results, strict=False):
            self._check(out, partner, value, where)
            if id(out) in self.values and pair.name.endswith(IN_PLACE):
                try:
                    self.scales.equal(self.values[id(out)].scale, value.scale)
                except Unexplained as error:
                    raise Unexplained(f"{where}: {error}") from error
            self.values[id(out)] = value
            if value.parameter is None:
                self.order.append(value.scale)

    def _said_of_ties(self, pair: Pair) -> str:
        """What to add where an operation uses a matrix that is used elsewhere too."""
        for name in self._used(pair):
            if len(self.uses.get(name, [])) > 1 and name in self.readings:
                return (
                    f"; '{name}' is used in several places, as a tied matrix is, and no copies of its rows and columns"
                    " serve all of them: use another matrix in one of them"
                )
        return ""

    def _used(self, pair: Pair) -> Iterator[str]:
        """The parameters that an operation uses, or views of them."""
        for tensor in tensors_in(pair.one.arguments.values()):
            name = self._names.get(id(tensor))
            if name is None and (value := self.values.get(id(tensor))) is not None:
                name = value.parameter
            if name is not None:
                yield name

    def _note_uses(self, pair: Pair, results: Sequence[Value], before: Mapping[str, int]) -> None:
        """Note which ranges an operation reads of every parameter that ends in it."""
        passed = {value.parameter for value in results}
        for name in self._used(pair):
            if name not in passed:
                read = [reading.parts for reading in self.readings.get(name, [])[before.get(name, 0) :]]
                self.uses.setdefault(name, []).append(read)

    def _check(self, out: Tensor, partner: Tensor, value: Value, where: str) -> None:
        if len(value.ranges) != out.dim() or any(
            count_of(parts) != (n, m) for parts, n, m in zip(value.ranges, out.shape, partner.shape, strict=True)
        ):
            raise Unexplained(
                f"{where}: its output is {list(out.shape)}, and {list(partner.shape)} in a wider model, where "
                f"{'; '.join(map(described, value.ranges))} was expected"
            )

    # What rules ask for.

    def value(self, one: Tensor, other: Tensor) -> Value:
        """What is known of a tensor; of a new one, what its shape and its contents say."""
        if (known := self.values.get(id(one))) is not None:
            return known
        if (name := self._names.get(id(one))) is not None:
            return self.parameter(name)
        found = Value(self.shape(one, other), self._of_constant(one, other))
        self._keep += [one, other]
        self.values[id(one)] = found
        if found.grows and one.is_floating_point():
            self.tables.append((one, other, found, self._here[0]))
        return found

    def parameter(self, name: str) -> Value:
        """What is known of a parameter."""
        if name not in self.parameters:
            one, other = self.small.held[name], self.wide.held[name]
            self.parameters[name] = Value(self.shape(one, other), self.scales.unknown(), name)
        return self.parameters[name]

    def pair(self, pair: Pair, name: str) -> Value:
        """The value of a tensor argument."""
        one, other = pair[name]
        return self.value(one, other)

    def shape(self, one: Tensor, other: Tensor) -> list[Range]:
        """Fresh ranges for the dimensions of a tensor."""
        if one.dim() != other.dim():
            raise Unexplained(f"a tensor of shape {list(one.shape)} is one of {list(other.shape)} in the wide model")
        return [fresh((n, m)) for n, m in zip(one.shape, other.shape, strict=True)]

    def outputs(self, pair: Pair) -> list[Value]:
        """Values of which nothing is known, one for each output of an operation."""
        outs = zip(_listed(pair.one.out), _listed(pair.other.out), strict=False)
        return [Value(self.shape(one, other), ONE) for one, other in outs]

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether a tensor of the small model depends on nothing that the model holds."""
        return tensor.untyped_storage()._cdata not in self.small.varying

    def zero(self, scale: Scale) -> None:
        """Say that values do not scale: an elementwise function follows."""
        self.scales.equal(scale)

    def later(self, say: Callable[[], None]) -> None:
        """Say something once all ranges are known."""
        self._later.append((say, *self._here))

    def summed(self, parts: Range, *values: Value, own: Sequence[Range] = ()) -> Scale:
        """The scale of a sum over a range of products of values; a parameter among them reads the range.

        Args:
            parts: the range.
            values: that are multiplied.
            own: the range as each of them has it.
        """
        if not grows(parts):
            total = ONE
            for value in values:
                total = total + value.scale
            return total
        result = self.scales.unknown()
        readers = [value for value in values if value.parameter is not None]
        reader = readers[-1] if readers else None
        rest = ONE
        for value in values:
            if value is not reader:
                rest = rest + value.scale
        if reader is not None and reader.parameter is not None:
            place = next(number for number, value in enumerate(values) if value is reader)
            as_its_own = list(own[place]) if own else []
            self.readings.setdefault(reader.parameter, []).append(Reading(parts, rest, result, own=as_its_own))
            mine = self.readings[reader.parameter][-1]

        def say() -> None:
            ratio = growth_of(parts)
            if ratio is None and reader is None:
                raise Unexplained("a sum over parts that grow by different factors")
            if ratio is None:
                mine.mixed = True
                return
            own = reader.scale if reader is not None else ONE
            self.scales.equal(result, (rest + own).plus(math.log(ratio)))

        self.later(say)
        return result

    def _of_constant(self, one: Tensor, other: Tensor) -> Scale:
        if not one.is_floating_point():
            return ONE
        if not one.isfinite().any() or ((one == 0).all() and (other == 0).all()):
            return self.scales.unknown()  # zeros scale as one likes
        if one.shape != other.shape:
            return ONE  # a table; compared once its ranges are known
        ratio = _ratio(one, other)
        if ratio is None:
            raise Unexplained(
                f"a constant of the forward pass, of shape {list(one.shape)}, depends on the width, not by a factor"
            )
        return Scale(constant=math.log(ratio))


def unknown_operation(walk: Walk, pair: Pair) -> list[Value]:
    """An operation without a rule: none of what grows may take part in it."""
    arguments = [
        (one, other)
        for name in pair.one.arguments
        for one, other in zip(_listed(pair.one.arguments[name]), _listed(pair.other.arguments[name]), strict=False)
    ]
    for one, other in arguments:
        value = walk.value(one, other)
        if value.grows:
            raise Unexplained(
                f"no rule says what this operation makes of repeated features (its input is {list(one.shape)}, and "
                f"{list(other.shape)} in a wider model)"
            )
        if one.is_floating_point():
            walk.zero(value.scale)
    return walk.outputs(pair)


def _listed(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [t for entry in value for t in _listed(entry)]
    return []


def _ratio(one: Tensor, other: Tensor) -> float | None:
    """The factor from one tensor to another; None if there is none."""
    same = one == other
    if bool((same | (one.isnan() & other.isnan())).all()):
        return 1.0
    usable = one.isfinite() & (one != 0)
    if not usable.any():
        return None
    ratios = other[usable] / one[usable]
    ratio = float(ratios.median())
    close = bool(((ratios - ratio).abs() <= TABLE * abs(ratio)).all())
    rest = bool((same | usable).all())
    return ratio if close and rest and ratio > SAME else None
