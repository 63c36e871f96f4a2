"""Sizes: the numbers of a config that growth multiplies, under a standard name each.

A `Size` says where the config keeps it, what it is where the config leaves it out, which choice
multiplies it, and how small it is in the twin. Sizes without a field follow from those before them
(``queries_per_kv = num_attention_heads / num_key_value_heads``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from growth.errors import UnsupportedModelError

Sizes = Mapping[str, int]
"""Standard size name -> value."""

Constant = Callable[[Any, Sizes], float]
"""(config, sizes) -> the value that a constant of the forward pass has at those sizes."""

Grows = Literal["width", "heads", "head-dim", "never", "follows"]


@dataclass(frozen=True)
class TwinContext:
    """What a size in the twin may look at.

    Args:
        config: the user's own, parsed.
        sizes: the user's own.
        written: the sizes that config.json spells out.
        small: the twin's sizes so far.
    """

    config: Any
    sizes: Sizes
    written: frozenset[str]
    small: Sizes


@dataclass(frozen=True)
class Size:
    """One size.

    Args:
        field: config field, dotted inside a nested config (``vision_config.hidden_size``); empty
            where the size only follows from others.
        grows: what multiplies it: ``width`` always, ``heads`` and ``head-dim`` under that choice of
            attention, ``kept`` nothing; ``follows``: it stays what ``follows`` says, and so does a
            size without a field.
        follows: (config, sizes before it) -> its value where the config has none.
        old_names: under which files may spell the field, and the class still reads it.
        small: its value in the twin, or a function of what the user has. Sizes that the user's
            config leaves implied stay implied.
    """

    field: str = ""
    grows: Grows = "width"
    follows: Callable[[Any, Sizes], int] | None = None
    small: int | Callable[[TwinContext], int] = 0
    old_names: tuple[str, ...] = ()


def value_at(config: Any, path: str) -> Any:
    """A config field by dotted path, None where it is absent."""
    for part in path.split("."):
        config = getattr(config, part, None)
    return config


def read_sizes(table: Mapping[str, Size], config: Any, model_type: str) -> dict[str, int]:
    """The sizes of a parsed config, implied ones spelled out.

    Raises:
        UnsupportedModelError: if one is not positive or does not divide evenly.
    """
    sizes: dict[str, int] = {}
    for name, size in table.items():
        written = value_at(config, size.field) if size.field else None
        if written is not None and (not isinstance(written, int) or written <= 0):
            raise UnsupportedModelError(
                f"config field '{size.field}' is {written!r}, but a size must be positive. Check config.json."
            )
        if written:
            sizes[name] = written
        elif size.follows is not None:
            sizes[name] = size.follows(config, sizes)
        else:
            raise UnsupportedModelError(
                f"the {model_type} config does not say '{size.field}', which must be positive. Check config.json."
            )
    return sizes


def quotient(config: Any, whole: int, parts: int, what: tuple[str, str]) -> int:
    """``whole / parts``, or an error that says what does not divide evenly."""
    if whole <= 0 or parts <= 0 or whole % parts:
        raise UnsupportedModelError(
            f"a {getattr(config, 'model_type', 'model')} cannot have {whole} {what[0]} and {parts} {what[1]}, which do "
            "not divide evenly. Check config.json."
        )
    return whole // parts


def standard_sizes(
    hidden: str = "hidden_size",
    intermediate: str = "intermediate_size",
    heads: str = "num_attention_heads",
    kv_heads: str = "num_key_value_heads",
    head_dim: str = "head_dim",
    *,
    intermediate_ratio: int | None = None,
    prefix: str = "",
) -> dict[str, Size]:
    """The sizes nearly every Transformer has, under the names of its config fields.

    Args:
        intermediate_ratio: intermediate_size over hidden_size where the config has no such field or
            leaves it null.
        prefix: of a nested config, with its dot; it stands before the names of the sizes as well
            (``vision_config.hidden_size``).
    """

    def at(name: str) -> str:
        return prefix + name

    def queries_per_kv(c: Any, s: Sizes) -> int:
        return quotient(c, s[at("num_attention_heads")], s[at("num_key_value_heads")], ("heads", "key/value heads"))

    def width_per_head(c: Any, s: Sizes) -> int:
        return quotient(c, s[at("hidden_size")], s[at("num_attention_heads")], ("features (hidden_size)", "heads"))

    def heads_small(user: TwinContext) -> int:
        return 5 if _multi_query(user, at) else 6 if user.sizes[at("queries_per_kv")] > 1 else 3

    def kv_small(user: TwinContext) -> int:
        return 1 if _multi_query(user, at) else 2 if user.sizes[at("queries_per_kv")] > 1 else 3

    def hidden_small(user: TwinContext) -> int:
        return heads_small(user) * (8 if at("head_dim") in user.written else small_head_dim(user))

    ratio = intermediate_ratio
    return {
        at("hidden_size"): Size(at(hidden), small=hidden_small),
        at("intermediate_size"): Size(
            at(intermediate), follows=None if ratio is None else lambda c, s: ratio * s[at("hidden_size")], small=29
        ),
        at("num_attention_heads"): Size(at(heads), "heads", small=heads_small),
        at("num_key_value_heads"): Size(
            at(kv_heads), "heads", follows=lambda c, s: s[at("num_attention_heads")], small=kv_small
        ),
        at("queries_per_kv"): Size(follows=queries_per_kv),
        at("head_dim"): Size(at(head_dim), "head-dim", follows=width_per_head, small=small_head_dim),
    }


def stack_sizes(stack: str, intermediate: str, heads: str, *, small: tuple[int, int]) -> dict[str, Size]:
    """The sizes of one of several stacks on one ``hidden_size``, named ``stack.size``
    (`growth.architectures.towers.within`).

    Args:
        stack: ``encoder`` or ``decoder``.
        intermediate, heads: its config fields.
        small: its intermediate_size and number of heads in the twin.
    """
    at = f"{stack}.{{}}".format

    def width_per_head(c: Any, s: Sizes) -> int:
        return quotient(c, s["hidden_size"], s[at("num_attention_heads")], ("hidden_size", heads))

    return {
        at("intermediate_size"): Size(intermediate, small=small[0]),
        at("num_attention_heads"): Size(heads, "heads", small=small[1]),
        at("num_key_value_heads"): Size(follows=lambda c, s: s[at("num_attention_heads")]),
        at("queries_per_kv"): Size(follows=lambda c, s: 1),
        at("head_dim"): Size(follows=width_per_head),
    }


def small_head_dim(user: TwinContext) -> int:
    """A small head_dim at which a partial rotary part is two pairs or more, and not all of the head
    if it was not before."""
    factor = rotary_fraction(user.config)
    return 6 if factor in (None, 1.0) else next(d for d in range(8, 200, 2) if _even(d * (factor or 1.0)))


def rotary_fraction(config: Any) -> float | None:
    """``partial_rotary_factor``, 1 where positions are rotary and the whole head turns, None where
    they are not rotary."""
    rope = value_at(config, "rope_parameters")
    if not rope:
        return None
    inner = next((value for value in rope.values() if isinstance(value, Mapping)), rope)
    return float(inner.get("partial_rotary_factor") or value_at(config, "partial_rotary_factor") or 1.0)


def rotary_sizes() -> dict[str, Size]:
    """For heads that turn in part: ``rotary_dim = int(head_dim * partial_rotary_factor)`` and the
    rest, ``pass_dim``."""
    return {
        "rotary_dim": Size(follows=lambda c, s: int(s["head_dim"] * (rotary_fraction(c) or 1.0))),
        "pass_dim": Size(follows=lambda c, s: s["head_dim"] - s["rotary_dim"]),
    }


def _even(value: float) -> bool:
    return value >= 4 and int(value) % 2 == 0 and abs(value - int(value)) < 1e-9


def _multi_query(user: TwinContext, at: Callable[[str], str]) -> bool:
    return user.sizes[at("num_key_value_heads")] == 1 < user.sizes[at("num_attention_heads")]
