"""A miniature, and the same one with every size that grows multiplied."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from transformers import PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.derived_sizes import Times
from growth.architectures.sizes import Size, size_at, value_at
from growth.errors import FOREIGN_ERRORS, GrowthError, UnsupportedModelError
from growth.hf.config_json import edited
from growth.hf.configs import Config
from growth.hf.own_modules import OwnWrapper
from growth.infer.drafts import Attempt, Draft
from growth.infer.fields import whole_numbers
from growth.infer.levels import by_levels
from growth.infer.probe import few_shapes, shapes
from growth.infer.tensor_names import starred
from growth.infer.tower_drafts import by_readings
from growth.infer.trial import run
from growth.proof.class_inputs import Inputs
from growth.proof.unknown_inputs import reads_more_than_text, reads_raw


@dataclass(frozen=True)
class Pair:
    """A miniature and a larger one.

    Args:
        small: the miniature's config.
        wide: the same with every field of ``ratios`` multiplied.
        ratios: path of a config field -> by what it is multiplied.
        sizes: the sizes, with the small values under which the miniature was made.
        inputs: arguments of the forward pass that both take.
        architecture: a declaration with these sizes and nothing else, under which
            `growth.proof.miniature.miniature` makes ``small``.
    """

    small: Config
    wide: Config
    ratios: Mapping[str, int]
    sizes: Mapping[str, Size]
    inputs: Inputs
    architecture: Architecture


def pair(
    config: Mapping[str, Any],
    model_class: type[PreTrainedModel],
    towers: Collection[str] = ("text",),
    sizes: Mapping[str, Size] | None = None,
) -> Pair:
    """The miniature of a config and a larger one, both of which were built and run.

    There are several ways to read the sizes of a config that nobody declared (`attempts`). The first
    whose miniatures run, and have the parameters of the model, is right.

    Args:
        config: of the model.
        model_class: of the model, which ``config`` names.
        towers: of a model of several, kinds or sections of those that grow.
        sizes: of a model of one, only fields of these grow; None for all that `growth.infer.sizes` finds.

    Raises:
        UnsupportedModelError: if the class runs at no sizes that were tried; it says why, its notes
            what became of each.
        IllegalGrowthError: for a tower that the model does not have.

    Example:
        >>> from transformers import ApertusForCausalLM
        >>> found = pair({"model_type": "apertus", "architectures": ["ApertusForCausalLM"]}, ApertusForCausalLM)
        >>> found.ratios["hidden_size"], found.ratios["intermediate_size"]
        (2, 3)
    """
    return next(pairs(config, model_class, towers, sizes))


def pairs(
    config: Mapping[str, Any],
    model_class: type[PreTrainedModel],
    towers: Collection[str] = ("text",),
    sizes: Mapping[str, Size] | None = None,
) -> Iterator[Pair]:
    """Every pair that runs, the one that tells sizes apart best first. Arguments as for `pair`.

    Raises:
        UnsupportedModelError: if there is none.
    """
    base = Config.of(config)
    tried: list[dict[str, Any]] = []
    failures: list[BaseException] = []
    found_any = False
    for attempt in attempts(base, model_class, towers, sizes):
        try:
            draft = attempt()
            if dict(draft.small) in tried:
                continue
            tried.append(dict(draft.small))
            found = _run(draft, base, model_class)
        except (GrowthError, *FOREIGN_ERRORS) as error:
            failures.append(error)
        else:
            found_any = True
            yield found
    if found_any:
        return
    said = dict.fromkeys(f"{type(error).__name__}: {str(error)[:160]}" for error in failures)
    refusal = UnsupportedModelError(
        f"no miniature of {model_class.__name__} runs: {'; '.join([*said][:3])}. Declare the model with "
        "growth.register."
    )
    for failure in failures:
        refusal.add_note("\n".join([f"{type(failure).__name__}: {failure}", *getattr(failure, "__notes__", ())]))
    raise refusal


def attempts(
    base: Config,
    model_class: type[PreTrainedModel],
    towers: Collection[str] = ("text",),
    sizes: Mapping[str, Size] | None = None,
) -> Iterator[Attempt]:
    """Ways to read the sizes of a config: for a class that reads text and images or sounds, tower by
    tower; for others, level by level; for those of images or sounds alone, both.

    Args:
        base: the config.
        model_class, towers, sizes: as for `pair`.

    Example:
        >>> from transformers import LlavaForConditionalGeneration
        >>> attempt = next(attempts(Config({"model_type": "llava"}), LlavaForConditionalGeneration))
        >>> attempt().growths[0]["text_config.hidden_size"]
        2
    """
    if sizes is not None or issubclass(model_class, OwnWrapper) or not reads_raw(model_class):
        return by_levels(base, model_class, sizes)
    if reads_more_than_text(model_class):
        return by_readings(base, towers)
    return chain(by_levels(base, model_class), by_readings(base, towers))


def _run(draft: Draft, base: Config, kind: type[PreTrainedModel]) -> Pair:
    """The pair of a draft. Raises whatever the class does, if it does not take it."""
    _check_names(draft.small, base, kind)
    inputs = run(draft.small, most=draft.most)
    failed: BaseException | None = None
    for ratios in draft.growths:
        try:
            wide = _multiplied(draft, ratios)
            _check_names(wide, base, kind)
            run(wide, inputs, draft.most)
        except (GrowthError, *FOREIGN_ERRORS) as error:
            failed = failed or error
            continue
        sizes = {
            name: size if size.field in ratios else replace(size, grows="never")
            for name, size in draft.architecture.sizes.items()
            if size.field in ratios or _stands(size.field, draft.small, wide, base)
        }
        sizes |= _led(draft.architecture.sizes, sizes, (base, draft.small, wide))
        return Pair(draft.small, wide, ratios, sizes, inputs, replace(draft.architecture, sizes=sizes))
    raise failed or UnsupportedModelError("no field of its config grows")


def _led(table: Mapping[str, Size], leaders: Mapping[str, Size], configs: Sequence[Config]) -> dict[str, Size]:
    """The other sizes, that the class sets to what one that grows is, as sizes that follow it. They are written with
    it: a class that finds them unequal may set more than them."""

    def values(size: Size) -> list[Any]:
        return [size_at(config.parsed, size.field) for config in configs]

    led: dict[str, Size] = {}
    for name in table.keys() - leaders.keys():
        size = table[name]
        leader = next((other for other, it in leaders.items() if values(it) == values(size)), None)
        if leader is not None and all(type(value) is int for value in values(size)):
            led[name] = replace(size, grows="follows", follows=Times(1, leader), small=leaders[leader].small)
    return {name: led[name] for name in table if name in led}


def _stands(path: str, small: Config, wide: Config, base: Config) -> bool:
    """Whether a field that is not multiplied is a number, and stays what it is."""
    return type(size_at(base.parsed, path)) is int and value_at(small.parsed, path) == value_at(wide.parsed, path)


def _check_names(other: Config, base: Config, kind: type[PreTrainedModel]) -> None:
    """Refuse sizes at which a model has other parameters. Code that compares two widths may add a map
    between them where they differ, and torch's attention fuses matrices where keys are as wide as
    queries."""
    if (before := few_shapes(base, kind)) is None:
        return
    wanted, found = ({starred(name) for name in each} for each in (before, shapes(other, kind)))
    if wanted != found:
        raise UnsupportedModelError(
            f"a miniature has other parameters than the model ({', '.join(sorted(wanted ^ found)[:3])}): two of its "
            "sizes are tied in a way that the config does not say"
        )


def _multiplied(draft: Draft, ratios: Mapping[str, int]) -> Config:
    """The config with fields multiplied, all others as they are."""
    values = {path: value for path in ratios if type(value := size_at(draft.small.parsed, path)) is int}
    written = {path: ratios[path] * value for path, value in values.items()}
    wide = edited(draft.small, written, written=tuple(written))
    before, after = whole_numbers(draft.small.parsed), whole_numbers(wide.parsed)
    moved = sorted(path for path in draft.kept if before.get(path) != after.get(path))
    if moved:
        raise UnsupportedModelError(f"{', '.join(moved)} follow from the sizes that grow")
    return wide
