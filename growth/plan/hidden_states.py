"""The last hidden state of a grown model: by which factor it comes out, whether its cosines stay, and
how to have it equal.

A head that is tied to the embedding reads the dual of what the embedding writes
(`growth.algebra.derived_laws.Dual`). With K copies the last hidden state is the old one divided by K,
and one declaration serves tied heads, untied heads and models without one. Where no tied head reads
it, nothing asks for the division: the last hidden state may be written with any factor, and what reads
it makes up for that.

Cosines stay if the copies of every coordinate have together the same length, ``sum(write**2)`` over
the copies, and nothing is added to them (`growth.algebra.maps.Map.energy`)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

import numpy as np
from transformers import PreTrainedModel

from growth.algebra.axes import Space
from growth.algebra.derived_laws import Dual, Scaled
from growth.algebra.laws import Law, Linear
from growth.algebra.maps import Map
from growth.architectures.architecture import Architecture
from growth.errors import IllegalGrowthError

LAST = "last_hidden_state"
EMBEDDINGS = (LAST, "pooler_output", "text_embeds", "image_embeds")
"""Outputs that people compare by their cosines."""


def equal_hidden_state(
    maps: Mapping[Space, Map], architecture: Architecture, model_class: type[PreTrainedModel], tied: Collection[Space]
) -> dict[Space, Map]:
    """The maps with which the last hidden state keeps its values: each copy is the old coordinate.

    Coordinates with c copies are written times sqrt(s/c), s the number of copies that most new
    coordinates have, so that cosines stay at uneven widths; s is c at whole multiples.

    Args:
        maps: how every space grows, each by its law.
        architecture: the declaration at the config.
        model_class: the class of the model.
        tied: the spaces that are read by a matrix which writes another one.

    Returns:
        The same maps if the last hidden state does not grow, or is no matter of linear maps alone.

    Raises:
        IllegalGrowthError: if a tied head reads it.

    Example:
        >>> from transformers import LlamaModel
        >>> from growth import architectures
        >>> from growth.rules.norm import FINAL
        >>> llama = architectures.find("llama")
        >>> twice = {FINAL: Map.repeat(2, 4).dual}
        >>> twice[FINAL].write.tolist(), equal_hidden_state(twice, llama, LlamaModel, ())[FINAL].write.tolist()
        ([0.5, 0.5, 0.5, 0.5], [1.0, 1.0, 1.0, 1.0])
    """
    shown, laws = architecture.output_space(LAST, model_class.__name__), architecture.laws
    if (
        shown is None
        or shown not in maps
        or not maps[shown].grows
        or not isinstance(laws[shown], (Dual, Linear, Scaled))
    ):
        return dict(maps)
    chain, old = _multiples(shown, laws), maps[shown]
    active = old.write * old.read != 0
    counts = np.bincount(old.source, active, old.n)[old.source]
    most = np.bincount(counts[active].astype(np.int64)).argmax()
    factor = np.where(active, np.sqrt(most / counts) / np.where(active, old.write, 1.0), 1.0)
    if chain & set(tied):
        raise IllegalGrowthError(
            f"the last hidden state cannot be equal: this {model_class.__name__} ties its head to the embedding, "
            "so that what it reads has to be divided by the number of copies. Leave last_hidden_state at 'divided', "
            "which changes no cosine, or save the model without its head (AutoModel.from_pretrained(SRC)"
            ".save_pretrained(NEW)) and grow that."
        )
    grown = {
        space: Map(one.n, one.source, one.write * factor, one.read / factor, one.mean)
        for space, one in maps.items()
        if space in chain
    }
    return {**maps, **grown}


def hidden_state_notes(
    maps: Mapping[Space, Map], architecture: Architecture, model_class: type[PreTrainedModel], equal: bool
) -> Iterator[str]:
    """What the caller should know of the hidden states that come out, a sentence each. Arguments as
    for `equal_hidden_state`.

    Args:
        equal: whether the caller asked for an equal last hidden state.

    Example:
        >>> from transformers import LlamaModel
        >>> from growth import architectures
        >>> from growth.rules.norm import FINAL
        >>> twice = {FINAL: Map.repeat(2, 4).dual}
        >>> print(*hidden_state_notes(twice, architectures.find("llama"), LlamaModel, equal=False))
        the last hidden state comes out times 0.5, which changes no cosine; --last-hidden-state equal (...) keeps it...
    """
    headless = re.search("For[A-Z]|LMHead|HeadsModel|MTModel", model_class.__name__) is None
    for output in EMBEDDINGS if headless else (LAST,):
        space = architecture.output_space(output, model_class.__name__)
        if space is None or space not in maps or not maps[space].grows:
            continue
        grown, free = maps[space], isinstance(architecture.laws[space], (Dual, Linear, Scaled)) and output == LAST
        factors = np.unique(grown.write[grown.write * grown.read != 0])
        if not keeps_directions(grown):
            keep = " --last-hidden-state equal or" if free and headless and not equal else ""
            yield (
                f"cosines between vectors of '{output}' change, since at {grown.n} -> {grown.m} some of its "
                f"coordinates count for more than others;{keep} a whole multiple of {grown.n} keeps them"
            )
        elif free and headless and not equal and len(factors) == 1 and factors[0] != 1:
            yield (
                f"the last hidden state comes out times {factors[0]:.4g}, which changes no cosine; "
                '--last-hidden-state equal (in Python last_hidden_state="equal") keeps it as it is'
            )


def keeps_directions(grown: Map) -> bool:
    """Whether the cosine of any two vectors stays when both grow by this map.

    Example:
        >>> keeps_directions(Map.repeat(2, 4)), keeps_directions(Map.repeat(2, 3))
        (True, False)
    """
    return grown.energy is not None and not grown.write[grown.means].any()


def _multiples(space: Space, laws: Mapping[Space, Law]) -> frozenset[Space]:
    """A space, and those that are it times a constant."""
    found = {space}
    while (
        more := {
            other
            for one, law in laws.items()
            if isinstance(law, Scaled) and {one, law.into} & found
            for other in (one, law.into)
        }
        - found
    ):
        found |= more
    return frozenset(found)
