"""Ways to read the sizes of a config, where its fields do not say it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """One way to read the sizes of a config, where its fields do not say it.

    Args:
        free_hidden: whether the hidden size of a section that says how wide its heads are is free
            of their number.
        equal: whether widths outside the text that are equal to its width follow it.
        named: further names of fields outside the text that are as wide as it.
        shrink: whether the towers that stay are made small.
        one: whether a stream outside the text of the same width is the text's own, as where a decoder
            attends to what an encoder leaves without a map between them.
        grows: kinds or sections of the towers that grow.

    Example:
        >>> Reading(equal=True).shrink
        True
    """

    free_hidden: bool = True
    equal: bool = False
    named: tuple[str, ...] = ()
    shrink: bool = True
    one: bool = False
    grows: frozenset[str] = frozenset({"text"})


PROJECTED = ("projection_dim", "image_token_embed_dim", "hidden_size_of_text", "projector_output_dim")
READINGS = (
    Reading(),
    Reading(equal=True),
    Reading(named=PROJECTED),
    Reading(free_hidden=False),
    Reading(free_hidden=False, equal=True),
    Reading(one=True),
    Reading(free_hidden=False, one=True),
    Reading(shrink=False),
    Reading(shrink=False, equal=True),
)
"""Tried in this order: the first whose miniature runs is right."""
