"""The sizes that the caller names, and those taken from another model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from growth.architectures.registry import UNLISTED
from growth.arguments import meant
from growth.errors import IllegalGrowthError
from growth.extension.experts import expert_size
from growth.extension.request import EXPERT_SIZE
from growth.plan.choice_checks import LARGEST_WIDTH
from growth.plan.model_sizes import ModelSizes
from growth.plan.options import KEEP, Options


@dataclass(frozen=True)
class RequestedSizes:
    """What sizes have to become.

    Args:
        values: size name -> requested value.
        from_other: which of these are the sizes of another model (``like=``).
    """

    values: Mapping[str, int]
    from_other: frozenset[str] = frozenset()

    def source(self, name: str) -> str:
        """Where a requested size comes from, in a few words."""
        return "as the other model" if name in self.from_other else "named"


def requested_sizes(model: ModelSizes, options: Options) -> RequestedSizes:
    """The requested sizes under their standard names; a size named by the caller wins over that of
    the other model.

    Raises:
        IllegalGrowthError: for a size that cannot be chosen, one named twice with different values,
            one that would shrink, or if nothing would grow.
    """
    from_other = _from_other_model(model, options)
    named = _named_by_caller(model, options)
    from_other = {name: value for name, value in from_other.items() if name not in named}
    for name, value in {**from_other, **named}.items():
        if value < model.old[name]:
            whose = ", its size in the other model" if name in from_other else ""
            raise IllegalGrowthError(
                f"cannot shrink {name} from {model.old[name]} to {value}{whose}: a smaller model computes less. "
                f"Name a size of at least {model.old[name]}."
            )
    values = {**from_other, **named}
    _check_reach(model, values)
    if options.width is None and all(value == model.old[name] for name, value in values.items()):
        raise IllegalGrowthError(
            f"{listed(values)} is what the model has already, so nothing would grow. Name a larger size, or a width."
        )
    return RequestedSizes(values, frozenset(from_other))


def _check_reach(model: ModelSizes, values: Mapping[str, int]) -> None:
    """Refuse sizes beyond `LARGEST_WIDTH` times what they were, and heads whose number and width
    multiply to that."""
    for name, value in values.items():
        beside = name[: name.rfind(".") + 1]
        heads = [f"{beside}num_attention_heads", f"{beside}num_key_value_heads"]
        more = max((Fraction(values[one], model.old[one]) for one in heads if one in values), default=Fraction(1))
        others = more if name == f"{beside}head_dim" else Fraction(1)
        most = math.floor(LARGEST_WIDTH * model.old[name] / others)
        if value > most:
            so = f" with {float(more):.4g} times as many heads" if others > 1 else ""
            raise IllegalGrowthError(
                f"{name} {value}{so} is more than {LARGEST_WIDTH} times what the model has, beyond what is grown at "
                f"once. Name a {name} of at most {most}."
            )


def _named_by_caller(model: ModelSizes, options: Options) -> dict[str, int]:
    standard = _standard_names(model)
    named: dict[str, int] = {}
    for asked, wanted in options.extends.for_widening.items():
        name = standard.get(asked, asked)
        if name not in model.choosable:
            raise IllegalGrowthError(
                f"{asked} is no size of a {model.config.model_type.removeprefix(UNLISTED)} that can be chosen"
                + (f"; it stays {model.old[name]} or follows from others" if name in model.old else "")
                + ("" if name in model.old else meant(asked, [*model.choosable, *standard]))
                + f". Choose among {', '.join(model.choosable)}."
            )
        value = model.old[name] if wanted == KEEP else int(wanted)
        if named.get(name, value) != value:
            raise IllegalGrowthError(f"{name} is named twice, as {named[name]} and as {value}. Name it once.")
        named[name] = value
    return named


def _from_other_model(model: ModelSizes, options: Options) -> dict[str, int]:
    """The other model's sizes, those that this model has; without a head_dim that is the quotient
    of two of them."""
    standard = _standard_names(model)
    found = {
        name: value
        for asked, value in options.like.sizes.items()
        if (name := standard.get(asked, asked)) in model.choosable
    }
    for name, size in model.choosable.items():
        prefix = name[: name.rfind(".") + 1]
        whole_and_parts = {f"{prefix}hidden_size", f"{prefix}num_attention_heads"}
        if size.grows == "head-dim" and name in model.always_derived and whole_and_parts <= found.keys():
            found.pop(name, None)
    return found


def _standard_names(model: ModelSizes) -> dict[str, str]:
    """Config field, or what a choice calls it -> size name."""
    known = {size.field: name for name, size in model.table.items() if size.field}
    return {**known, EXPERT_SIZE: expert_size(model.table)}


def listed(sizes: Mapping[str, int | str]) -> str:
    """``name value, name value``, for messages."""
    return ", ".join(f"{name} {value}" for name, value in sizes.items())
