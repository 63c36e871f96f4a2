"""Towers: a declaration inside another one, with its spaces, sizes and constants under a prefix.

CLIP is a text tower and an image tower; BART has two stacks on one residual width. `tower` moves a
whole declaration under the name of its config section, `within` moves single rules, laws and axes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

from growth.algebra.axes import Space
from growth.algebra.derived_laws import Normalised
from growth.algebra.laws import Law
from growth.algebra.roles import Gain
from growth.architectures.architecture import Architecture
from growth.architectures.sizes import Constant, Size, Sizes, TwinContext, value_at

T = TypeVar("T")
N = TypeVar("N", int, float)


def within(prefix: str, value: T, shared: Collection[Space] = (), epsilon: str | float | None = None) -> T:
    """``value`` with the prefix before the name of every space, of its size, and of every constant
    that a law needs.

    Args:
        prefix: with its dot.
        value: a rule, law, role or axis, or a mapping or tuple of them.
        shared: spaces that keep their names.
        epsilon: the epsilon of norms that name none.

    Example:
        >>> from growth.rules.feed_forward import FFN
        >>> from growth.rules.linear import linear
        >>> from growth.rules.norm import RESIDUAL
        >>> moved = within("decoder.", linear(RESIDUAL, FFN), shared={RESIDUAL})
        >>> [str(role) for role in moved["weight"]]
        ['writes decoder.ffn', 'reads residual']
    """

    def moved(part: Any, constants: Collection[str] = ()) -> Any:
        if isinstance(part, Space):
            return part if part in shared else Space(prefix + part.name, prefix + part.size)
        if isinstance(part, str):
            return prefix + part if part in constants else part
        if isinstance(part, Mapping):
            return {moved(key): moved(entry) for key, entry in part.items()}
        if isinstance(part, tuple):
            return tuple(map(moved, part))
        if not is_dataclass(part) or isinstance(part, type):
            return part
        needed = part.constants() if isinstance(part, Law) else ()
        changes = {field.name: moved(getattr(part, field.name), needed) for field in fields(part) if field.init}
        if isinstance(part, (Gain, Normalised)) and part.epsilon is None:
            changes["epsilon"] = epsilon
        return replace(part, **changes)

    return moved(value)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class TowerConstant:
    """A constant of the sizes whose names start with ``prefix``; it is called with them, without
    the prefix."""

    prefix: str
    value: Constant

    def __call__(self, config: Any, sizes: Sizes) -> float:
        return self.value(config, _inner_sizes(self.prefix, sizes))


def tower_constant(prefix: str, value: Constant) -> Constant:
    """A constant of the sizes whose names start with ``prefix``; it is called with them, without
    the prefix.

    Example:
        >>> from growth.rules.attention import attention_scale
        >>> scale = tower_constant("decoder.", attention_scale)
        >>> scale(None, {"decoder.head_dim": 64, "encoder.head_dim": 16})
        0.125
    """
    return TowerConstant(prefix, value)


def tower(inner: Architecture, section: str, module: str) -> Architecture:
    """``inner`` as a part of a larger model, to be joined with the declarations of other parts.

    Args:
        inner: the declaration of the part as a model of its own.
        section: the config field that holds its config. Spaces and sizes become ``section.name``.
        module: the module that holds its modules.
    """
    prefix = f"{section}."
    epsilon = prefix + inner.epsilon if isinstance(inner.epsilon, str) else inner.epsilon
    return replace(
        inner,
        modules={f"{module}.{name}": within(prefix, rule, epsilon=epsilon) for name, rule in inner.modules.items()},
        laws=within(prefix, inner.laws, epsilon=epsilon),
        outputs=within(prefix, inner.outputs),
        epsilon=epsilon,
        sizes={prefix + name: _size_in(section, size) for name, size in inner.sizes.items()},
        constants={prefix + name: InSection(section, value) for name, value in inner.constants.items()},
        vouched={prefix + name: values for name, values in inner.vouched.items()}
        | ({epsilon: None} if isinstance(epsilon, str) else {}),
        arithmetic={prefix + name: value for name, value in inner.arithmetic.items()},
        variants={},
        buffers=tuple(f"{module}.{name}" for name in inner.buffers),
        optional=tuple(f"{module}.{name}" for name in inner.optional),
    )


@dataclass(frozen=True)
class InSection(Generic[N]):
    """What follows from a nested config and its sizes, for the model around it: a constant, or the
    ``follows`` of a size.

    Args:
        section: the config field of the nested config; its sizes are named ``section.name``.
        value: (nested config, its sizes by their own names) -> number.

    Example:
        >>> InSection("text_config", lambda config, sizes: 4 * sizes["d"])(None, {"text_config.d": 3})
        12
    """

    section: str
    value: Callable[[Any, Sizes], N]

    def __call__(self, config: Any, sizes: Sizes) -> N:
        return self.value(value_at(config, self.section), _inner_sizes(f"{self.section}.", sizes))


@dataclass(frozen=True)
class SmallInSection:
    """The ``small`` of a size of a nested config, for the model around it.

    Args:
        section: the config field of the nested config.
        small: as `Size.small`, for the nested config as a model of its own.
    """

    section: str
    small: Callable[[TwinContext], int]

    def __call__(self, user: TwinContext) -> int:
        prefix = f"{self.section}."
        written = frozenset(name.removeprefix(prefix) for name in user.written if name.startswith(prefix))
        inner, small = _inner_sizes(prefix, user.sizes), _inner_sizes(prefix, user.small)
        return self.small(TwinContext(value_at(user.config, self.section), inner, written, small, user.queries))


def _size_in(section: str, size: Size) -> Size:
    """A size of the config in ``section``."""
    return replace(
        size,
        field=f"{section}.{size.field}" if size.field else "",
        follows=None if size.follows is None else InSection(section, size.follows),
        small=size.small if isinstance(size.small, int) else SmallInSection(section, size.small),
    )


def _inner_sizes(prefix: str, sizes: Sizes) -> dict[str, int]:
    """The sizes whose names start with the prefix, without it."""
    return {name.removeprefix(prefix): size for name, size in sizes.items() if name.startswith(prefix)}
