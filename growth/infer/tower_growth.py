"""What the fields of towers are multiplied by in a grown miniature."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from growth.infer.size_fields import EXPERT, FEED_FORWARD
from growth.infer.towers import Tower

RATIOS: Mapping[str, int] = {"hidden": 2, "inner": 3, "expert": 5, "heads": 3}
"""What the sizes of the text are multiplied by in the grown miniature; other towers get one more."""


def text_growth(
    towers: Iterable[Tower], names: Collection[str] = ("text",), *, free_heads: bool = True, alike: bool = False
) -> dict[str, int]:
    """The fields to multiply for a choice of towers.

    Args:
        towers: from `tower_sections`.
        names: kinds or sections of the towers that grow.
        free_heads: whether heads may grow by another ratio than the hidden size where a field says
            how wide a head is. Where that is so but the model does not build, it was not free.
        alike: whether all sizes of a tower other than the text grow by one ratio.

    Returns:
        Path of a field -> the ratio. What is as wide as the text is multiplied with it.

    Example:
        >>> from transformers import LlavaConfig
        >>> from growth.infer.towers import tower_sections
        >>> text_growth(tower_sections(LlavaConfig()))["text_config.hidden_size"]
        2
    """
    found: dict[str, int] = {}
    towers = tuple(towers)
    names = chosen(towers, names)
    text_grows = any(tower.leads and {tower.kind, tower.section} & names for tower in towers)
    for tower in towers:
        more = 0 if tower.leads else 1
        for at in tower.into_text:
            if text_grows:
                found[at] = RATIOS["hidden"]
        if not {tower.kind, tower.section} & names:
            continue
        explicit = free_heads and tower.says_head_dim
        for at, size in tower.sizes.items():
            if at in found or size.grows == "never":
                continue
            leaf = at.rpartition(".")[2]
            if alike and not tower.leads:
                found[at] = RATIOS["hidden"] + more
            elif size.grows == "heads":
                found[at] = (RATIOS["heads"] if explicit else RATIOS["hidden"]) + more
            elif leaf in EXPERT:
                found[at] = RATIOS["expert"] + more
            elif leaf in FEED_FORWARD:
                found[at] = RATIOS["inner"] + more
            else:
                found[at] = RATIOS["hidden"] + more
    return found


def chosen(towers: Iterable[Tower], names: Collection[str]) -> frozenset[str]:
    """Kinds or sections of the towers that grow. A model without text has none to grow by default:
    there it is the tower that leads.

    Example:
        >>> chosen([Tower("", "vision", {}, leads=True)], ["text"])
        frozenset({''})
    """
    towers = tuple(towers)
    if "text" in names and not any(tower.kind == "text" for tower in towers):
        names = {*names, *(tower.section for tower in towers if tower.leads)} - {"text"}
    return frozenset(names)


def growths(towers: Iterable[Tower], names: Collection[str] = ("text",)) -> list[dict[str, int]]:
    """The growths to try for a choice of towers, those with the most different ratios first. What
    the model's code ties together shows only when the grown config is built and run.

    Args:
        towers, names: as for `text_growth`.

    Example:
        >>> from transformers import LlavaConfig
        >>> from growth.infer.towers import tower_sections
        >>> len(growths(tower_sections(LlavaConfig())))
        2
    """
    towers = tuple(towers)
    found: list[dict[str, int]] = []
    for alike in (False, True):
        for free in (True, False):
            ratios = text_growth(towers, names, free_heads=free, alike=alike)
            if ratios not in found:
                found.append(ratios)
    return found
