"""Values as Python expressions, in the words that declarations are written in: ``RESIDUAL``,
``Scores("query", "half")``, ``HEADS * QUERY``."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from functools import cached_property
from types import FunctionType
from typing import Any

from growth.algebra.attention_laws import Alibi
from growth.algebra.axes import Axis, Concatenation, Product, Space
from growth.algebra.laws import Law
from growth.algebra.roles import Gain, Keeps, Reads, Role, Writes
from growth.architectures.code_layout import Bracket, Code, after
from growth.architectures.refusals import Refusal
from growth.architectures.towers import TowerConstant
from growth.rules.embedding import embedding
from growth.rules.linear import Rule, conv1d, convolution, linear
from growth.rules.norm import norm

HOME = "growth.architectures"


class NotPrintableError(Exception):
    """A value that no expression gives: a function without a name. It never leaves this room."""


class Words:
    """The names that a text uses, collected as its values are printed.

    Args:
        laws: the laws of the declaration; the spaces of ALiBi share their names with others, so they
            are used only where such a law is.
        taken: names that the text has for something else.

    Example:
        >>> from growth.architectures import HEADS, QUERY, Scores
        >>> from growth.architectures.code_layout import laid_out
        >>> words = Words(())
        >>> laid_out(words.code(Scores("query", "half"))), words.code(HEADS * Space("state", "n"))
        ('Scores("query", "half")', 'HEADS * STATE')
        >>> sorted(words.imports["growth.architectures"])
        ['HEADS', 'Scores']
    """

    def __init__(self, laws: Iterable[Law], taken: Iterable[str] = ()) -> None:
        self.imports: dict[str, set[str]] = {}
        self.spaces: dict[Space, str] = {}
        self.given: set[str] = set()
        """Classes and functions that cannot be imported, by the name they have."""
        self._alibi = any(isinstance(law, Alibi) for law in laws)
        self._taken = set(taken)

    @cached_property
    def _vocabulary(self) -> Mapping[str, Any]:
        home = sys.modules[HOME]
        every = {name: getattr(home, name) for name in home.__all__}
        return {name: value for name, value in every.items() if self._alibi or not name.startswith("ALIBI_")}

    def _named(self, value: Any, kind: type) -> str | None:
        """The name of a constant of the vocabulary that equals ``value``."""
        found = (name for name, known in self._vocabulary.items() if isinstance(known, kind) and known == value)
        return self._import(HOME, name) if (name := next(found, None)) is not None else None

    def _import(self, module: str, name: str) -> str:
        self.imports.setdefault(module, set()).add(name)
        return name

    @contextmanager
    def kept_if_printed(self) -> Iterator[None]:
        """What is collected inside is forgotten if a value there cannot be printed."""
        imports, spaces, given = (
            {home: {*names} for home, names in self.imports.items()},
            {**self.spaces},
            {*self.given},
        )
        try:
            yield
        except NotPrintableError:
            self.imports, self.spaces, self.given = imports, spaces, given
            raise

    def reference(self, value: Any) -> str:
        """The name of a class or function, which is imported where it can be.

        Raises:
            NotPrintableError: for a function that has none.
        """
        public = (name for name, known in self._vocabulary.items() if known is value)
        if (name := next(public, None)) is not None:
            return self._import(HOME, name)
        module, name = value.__module__, value.__qualname__
        if getattr(sys.modules.get(module), name, None) is value and module != "__main__":
            return self._import(module, name)
        if not isinstance(value, type):
            raise NotPrintableError("is a function without a name of its own")
        self.given.add(value.__name__)
        return value.__name__

    def code(self, value: Any) -> Code:
        """A value as an expression.

        Raises:
            NotPrintableError: where there is none.
        """
        if value is None or isinstance(value, (bool, int, str)):
            return _quoted(value) if isinstance(value, str) else repr(value)
        if isinstance(value, Fraction):
            return self._fraction(value)
        if isinstance(value, float):
            return repr(value) if math.isfinite(value) else f'float("{value}")'
        if isinstance(value, Axis):
            return self.axis(value)
        if isinstance(value, (Law, Refusal)) and (name := self._named(value, type(value))) is not None:
            return name
        if isinstance(value, (type, FunctionType)):
            return self.reference(value)
        if dataclasses.is_dataclass(value):
            return self.call(value)
        if isinstance(value, Mapping):
            return self.table(value.items())
        return self._collection(value)

    def _collection(self, value: Any) -> Code:
        if type(value) is tuple:
            return Bracket("(", tuple(map(self.code, value)), ")", lone_comma=True)
        if type(value) is list:
            return Bracket("[", tuple(map(self.code, value)), "]")
        if type(value) in (set, frozenset):
            inner = Bracket("{", tuple(map(self.code, sorted(value, key=repr))), "}")
            return inner if type(value) is set and value else Bracket("frozenset(", (inner,) if value else (), ")")
        if type(value) is range:
            return repr(value)
        raise NotPrintableError(f"is a {type(value).__name__}, which cannot be printed as Python")

    def _fraction(self, value: Fraction) -> str:
        if float(value).as_integer_ratio() == (value.numerator, value.denominator):
            return repr(float(value))
        self._import("fractions", "Fraction")
        return f"Fraction({value.numerator}, {value.denominator})"

    def table(self, entries: Iterable[tuple[Any, Any]]) -> Bracket:
        """A dictionary."""
        return Bracket("{", tuple(after(f"{self.key(key)}: ", self.code(value)) for key, value in entries), "}")

    def key(self, value: Any) -> str:
        """The key of a dictionary."""
        code = self.code(value)
        return code if isinstance(code, str) else str(value)

    def axis(self, value: Axis) -> Code:
        """An axis: a name of the vocabulary, a space of the declaration's own, or their products and
        sums."""
        if (name := self._named(value, Axis)) is not None:
            return name
        if isinstance(value, Space):
            return self._space(value)
        if isinstance(value, Product):
            return f"{self._part(value.outer, Concatenation)} * {self._part(value.inner, (Product, Concatenation))}"
        if isinstance(value, Concatenation):
            return f"{self._part(value.before, ())} + {self._part(value.after, Concatenation)}"
        return self.call(value)

    def _part(self, value: Axis, in_brackets: Any) -> str:
        code = self.axis(value)
        text = code if isinstance(code, str) else repr(value)
        return f"({text})" if isinstance(value, in_brackets) and not text.isidentifier() else text

    def _space(self, space: Space) -> str:
        """The constant of a space that is not in the vocabulary."""
        if space not in self.spaces:
            spelled = re.sub(r"\W+", "_", space.name).upper()
            longer = f"{spelled}_{re.sub(r'[^A-Za-z0-9]+', '_', space.size).upper()}"
            taken = {*self._taken, *sys.modules[HOME].__all__, *self.spaces.values()}
            wanted = (spelled, longer, *(f"{longer}_{number}" for number in range(2, 1000)))
            self.spaces[space] = next(name for name in wanted if name.isidentifier() and name not in taken)
        return self.spaces[space]

    def call(self, value: Any) -> Bracket:
        """A dataclass as a call of its class, without arguments that are at their defaults."""
        kind = type(value)
        name = self._import(HOME, "tower_constant") if kind is TowerConstant else self.reference(kind)
        given: list[Code] = []
        positional = True
        for parameter in inspect.signature(kind).parameters.values():
            held = getattr(value, parameter.name)
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                given += [self.code(each) for each in held]
            elif _is_default(kind, parameter, held):
                positional = False
            else:
                named = parameter.kind is inspect.Parameter.KEYWORD_ONLY or isinstance(held, bool)
                positional = positional and not named
                given.append(after("" if positional else f"{parameter.name}=", self.code(held)))
        return Bracket(f"{name}(", tuple(given), ")")

    def rule(self, rule: Rule) -> Code:
        """The rule of a module: a call of the constructor that makes it, or the roles of each
        parameter."""
        for make, arguments, keywords in _constructors(rule):
            if make(*arguments, **keywords) == rule:
                name = self._import(HOME, make.__name__)
                said = [self.code(each) for each in arguments]
                said += [after(f"{key}=", self.code(each)) for key, each in keywords.items()]
                return Bracket(f"{name}(", tuple(said), ")")
        return self.table(rule.items())


def _quoted(text: str) -> str:
    """A string in double quotes, as far as it has none itself."""
    shown = repr(text)
    return f'"{shown[1:-1]}"' if shown[0] == "'" and '"' not in shown else shown


def _is_default(kind: type, parameter: inspect.Parameter, held: Any) -> bool:
    """Whether an argument of a dataclass has its default."""
    found = {each.name: each for each in dataclasses.fields(kind)}.get(parameter.name)
    if found is not None and found.default_factory is not dataclasses.MISSING:
        return bool(held == found.default_factory())
    default = parameter.default
    return default is not inspect.Parameter.empty and type(held) is type(default) and bool(held == default)


Constructed = tuple[Callable[..., Rule], tuple[Any, ...], dict[str, Any]]


def _constructors(rule: Rule) -> Iterable[Constructed]:
    """(constructor, arguments, keywords) that may make a rule."""
    weight = rule.get("weight", ())
    if len(weight) == 1 and isinstance(weight[0], Gain):
        gain = weight[0]
        keywords = {"epsilon": gain.epsilon} if gain.epsilon is not None else {}
        keywords |= {"offset": gain.offset} if gain.offset else {}
        yield norm, (gain.enters, gain.leaves), keywords
    if len(weight) == 2:
        first, second = weight
        if type(first) is Keeps and isinstance(second, Writes):
            yield embedding, (second.axis,), {}
        for make, entering, leaving in ((linear, second, first), (conv1d, first, second)):
            if isinstance(entering, Reads):
                yield make, (entering.axis, *_written(leaving)), {}
    if len(weight) in (3, 4):
        reads = weight[1].axis if isinstance(weight[1], Reads) else None
        window = {} if len(weight) == 3 else {"kernel": 2}
        yield convolution, (reads, *_written(weight[0])), window


def _written(role: Role) -> tuple[Axis, ...]:
    return (role.axis,) if isinstance(role, Writes) else ()
