"""The caller's choices."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

from growth.algebra.laws import Scaling
from growth.errors import IllegalGrowthError
from growth.plan.symmetry import LARGEST_NOISE, Symmetry

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

LARGEST_WIDTH = 1024


KEEP: Literal["keep"] = "keep"


@dataclass(frozen=True)
class Options:
    """The caller's choices, as the plan and ``growth.json`` keep them. `growth.plan.options` makes
    them from keywords.

    Args:
        width: factor on features, more than 1 and at most 1024, whole or not; None where sizes are
            named instead.
        attention: what else grows by it: ``heads`` copies whole heads, ``head-dim`` widens each.
        rope: for rotary models with wider heads: ``slots`` or ``pairs`` (`growth.rules.rotary`).
        scaling: ``unit`` or ``orthogonal`` (`growth.algebra.laws`).
        symmetry: ``none``, ``noise:R`` or ``split:A/B`` (`growth.plan.symmetry`).
        seed: of noise and varied splits.
        lossy: accept a rotary growth that is not exact.
        vouch: config fields the caller vouches for.
        sizes: size -> its new value, or ``keep``. Sizes go by their standard name (``hidden_size``)
            or their config field (``n_embd``).
        like: likewise, the sizes of another model; those that this one does not have are passed
            over.

    Raises:
        IllegalGrowthError: for a value outside its range.
    """

    width: float | None = None
    attention: Literal["heads", "head-dim"] = "heads"
    rope: Literal["slots", "pairs"] = "slots"
    scaling: Scaling = "unit"
    symmetry: str = "none"
    seed: int = 0
    lossy: bool = False
    vouch: tuple[str, ...] = ()
    sizes: Mapping[str, int | str] = field(default_factory=dict)
    like: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "attention", str(self.attention).replace("_", "-"))
        object.__setattr__(self, "vouch", tuple(self.vouch))
        object.__setattr__(self, "symmetry", str(Symmetry.parse(self.symmetry)))
        if self.width is None and not self.sizes and not self.like:
            object.__setattr__(self, "width", 2)
        if self.width is not None:
            object.__setattr__(self, "width", _width(self.width))
        for name, size in self.sizes.items():
            if size != KEEP and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
                raise IllegalGrowthError(f"{name} must be a whole number, or 'keep' to stay as it is, not {size!r}.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not -(2**63) <= self.seed < 2**64:
            raise IllegalGrowthError(f"seed must be a whole number of 64 bits, not {self.seed!r}. Use 0, for example.")
        for name, values in {
            "attention": ("heads", "head-dim"),
            "rope": ("slots", "pairs"),
            "scaling": ("unit", "orthogonal"),
        }.items():
            if getattr(self, name) not in values:
                raise IllegalGrowthError(f"{name} must be {' or '.join(values)}, not {getattr(self, name)!r}.")

    @property
    def breaking(self) -> Symmetry:
        """How the symmetry of the copies is broken."""
        return Symmetry.parse(self.symmetry)


def _width(width: object) -> float:
    """A width in its range; whole ones as whole numbers."""
    if (
        isinstance(width, bool)
        or not isinstance(width, (int, float))
        or not (math.isfinite(width) and 1 < width <= LARGEST_WIDTH)
    ):
        raise IllegalGrowthError(
            f"width must be a number above 1 and at most {LARGEST_WIDTH}, not {width!r}. Use width 2 to double, 1.5 "
            "for half as much again."
        )
    return int(width) if width == int(width) else float(width)


Like: TypeAlias = "str | os.PathLike[str] | PreTrainedConfig | Mapping[str, Any]"


class Choices(TypedDict, total=False):
    """How to grow. Nothing named: twice as wide.

    Args:
        width: factor on features (hidden and feed-forward size, and heads or head_dim), whole or
            not: ``2``, ``1.5``, ``"5/3"``.
        hidden_size, intermediate_size, heads, kv_heads, head_dim: sizes to grow to, instead of a
            factor or beside it, or ``"keep"``.
        sizes: any other size of the config, by its standard name or its field:
            ``{"moe_intermediate_size": 2048}``.
        like: take the sizes of another model: a folder, a hub id, a ``config.json``, or a config.
        attention: what grows with the width: ``heads`` copies whole heads, ``head-dim`` widens
            each.
        rope: for rotary models with wider heads: ``slots`` or ``pairs`` (`growth.rules.rotary`).
        scaling: ``unit`` copies activations, ``orthogonal`` divides them by sqrt(copies) as well
            (`growth.algebra.laws`).
        symmetry: ``none``, ``noise:R`` or ``split:A/B`` (`growth.plan.symmetry`).
        noise: short for ``symmetry="noise:R"``.
        seed: of noise and varied splits.
        lossy: accept a rotary growth that is not exact.
        vouch: config fields the caller vouches for.
    """

    width: float | str | Fraction | None
    hidden_size: int | str | None
    intermediate_size: int | str | None
    heads: int | str | None
    kv_heads: int | str | None
    head_dim: int | str | None
    sizes: Mapping[str, int | str] | None
    like: Like | None
    attention: Literal["heads", "head-dim"]
    rope: Literal["slots", "pairs"]
    scaling: Literal["unit", "orthogonal"]
    symmetry: str
    noise: float
    seed: int
    lossy: bool
    vouch: Sequence[str]


NAMES = {
    **{"hidden_size": "hidden_size", "intermediate_size": "intermediate_size", "head_dim": "head_dim"},
    **{"heads": "num_attention_heads", "kv_heads": "num_key_value_heads"},
}
"""Keyword -> the standard name of the size."""


def chosen(choices: Choices) -> Options:
    """The options that some keywords make.

    Raises:
        TypeError: for a keyword that does not exist.
        IllegalGrowthError: for a value outside its range, or choices that contradict each other.
    """
    rest: dict[str, Any] = dict(choices)
    if unknown := sorted(rest.keys() - Choices.__annotations__.keys()):
        raise TypeError(
            f"unexpected keyword argument '{unknown[0]}'; the choices are {', '.join(Choices.__annotations__)}"
        )
    sizes = {name: size for keyword, name in NAMES.items() if (size := rest.pop(keyword, None)) is not None}
    for name, size in (rest.pop("sizes", None) or {}).items():
        if name in sizes and sizes[name] != size:
            raise IllegalGrowthError(f"{name} is named twice, as {sizes[name]} and as {size}. Name it once.")
        sizes[name] = size
    width, like, noise = rest.pop("width", None), rest.pop("like", None), rest.pop("noise", 0.0)
    if like and width is not None:
        raise IllegalGrowthError("the sizes of another model leave no room for a width. Choose one of the two.")
    if isinstance(noise, bool) or not isinstance(noise, (int, float)):
        raise IllegalGrowthError(
            f"noise must be a number from 0 to {LARGEST_NOISE}, not {noise!r}. 0.1 is a tenth of each weight's RMS."
        )
    if noise:
        if rest.get("symmetry", "none") != "none":
            raise IllegalGrowthError(
                f"noise {noise:g} and symmetry {rest['symmetry']} contradict each other. Choose one of the two."
            )
        rest["symmetry"] = f"noise:{noise}"
    theirs: Mapping[str, int] = {}
    if like:
        from growth.plan.other_model import sizes_of  # takes seconds, which ``grow --help`` must not

        theirs = sizes_of(like)
    return Options(width=_number(width), sizes=sizes, like=theirs, **rest)


def _number(width: Any) -> Any:
    """A width as a number where it is one, and as it is otherwise."""
    if isinstance(width, str):
        try:
            return float(Fraction(width.strip()))
        except (ValueError, ArithmeticError):
            return width
    return float(width) if isinstance(width, Fraction) else width
