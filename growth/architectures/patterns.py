"""Patterns: which rule of a declaration belongs to a parameter, by the parameter's name.

A pattern is a module path in which ``*`` stands for a layer's number:
``layers.*.self_attn.q_proj``. A checkpoint may hold one tensor for all layers under the ``*``
itself, so a ``*`` in a name matches as well. Where two patterns match, the one with fewer ``*``
wins: one layer can be declared otherwise than the rest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from functools import lru_cache

from growth.algebra.roles import Role
from growth.errors import UnsupportedModelError
from growth.rules.linear import Rule

_NUMBER = r"(?:\d+|\*)"

Table = tuple[tuple[str, tuple[Role, ...]], ...]
"""(parameter pattern, one role per dimension), in the order of the declaration."""


def table(modules: Mapping[str, Rule]) -> Table:
    """Module pattern -> rule, as one row per parameter. Parameters of the model itself have the
    module pattern ``""``."""
    return tuple(
        (f"{module}.{suffix}" if module else suffix, roles)
        for module, rule in modules.items()
        for suffix, roles in rule.items()
    )


def pattern_of(name: str) -> str:
    """A tensor's name with ``*`` for numbers.

    Example:
        >>> pattern_of("layers.0.mlp.experts.11.up_proj.weight")
        'layers.*.mlp.experts.*.up_proj.weight'
    """
    return ".".join("*" if part.isdigit() else part for part in name.split("."))


def matches(pattern: str, name: str) -> bool:
    """Whether a parameter has a name of this pattern.

    Example:
        >>> matches("layers.*.norm.weight", "layers.11.norm.weight")
        True
        >>> matches("layers.*.norm.weight", "layers.attention.norm.weight")
        False
    """
    return _compiled(pattern).fullmatch(name) is not None


def closest(rows: Table, name: str) -> list[tuple[Role, ...]]:
    """The roles in the rows that match ``name`` with the fewest ``*``: one entry in a sound
    declaration, none where no row matches.

    Example:
        >>> from growth.algebra.roles import Keeps
        >>> rows = (("layers.*.weight", (Keeps(), Keeps())), ("layers.0.weight", (Keeps(),)))
        >>> [len(roles) for roles in closest(rows, "layers.0.weight")]
        [1]
        >>> [len(roles) for roles in closest(rows, "layers.7.weight")]
        [2]
    """
    found = [(pattern.count("*"), roles) for pattern, roles in rows if matches(pattern, name)]
    fewest = min((stars for stars, _ in found), default=0)
    return [roles for stars, roles in found if stars == fewest]


class Lookup:
    """The rows that match names. A model has many experts and few kinds of names, so what is found
    for one name is remembered for all that differ from it in numbers which no pattern spells out.

    Args:
        tables: model class -> its own rows, which come first; "" -> those of the family.

    Example:
        >>> from growth.algebra.roles import Keeps
        >>> lookup = Lookup({"": (("layers.*.mlp.0.weight", (Keeps(),)),)})
        >>> lookup.kind("layers.11.mlp.0.weight")
        'layers.*.mlp.0.weight'
        >>> len(lookup.closest("layers.11.mlp.0.weight", "LlamaModel"))
        1
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self.tables = tables
        parts = {part for rows in tables.values() for pattern, _ in rows for part in pattern.split(".")}
        self.numbers = {part for part in parts if part != "*" and re.search(r"\d", part)}
        self.whole = not any("*" in part for part in self.numbers)  # else a number may begin with one
        self.found: dict[tuple[str, str], list[tuple[Role, ...]]] = {}

    def kind(self, name: str) -> str:
        """A name that the same patterns match."""
        parts = name.split(".") if self.whole else []
        starred = ["*" if part.isdecimal() and part not in self.numbers else part for part in parts]
        return ".".join(starred) or name

    def closest(self, name: str, model_class: str) -> list[tuple[Role, ...]]:
        """As `closest`, in the rows of the model class, or in those of the family if none matches."""
        kind = (self.kind(name), model_class)
        if kind not in self.found:
            own = closest(self.tables.get(model_class, ()), kind[0])
            self.found[kind] = own or closest(self.tables[""], kind[0])
        return self.found[kind]


def nearest(rows: Table, name: str) -> str | None:
    """The pattern in the rows that is spelled most like ``name``; None where none is like it.

    Example:
        >>> rows = (("layers.*.attn.q_proj.weight", ()), ("layers.*.mlp.up.weight", ()))
        >>> nearest(rows, "layers.3.attention.q_proj.weight")
        'layers.*.attn.q_proj.weight'
        >>> nearest(rows, "x") is None
        True
    """
    spelled = re.sub(r"(?<=\.)\d+(?=\.)", "*", name)
    return next(iter(difflib.get_close_matches(spelled, [pattern for pattern, _ in rows], n=1)), None)


def no_match(model_type: str, rows: Table, name: str, *, stock: bool) -> UnsupportedModelError:
    """The refusal of a parameter that no pattern matches. Making it compares the spelling of all
    patterns, so that it is for messages only.

    Args:
        model_type: of the declaration.
        rows: of the declaration.
        name: of the parameter.
        stock: whether transformers has the model's class.
    """
    remedy = "Add one, or name it in 'buffers' if the constructor makes it."
    if stock:
        remedy = (
            "If your model adds parameters of its own, take them out first; if it is a stock model, please report it."
        )
    if (pattern := nearest(rows, name)) is not None:
        remedy += f"{' If you are declaring the family: the' if stock else ' The'} nearest pattern is '{pattern}'."
    return UnsupportedModelError(f"no rule of '{model_type}' matches tensor '{name}'. {remedy}")


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", _NUMBER))


def without_prefix(name: str, prefixes: Collection[str]) -> str:
    """A parameter's name without the first of the base-model prefixes it has.

    Example:
        >>> without_prefix("model.layers.0.mlp.up_proj.weight", ("model", "transformer"))
        'layers.0.mlp.up_proj.weight'
    """
    prefix = next((prefix for prefix in prefixes if name.startswith(f"{prefix}.")), "")
    return name.removeprefix(f"{prefix}.")


def modern(name: str) -> str:
    """A parameter's name with ``gamma`` and ``beta`` of old checkpoints as ``weight`` and ``bias``.

    Example:
        >>> modern("encoder.norm.gamma")
        'encoder.norm.weight'
    """
    head, _, last = name.rpartition(".")
    return f"{head}.{ {'gamma': 'weight', 'beta': 'bias'}.get(last, last) }" if head else name
