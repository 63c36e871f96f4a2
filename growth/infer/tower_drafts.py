"""Drafts of a model of several towers, reading by reading (`growth.infer.readings`): of text with images
or sounds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial

from growth.errors import IllegalGrowthError
from growth.hf.configs import Config
from growth.hf.nested import nested_sections
from growth.infer.counts import SmallCounts
from growth.infer.drafts import Attempt, Draft, skeleton
from growth.infer.listed_sizes import list_sizes
from growth.infer.readings import READINGS, Reading
from growth.infer.tower_growth import growths
from growth.infer.towers import section_kinds, tower_sections
from growth.proof.miniature import miniature

MOST_PARAMETERS = 150_000_000
"""Several towers, each with heads of the user's width, are larger than one."""


def by_readings(base: Config, names: Collection[str] = ("text",)) -> Iterator[Attempt]:
    """A draft for each reading.

    Args:
        base: the config of the model.
        names: kinds or sections of the towers that grow.

    Raises:
        IllegalGrowthError: for a name that no tower has.

    Example:
        >>> attempt = next(by_readings(Config({"model_type": "llava"})))
        >>> attempt().growths[0]["text_config.hidden_size"]
        2
    """
    check_names(base, names)
    return (partial(draft, base, replace(reading, grows=frozenset(names))) for reading in READINGS)


def draft(base: Config, reading: Reading) -> Draft:
    """The draft under one reading.

    Args:
        base: the config of the model.
        reading: one of `READINGS`.

    Example:
        >>> draft(Config({"model_type": "llava"}), READINGS[0]).small["text_config"]["num_attention_heads"]
        3
    """
    towers = tower_sections(base.parsed, reading)
    sizes = {at: size for tower in towers for at, size in tower.sizes.items()}
    counts = SmallCounts(lists=list_sizes(nested_sections(base.parsed), reading))
    declared = skeleton(base, sizes, counts)
    return Draft(miniature(base, declared), declared, growths(towers, reading.grows), most=MOST_PARAMETERS)


def check_names(config: Config, names: Collection[str]) -> None:
    """Refuse a name that no tower has.

    Raises:
        IllegalGrowthError: saying which there are.

    Example:
        >>> check_names(Config({"model_type": "llava"}), ["audio"])
        Traceback (most recent call last):
        ...
        growth.errors.IllegalGrowthError: this llava has no tower 'audio'; it has text, text_config, vision, ...
    """
    kinds = section_kinds(nested_sections(config.parsed))
    known = {word for path, kind in kinds.items() for word in (path, kind) if word not in ("", "other")}
    for name in names:
        if name not in known and (name != "text" or "text" in kinds.values()):  # without a text, the first tower leads
            raise IllegalGrowthError(
                f"this {config['model_type']} has no tower '{name}'; it has {', '.join(sorted(known))}. Name one of "
                "those."
            )
