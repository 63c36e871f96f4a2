"""The caller's choices as one value: from keywords (`chosen`), checked, as the plan and
``growth.json`` keep them. `growth.plan.choices` lists what there is to choose."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any, Literal

from growth.algebra.laws import Scaling
from growth.errors import IllegalGrowthError
from growth.extension.placement import Insert
from growth.extension.request import Request, counts_layers
from growth.plan.choice_checks import KEEP, check_together
from growth.plan.choices import CHOICES, Choices
from growth.plan.like import OtherModel
from growth.plan.noise_limit import automatic_noise
from growth.plan.symmetry import AUTO, Symmetry

__all__ = ["KEEP", "Choices", "Options", "chosen"]


@dataclass(frozen=True)
class Options:
    """How to grow, each value checked and in one spelling.

    The fields are those of `growth.plan.choices.CHOICES`, but for the named sizes, which are
    together in ``sizes``, and for ``noise``, which is a ``symmetry``.

    Args:
        width: factor on features, None where sizes are named instead.
        sizes: size -> its new value, or ``keep``. Sizes go by their standard name (``hidden_size``)
            or their config field (``n_embd``).
        like: another model, of which everything is taken that can be.
        keep: what is not, by the words of `growth.plan.keep`.
        towers: of a model of several, which ones grow.

    Raises:
        IllegalGrowthError: for a value outside its range.

    Example:
        >>> Options(sizes={"hidden_size": 96}, symmetry="noise:1.0").symmetry
        'noise:1'
    """

    width: float | None = None
    attention: Literal["heads", "head-dim"] = "heads"
    rope: Literal["slots", "pairs"] = "slots"
    scaling: Scaling = "unit"
    last_hidden_state: Literal["divided", "equal"] = "divided"
    symmetry: str = AUTO
    seed: int = 0
    lossy: bool = False
    insert: str = "stack"
    new_layers: Literal["silent", "copied"] = "silent"
    untie: bool = False
    vouch: tuple[str, ...] = ()
    sizes: Mapping[str, int | str] = field(default_factory=dict)
    like: OtherModel = field(default_factory=OtherModel)
    keep: tuple[str, ...] = ()
    towers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.width is None and not self.sizes and not self.like and not self.untie:
            object.__setattr__(self, "width", 2)
        for one in fields(self):
            value = getattr(self, one.name)
            if not (one.name == "width" and value is None):
                object.__setattr__(self, one.name, CHOICES[one.name].check(value))

    @property
    def extends(self) -> Request:
        """What the model is to have more of at unchanged widths."""
        return Request(
            self.sizes,
            Insert.parse(self.insert),
            self.new_layers == "silent",
            self.untie,
            like=self.like.sizes,
            width=self.width,
            more_heads=self.attention == "heads",
            noise=self.breaking.noise,
            seed=self.seed,
        )

    @property
    def widens(self) -> bool:
        """Whether anything is to become wider."""
        return self.width is not None or bool(self.like) or bool(self.extends.for_widening)

    @property
    def widening(self) -> Options:
        """The same, without what the model is to have more of at unchanged widths. Something has to
        become wider."""
        keep = (*self.keep, "layers", "ties") if self.like else ()
        return replace(self, sizes=self.extends.for_widening, untie=False, keep=keep)

    def to_json(self) -> dict[str, Any]:
        """The options as JSON values, and as keywords that make them again."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        return copy.deepcopy({**values, "like": self.like.to_json()})

    @property
    def breaking(self) -> Symmetry:
        """How the symmetry of the copies is broken: under ``auto`` as in a model of one layer, until it is
        known how deep this one is."""
        return Symmetry.parse(self.at_depth(1).symmetry)

    def at_depth(self, layers: int) -> Options:
        """The same for a model of so many layers, with ``auto`` replaced by what it means there."""
        return replace(self, symmetry=f"noise:{automatic_noise(layers)}") if self.symmetry == AUTO else self


def chosen(choices: Choices) -> Options:
    """The options that some keywords make.

    Raises:
        TypeError: for a keyword that does not exist.
        IllegalGrowthError: for a value outside its range, or choices that contradict each other.

    Example:
        >>> chosen({"heads": 8, "noise": 0.5})
        Options(width=None, ..., symmetry='noise:0.5', ..., sizes={'num_attention_heads': 8}, ...)
    """
    given: dict[str, Any] = dict(choices)
    if unknown := sorted(given.keys() - CHOICES.keys()):
        raise TypeError(_unknown(unknown[0]))
    for name in ("width", "sizes", "like", "noise", *(name for name, choice in CHOICES.items() if choice.size)):
        if given.get(name, 0) is None:  # as if it were not there
            del given[name]
    given = {name: CHOICES[name].check(value) for name, value in given.items()}
    check_together(given)
    sizes = {choice.size: given.pop(name) for name, choice in CHOICES.items() if choice.size and name in given}
    for name, size in given.pop("sizes", {}).items():
        if sizes.setdefault(name, size) != size:
            raise IllegalGrowthError(f"{name} is named twice, as {sizes[name]} and as {size}. Name it once.")
    if (noise := given.pop("noise", None)) is not None:
        given.setdefault("symmetry", f"noise:{noise}")
    if "like" in given:
        from growth.plan.other_model import other_model  # takes seconds, which ``grow --help`` must not

        given["like"] = other_model(given["like"])
    return Options(sizes=sizes, **given)


def keyword_of_size(name: str) -> list[str]:
    """The keyword for a size that is called by its name in the plan and in configs, in a list.

    Example:
        >>> keyword_of_size("num_attention_heads")
        ['heads']
    """
    return [keyword for keyword, choice in CHOICES.items() if choice.size == name]


def _unknown(name: str) -> str:
    said = f"unexpected keyword argument '{name}'"
    near = ["layers"] if counts_layers(name) else keyword_of_size(name) or get_close_matches(name, CHOICES, n=1)
    meant = f"did you mean '{near[0]}'? The" if near else "the"
    return f"{said}; {meant} choices are {', '.join(CHOICES)}"
