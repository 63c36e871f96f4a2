"""Towers: a declaration inside another one, its spaces, sizes and constants under a prefix (text
beside images, encoder beside decoder)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from growth.algebra.axes import Space
from growth.algebra.derived_laws import Normalised
from growth.algebra.laws import Law
from growth.algebra.roles import Gain
from growth.architectures.architecture import Architecture
from growth.architectures.sizes import Constant, Size, Sizes, TwinContext, value_at

T = TypeVar("T")


def within(prefix: str, value: T, shared: Collection[Space] = (), epsilon: str | float | None = None) -> T:
    """``value`` (rules, laws, an axis) in spaces of its own: ``prefix`` stands before the name of
    every space, of its size and of every constant a law needs.

    Args:
        prefix: with its dot.
        value: any of them, or a mapping or tuple of them.
        shared: spaces that stay as they are.
        epsilon: of norms that name none.
    """

    def inner(part: Any, constants: Collection[str] = ()) -> Any:
        if isinstance(part, Space):
            return part if part in shared else Space(prefix + part.name, prefix + part.size)
        if isinstance(part, str):
            return prefix + part if part in constants else part
        if isinstance(part, Mapping):
            return {inner(key): inner(entry) for key, entry in part.items()}
        if isinstance(part, tuple):
            return tuple(map(inner, part))
        if not is_dataclass(part) or isinstance(part, type):
            return part
        needed = part.constants() if isinstance(part, Law) else ()
        moved: Any = replace(
            part, **{field.name: inner(getattr(part, field.name), needed) for field in fields(part) if field.init}
        )
        return (
            replace(moved, epsilon=epsilon)
            if isinstance(moved, (Gain, Normalised)) and moved.epsilon is None
            else moved
        )

    return inner(value)  # type: ignore[no-any-return]


def constant(prefix: str, value: Constant) -> Constant:
    """A constant of the tower ``prefix``, by the sizes without it."""
    return lambda config, sizes: value(config, _own(prefix, sizes))


def tower(inner: Architecture, section: str, module: str) -> Architecture:
    """``inner`` as part of a model that keeps its config in ``section`` and its modules under
    ``module``: the parts of an architecture to be joined with those of other towers. Spaces and
    sizes are named ``section.name``."""
    prefix = f"{section}."
    epsilon = prefix + inner.epsilon if isinstance(inner.epsilon, str) else inner.epsilon
    return replace(
        inner,
        modules={f"{module}.{name}": within(prefix, rule, epsilon=epsilon) for name, rule in inner.modules.items()},
        laws=within(prefix, inner.laws, epsilon=epsilon),
        outputs=within(prefix, inner.outputs),
        epsilon=epsilon,
        sizes={prefix + name: _size(section, size) for name, size in inner.sizes.items()},
        constants={prefix + name: _constant(section, value) for name, value in inner.constants.items()},
        vouched={prefix + name: values for name, values in inner.vouched.items()}
        | ({epsilon: None} if isinstance(epsilon, str) else {}),
        arithmetic={prefix + name: value for name, value in inner.arithmetic.items()},
        variants={},
        buffers=tuple(f"{module}.{name}" for name in inner.buffers),
        optional=tuple(f"{module}.{name}" for name in inner.optional),
    )


def _constant(section: str, value: Constant) -> Constant:
    return lambda config, sizes: value(value_at(config, section), _own(f"{section}.", sizes))


def _size(section: str, size: Size) -> Size:
    prefix = f"{section}."

    def user(outer: TwinContext) -> TwinContext:
        spelled = frozenset(name.removeprefix(prefix) for name in outer.written if name.startswith(prefix))
        return TwinContext(
            value_at(outer.config, section), _own(prefix, outer.sizes), spelled, _own(prefix, outer.small)
        )

    def moved_follows(follows: Callable[[Any, Sizes], int]) -> Callable[[Any, Sizes], int]:
        return lambda config, sizes: follows(value_at(config, section), _own(prefix, sizes))

    def moved_small(small: Callable[[TwinContext], int]) -> Callable[[TwinContext], int]:
        return lambda outer: small(user(outer))

    return replace(
        size,
        field=prefix + size.field if size.field else "",
        follows=None if size.follows is None else moved_follows(size.follows),
        small=size.small if isinstance(size.small, int) else moved_small(size.small),
    )


def _own(prefix: str, sizes: Sizes) -> dict[str, int]:
    return {name.removeprefix(prefix): size for name, size in sizes.items() if name.startswith(prefix)}
