"""What is known of tensors, and the table of rules that say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from growth.infer.errors import Unexplained
from growth.infer.ranges import Range, grows
from growth.infer.recording import Call, short
from growth.infer.scales import Scale

if TYPE_CHECKING:
    from growth.infer.walk import Walk


@dataclass(eq=False)
class Value:
    """What is known of a tensor of the small model and its partner in the wide one.

    Args:
        ranges: what each dimension ranges over.
        scale: how its values scale.
        parameter: the parameter that it is a copy or a view of, if it is one.
    """

    ranges: list[Range]
    scale: Scale
    parameter: str | None = None

    @property
    def grows(self) -> bool:
        """Whether any of its dimensions does."""
        return any(map(grows, self.ranges))


@dataclass(eq=False)
class Reading:
    """One use of a parameter in a sum of products.

    Args:
        parts: the range that is summed over.
        scale: of what it is multiplied with.
        out: scale of the result.
        mixed: whether some parts of the range grow otherwise than others.
        own: the same range as the parameter has it, before it was found to be another one too.
    """

    parts: Range
    scale: Scale
    out: Scale
    mixed: bool = False
    own: Range = field(default_factory=list)


@dataclass(eq=False)
class Pair:
    """One operation in both runs.

    Example:
        ``pair["dim"]`` is the argument ``dim`` of both: ``(1, 1)``.
    """

    one: Call
    other: Call

    @property
    def name(self) -> str:
        """Its plain name: ``mm`` for ``aten.mm.default``."""
        return short(self.one)

    def __getitem__(self, name: str) -> tuple[Any, Any]:
        return self.one.arguments[name], self.other.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that must be the same in both."""
        one, other = self.one.arguments.get(name, default), self.other.arguments.get(name, default)
        if one != other:
            raise Unexplained(f"its argument '{name}' depends on the width ({one} and {other})")
        return one


Rule = Callable[["Walk", Pair], "list[Value]"]

RULES: dict[str, Rule] = {}
"""Name of an operation -> what it says. Filled by `growth.infer.operations`."""


def operation(*names: str) -> Callable[[Rule], Rule]:
    """Register the rule of operations of these names.

    Example:
        >>> @operation("identity")
        ... def same(walk, pair):
        ...     return [walk.pair(pair, "self")]
        >>> RULES.pop("identity") is same
        True
    """

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def copy_of(value: Value, ranges: Sequence[Range]) -> Value:
    """The same values in another shape.

    Example:
        >>> from growth.infer.ranges import fresh, kept
        >>> from growth.infer.scales import ONE
        >>> value = of([kept(2), fresh((4, 8))], ONE)
        >>> copy_of(value, value.ranges[1:]).grows
        True
    """
    return replace(value, ranges=list(ranges))


def of(ranges: Sequence[Range], scale: Scale) -> Value:
    """A value that is no parameter.

    Example:
        >>> from growth.infer.ranges import kept
        >>> from growth.infer.scales import ONE
        >>> of([kept(2)], ONE).grows
        False
    """
    return Value(list(ranges), scale)
