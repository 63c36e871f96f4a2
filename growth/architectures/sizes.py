"""Sizes: the numbers in a config that growth multiplies, each under a standard name.

A `Size` says where the config keeps it, what it is where the config leaves it out, which choice
multiplies it, and how small it is in the twin. Sizes without a config field follow from those
before them: ``queries_per_kv = num_attention_heads / num_key_value_heads``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from growth.architectures.derived_sizes import Minus, Over, Times
from growth.errors import UnsupportedModelError

Sizes = Mapping[str, int]
"""Standard size name -> value."""

Constant = Callable[[Any, Sizes], float]
"""(config, sizes) -> the value that a constant of the forward pass has at those sizes."""

Grows = Literal["width", "heads", "head-dim", "never", "follows"]


LARGEST = 2**22
"""The largest dimension of a tensor. The largest vocabularies hold a quarter of it; a plan keeps a
few numbers for each entry."""


@dataclass(frozen=True)
class TwinContext:
    """What a size of the twin may depend on.

    Args:
        config: the parsed config of the model to grow.
        sizes: the sizes of that model.
        written: names of the sizes that its config.json states.
        small: the twin's sizes before this one.
        queries: how many times as many queries share a key and value as usual, so that they can be
            parted and still be several.
    """

    config: Any
    sizes: Sizes
    written: frozenset[str]
    small: Sizes
    queries: int = 1


@dataclass(frozen=True)
class Size:
    """One size.

    Args:
        field: config field, dotted inside a nested config (``vision_config.hidden_size``); empty
            for a size that only follows from others.
        grows: what multiplies it. ``width``: every growth in width. ``heads``, ``head-dim``: that
            choice of attention. ``never``: nothing. ``follows``: it is always what ``follows``
            says, as for a size without a field.
        follows: (config, sizes before it) -> its value where the config has none.
        small: its value in the twin, or a function of the model to grow. A size that the config
            leaves out is left out in the twin too.
        old_names: other names of the field in older files, which the class still reads.

    Example:
        >>> from types import SimpleNamespace
        >>> table = {
        ...     "hidden_size": Size("d_model"),
        ...     "intermediate_size": Size("d_ff", follows=lambda config, sizes: 4 * sizes["hidden_size"]),
        ... }
        >>> read_sizes(table, SimpleNamespace(d_model=16), "some model")
        {'hidden_size': 16, 'intermediate_size': 64}
    """

    field: str = ""
    grows: Grows = "width"
    follows: Callable[[Any, Sizes], int] | None = None
    small: int | Callable[[TwinContext], int] = 0
    old_names: tuple[str, ...] = ()


def value_at(config: Any, path: str) -> Any:
    """A config field by its dotted path; None where it is absent. The empty path is the config
    itself. A field that differs by layer (``per_layer_config``) has the value of the config as a
    whole."""
    for part in path.split(".") if path else ():
        try:
            config = getattr(config, part, None)
        except RuntimeError:  # transformers: "ambiguous", it differs by layer
            config = vars(config).get(part)
    return config


def size_at(config: Any, path: str) -> Any:
    """As `value_at`; where a config lists a size for each layer and all are equal, that one."""
    value = value_at(config, path)
    if isinstance(value, (list, tuple)) and len({*map(repr, value)}) == 1:
        return value[0]
    return value


def read_sizes(table: Mapping[str, Size], config: Any, model_type: str) -> dict[str, int]:
    """The sizes of a parsed config, with those it leaves out.

    Args:
        table: name -> size, in order.
        config: the parsed config.
        model_type: for messages.

    Raises:
        UnsupportedModelError: if a size is missing or not positive, or does not divide evenly.
    """
    sizes: dict[str, int] = {}
    for name, size in table.items():
        written = size_at(config, size.field) if size.field else None
        if written is not None and (type(written) is not int or not 0 < written <= LARGEST):
            raise UnsupportedModelError(
                f"config field '{size.field}' is {written!r}, but a size must be a whole number above 0 and at most "
                f"{LARGEST:,}. Check config.json."
            )
        if written:
            sizes[name] = written
        elif size.follows is not None:
            sizes[name] = size.follows(config, sizes)
            if sizes[name] < 0:
                raise UnsupportedModelError(f"{name} would follow as {sizes[name]}. Check the sizes in config.json.")
        else:
            raise UnsupportedModelError(f"the {model_type} config does not say '{size.field}'. Check config.json.")
    return sizes


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
    """The sizes that nearly every Transformer has.

    Args:
        hidden, intermediate, heads, kv_heads, head_dim: their config fields.
        intermediate_ratio: intermediate_size over hidden_size, where the config has no such field
            or leaves it null.
        prefix: of a nested config, with its dot; it comes before the names of the sizes too
            (``vision_config.hidden_size``).

    Example:
        GPT-2 has other field names, and no grouped keys and values:

        >>> from types import SimpleNamespace
        >>> sizes = standard_sizes("n_embd", "n_inner", "n_head", intermediate_ratio=4)
        >>> found = read_sizes(sizes, SimpleNamespace(n_embd=768, n_head=12, n_inner=None), "gpt2")
        >>> found["intermediate_size"], found["queries_per_kv"], found["head_dim"]
        (3072, 1, 64)
    """

    def at(name: str) -> str:
        return prefix + name

    all_heads, kv = at("num_attention_heads"), at("num_key_value_heads")
    ratio = None if intermediate_ratio is None else Times(intermediate_ratio, at("hidden_size"))
    per_head = Over(at("hidden_size"), all_heads, ("features (hidden_size)", "heads"))
    return {
        at("hidden_size"): Size(at(hidden), small=StandardSmall("hidden", prefix)),
        at("intermediate_size"): Size(at(intermediate), follows=ratio, small=29),
        all_heads: Size(at(heads), "heads", small=StandardSmall("heads", prefix)),
        kv: Size(at(kv_heads), "heads", follows=Times(1, all_heads), small=StandardSmall("kv_heads", prefix)),
        at("queries_per_kv"): Size(follows=Over(all_heads, kv, ("heads", "key/value heads"))),
        at("head_dim"): Size(at(head_dim), "head-dim", follows=per_head, small=small_head_dim),
    }


@dataclass(frozen=True)
class StandardSmall:
    """A size of `standard_sizes` in the twin.

    Args:
        what: which of them.
        prefix: of the nested config.
    """

    what: Literal["hidden", "heads", "kv_heads"]
    prefix: str = ""

    def __call__(self, user: TwinContext) -> int:
        sizes, at = user.sizes, f"{self.prefix}{{}}".format
        grouped = sizes[at("queries_per_kv")] > 1
        shared = sizes[at("num_key_value_heads")] == 1 < sizes[at("num_attention_heads")]
        if self.what == "kv_heads":
            return 1 if shared else 2 if grouped else 3
        heads = (5 if shared else 6) * user.queries if grouped else 3
        if self.what == "heads":
            return heads
        return heads * (8 if at("head_dim") in user.written else small_head_dim(user))


def stack_sizes(stack: str, intermediate: str, heads: str, *, small: tuple[int, int]) -> dict[str, Size]:
    """The sizes of one of several stacks on one ``hidden_size``, named ``stack.size``. Their spaces
    come from `growth.architectures.towers.within`.

    Args:
        stack: ``encoder`` or ``decoder``.
        intermediate, heads: its config fields.
        small: its intermediate_size and number of heads in the twin.
    """
    at = f"{stack}.{{}}".format

    return {
        at("intermediate_size"): Size(intermediate, small=small[0]),
        at("num_attention_heads"): Size(heads, "heads", small=small[1]),
        at("num_key_value_heads"): Size(follows=Times(1, at("num_attention_heads"))),
        at("queries_per_kv"): Size(follows=Times(1)),
        at("head_dim"): Size(follows=Over("hidden_size", at("num_attention_heads"), ("hidden_size", heads))),
    }


def small_head_dim(user: TwinContext) -> int:
    """A head_dim for the twin: one at which a rotary part has at least two whole pairs, and is a
    part of the head if it is one in the model to grow."""
    factor = rotary_fraction(user.config)
    if factor in (None, 1.0):
        return 6
    found = next((d for d in range(8, 200, 2) if _even(d * (factor or 1.0))), None)
    if found is None:
        raise UnsupportedModelError(
            f"config field 'partial_rotary_factor' is {factor!r}, a part of a head that no small head has as an even "
            "number of coordinates. Check config.json."
        )
    return found


def rotary_fraction(config: Any) -> float | None:
    """``partial_rotary_factor``: 1 where the whole head turns, None where positions are not
    rotary."""
    rope = value_at(config, "rope_parameters")
    if not rope:
        return None
    inner = next((value for value in rope.values() if isinstance(value, Mapping)), rope)
    said = (inner.get("partial_rotary_factor"), value_at(config, "partial_rotary_factor"))
    return next((rotary_part(factor) for factor in said if factor is not None), 1.0)


def rotary_part(factor: Any) -> float:
    """A ``partial_rotary_factor`` as a number.

    Raises:
        UnsupportedModelError: if it is none, or 0: a head that does not turn has other code.

    Example:
        >>> rotary_part(0.5)
        0.5
    """
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not factor > 0:
        raise UnsupportedModelError(
            f"config field 'partial_rotary_factor' is {factor!r}, but it must be a number above 0: the part of each "
            "head that turns. Check config.json."
        )
    return float(factor)


def rotary_sizes() -> dict[str, Size]:
    """Two sizes for heads that turn in part: ``rotary_dim = int(head_dim * partial_rotary_factor)``
    coordinates turn, the remaining ``pass_dim`` do not."""
    return {"rotary_dim": Size(follows=rotary_dim), "pass_dim": Size(follows=Minus("head_dim", "rotary_dim"))}


def rotary_dim(config: Any, sizes: Sizes) -> int:
    """How many coordinates of a head turn."""
    return int(sizes["head_dim"] * (rotary_fraction(config) or 1.0))


def _even(value: float) -> bool:
    return value >= 4 and int(value) % 2 == 0 and abs(value - int(value)) < 1e-9
