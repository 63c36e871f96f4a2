"""What each size may become: rules, of which the first that applies decides.

Example. A Llama of 9 heads, 3 key/value heads and hidden_size 576, asked for hidden_size 960 and 15
heads: `requested_size` fixes these two; `like_requested_heads` lets the key/value heads go along, 3 * 15/9
= 5; `head_dim_of_requested_sizes` derives head_dim, 960 / 15 = 64; and `near_the_ratio` takes
intermediate_size to 1536 * 960/576 = 2560."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from growth.architectures.sizes import Size
from growth.plan.model_sizes import ModelSizes
from growth.plan.nearby_sizes import STEPS, near
from growth.plan.options import Options
from growth.plan.requested_sizes import RequestedSizes
from growth.plan.size_search import PricedSize, SizeOptions

DERIVED_INSTEAD = PricedSize(0.5, None)
"""To derive a size from the others although a value was aimed at: only where no value near that one
fits."""

KEPT_INSTEAD_OF_DERIVED = 0.1
"""To keep a head_dim that could be derived."""

CHOSEN_INSTEAD_OF_DERIVED = 1.0
"""To choose a value for a size that the config leaves to be derived, on top of the distance."""


@dataclass(frozen=True)
class Asked:
    """One size, and all that a rule looks at.

    Args:
        name: of the size.
        model: the sizes before growth.
        options: the caller's.
        requested: the sizes that are named, or taken from another model.
    """

    name: str
    model: ModelSizes
    options: Options
    requested: RequestedSizes

    @property
    def size(self) -> Size:
        """Its entry in the table of sizes."""
        return self.model.table[self.name]

    @property
    def old(self) -> int:
        """Its value before growth."""
        return self.model.old[self.name]

    def beside(self, part: str) -> str:
        """The name of another size of the same stack or tower: beside ``text_config.hidden_size``
        there is ``text_config.head_dim``."""
        return self.name[: self.name.rfind(".") + 1] + part

    def grows_on_request(self, part: str) -> bool:
        """Whether another size of the same stack is requested, and larger than before."""
        name = self.beside(part)
        return name in self.requested.values and self.requested.values[name] > self.model.old[name]

    @property
    def ratio(self) -> float:
        """By what factor features grow where they are not named."""
        return _ratio(self)

    @property
    def derived_instead(self) -> tuple[PricedSize, ...]:
        """The choice to derive it after all, if it follows from anything."""
        return (DERIVED_INSTEAD,) if self.size.follows else ()

    def near(self, ratio: float) -> SizeOptions:
        """The values around the old one times a ratio."""
        return near(self.old, self.old * ratio, self.size, self.derived_instead)

    def in_step_with(self, part: str) -> SizeOptions:
        """The values around the old one times the ratio by which a requested size grows."""
        name = self.beside(part)
        wanted = self.old * self.requested.values[name] / self.model.old[name]
        return near(self.old, wanted, self.size, self.derived_instead)


def size_options(model: ModelSizes, options: Options, requested: RequestedSizes) -> dict[str, SizeOptions]:
    """The values that each choosable size may take.

    Args:
        model: the sizes before growth.
        options: the caller's.
        requested: what the caller, or another model, fixes.

    Returns:
        Size name -> its values, from the cheapest on.

    Example:
        The Llama above:

        >>> from transformers import LlamaConfig
        >>> from growth import architectures
        >>> config = LlamaConfig(
        ...     hidden_size=576, intermediate_size=1536, num_attention_heads=9, num_key_value_heads=3
        ... )
        >>> llama = architectures.find("llama").at(config)
        >>> model = ModelSizes(llama.sizes, config, llama.read_sizes(config))
        >>> named = {"hidden_size": 960, "num_attention_heads": 15}
        >>> for name, values in size_options(model, Options(sizes=named), RequestedSizes(named)).items():
        ...     print(name, [priced.value for priced in values.values[:3]], values.why)
        hidden_size [960] named
        intermediate_size [2560, 2624, 2496] x1.667
        num_attention_heads [15] named
        num_key_value_heads [5, 6, 4] x1.667
        head_dim [None, 64] hidden_size / num_attention_heads
    """
    return {name: _decided(Asked(name, model, options, requested)) for name in model.choosable}


def _decided(asked: Asked) -> SizeOptions:
    return next(options for rule in RULES if (options := rule(asked)) is not None)


def requested_size(asked: Asked) -> SizeOptions | None:
    """A size that is named, or that another model lends: this value and no other."""
    value = asked.requested.values.get(asked.name)
    if value is None:
        return None
    source = asked.requested.source(asked.name)
    why = f"kept, {source}" if value == asked.old else source
    return SizeOptions((PricedSize(0.0, value),), why, named=True)


def head_dim_of_requested_sizes(asked: Asked) -> SizeOptions | None:
    """head_dim where hidden_size and the heads are both requested and config.json does not write
    it: their quotient, as the class computes it; else what it is."""
    both = {asked.beside("hidden_size"), asked.beside("num_attention_heads")}
    if (
        asked.size.grows != "head-dim"
        or asked.name in asked.model.written
        or not both <= asked.requested.values.keys()
    ):
        return None
    values = (PricedSize(0.0, None), PricedSize(KEPT_INSTEAD_OF_DERIVED, asked.old))
    return SizeOptions(values, "hidden_size / num_attention_heads")


def like_requested_heads(asked: Asked) -> SizeOptions | None:
    """Key/value heads where the heads are requested: they grow as the heads do, so that each still
    serves as many queries."""
    heads = asked.beside("num_attention_heads")
    if asked.size.grows != "heads" or asked.name == heads or heads not in asked.requested.values:
        return None
    return asked.in_step_with("num_attention_heads")


def kept_as_head_dim_grows(asked: Asked) -> SizeOptions | None:
    """Numbers of heads where a larger head_dim is requested: attention grows by that, so they stay,
    unless they must grow for hidden_size to divide."""
    if asked.size.grows != "heads" or not asked.grows_on_request("head_dim"):
        return None
    otherwise = near(asked.old, asked.old * asked.ratio, asked.size).values[:STEPS]
    return SizeOptions((PricedSize(0.0, asked.old), *otherwise), "kept: head_dim grows")


def kept(asked: Asked) -> SizeOptions | None:
    """What does not grow: everything if features do not, head_dim under ``attention="heads"``, the
    heads under ``"head-dim"``, and sizes that no choice grows."""
    if asked.ratio != 1 and asked.size.grows in ("width", asked.options.attention):
        return None
    by_choice = asked.ratio != 1 and asked.size.grows in ("heads", "head-dim")
    why = f"kept (attention {asked.options.attention})" if by_choice else "kept"
    return SizeOptions((PricedSize(0.0, asked.old), *asked.derived_instead), why)


def left_to_be_derived(asked: Asked) -> SizeOptions | None:
    """A size that already is what follows from the others (GPT-2's ``n_inner``, 4 * ``n_embd``): it
    goes on following, and the config need not say it."""
    if not asked.model.is_as_derived(asked.model.old, asked.name):
        return None
    nearby = near(asked.old, asked.old * asked.ratio, asked.size)
    chosen = (PricedSize(CHOSEN_INSTEAD_OF_DERIVED + cost, value) for cost, value in nearby.values)
    return SizeOptions((PricedSize(0.0, None), *chosen), "follows from the others", nearby.wanted)


def near_the_ratio(asked: Asked) -> SizeOptions | None:
    """Everything else: the values around the old one times the ratio."""
    return asked.near(asked.ratio)


RULES: tuple[Callable[[Asked], SizeOptions | None], ...] = (
    requested_size,
    head_dim_of_requested_sizes,
    like_requested_heads,
    kept_as_head_dim_grows,
    kept,
    left_to_be_derived,
    near_the_ratio,
)
"""In order of precedence: what is requested, what goes along with that, what stays, what grows."""


def _ratio(asked: Asked) -> float:
    """By what factor features grow where they are not named: the caller's width; else as hidden_size
    grows, of the same stack or of the model; else, where hidden_size is heads * head_dim, as that
    product grows."""
    model, named = asked.model, asked.requested.values
    if asked.options.width is not None:
        return asked.options.width
    for hidden in (asked.beside("hidden_size"), "hidden_size"):
        if hidden in named:
            return named[hidden] / model.old[hidden]
    if asked.beside("head_dim") in model.always_derived:
        factors = [asked.beside(part) for part in ("num_attention_heads", "head_dim")]
        return math.prod(named[name] / model.old[name] for name in factors if name in named)
    return 1.0
