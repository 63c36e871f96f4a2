"""The miniature of a model of images or sounds and text, and the same model grown: found by trying
readings of its config until one runs with an image in its inputs."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sizes import value_at
from growth.errors import FOREIGN_ERRORS, GrowthError, IllegalGrowthError, UnsupportedModelError
from growth.hf.config_json import section_at
from growth.hf.configs import Config, Raw, config_to_build
from growth.hf.model_classes import class_of
from growth.hf.nested import nested_sections
from growth.infer.listed_sizes import list_sizes
from growth.infer.pair import Pair
from growth.infer.readings import READINGS, Reading
from growth.infer.tower_growth import growths
from growth.infer.towers import Tower, section_kinds, tower_sections
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import build_exact, loud, miniature
from growth.proof.modal_check import outputs_of
from growth.proof.modal_inputs import modal_inputs
from growth.proof.pixels import Inputs
from growth.proof.small_counts import small_counts

MOST = 150_000_000
"""Parameters of a miniature; more are not built."""


@dataclass(frozen=True)
class ModalPair:
    """A miniature, the same config grown, and inputs for both.

    Args:
        small, grown: the two configs.
        growth: path of a field -> by what it was multiplied.
        towers: the sections and their sizes.
        reading: how the sizes were read.
        model: of ``small``, in float64, with random weights.
        inputs: with an image or a sound in each row.
    """

    small: Config
    grown: Config
    growth: Mapping[str, int]
    towers: tuple[Tower, ...]
    reading: Reading
    model: PreTrainedModel
    inputs: Inputs


def section_architecture(
    config: PreTrainedConfig, towers: Collection[Tower], reading: Reading | None = None
) -> Architecture:
    """A declaration of nothing but the sizes of all sections, for `miniature`.

    Args:
        config: the user's, parsed.
        towers: from `tower_sections`.
    """
    sizes = {at: size for tower in towers for at, size in tower.sizes.items()}

    def twin(parsed: PreTrainedConfig, layers: int) -> dict[str, Any]:
        lists = list_sizes(nested_sections(parsed), reading or READINGS[0])
        counts = small_counts(parsed, layers)
        return {**counts, **{at: _as_long(value, counts.get(at)) for at, value in lists.items()}}

    return Architecture(config.model_type, modules={}, laws={}, sizes=sizes, twin=twin)


def _as_long(value: list[int], cut: Any) -> list[int]:
    """A list of widths, as long as its cut form where it has an entry per layer."""
    return value[: len(cut)] if isinstance(cut, list) else value


def small_config(raw: Mapping[str, Any], reading: Reading) -> tuple[tuple[Tower, ...], Config]:
    """The towers of a config under one reading, and its miniature.

    Args:
        raw: the user's config, with its class under ``architectures``.
        reading: one of `READINGS`.
    """
    config = Config.of(raw)
    towers = tower_sections(config.parsed, reading)
    return towers, miniature(config, section_architecture(config.parsed, towers, reading))


def grown_config(small: Mapping[str, Any], ratios: Mapping[str, int]) -> Config:
    """A config with fields multiplied. A field that the config leaves null stays null.

    Example:
        >>> dict(grown_config({"model_type": "gpt2", "n_embd": 64}, {"n_embd": 2}))
        {'model_type': 'gpt2', 'n_embd': 128}
    """
    config = Config.of(small)
    fields = copy.deepcopy(dict(config))
    for path, ratio in ratios.items():
        value = value_at(config.parsed, path)
        if type(value) is int:
            section_at(fields, path)[path.rpartition(".")[2]] = value * ratio
    return Config(fields)


def modal_pair(
    raw: Mapping[str, Any], names: Collection[str] = ("text",), kinds: Collection[str] = ("image", "audio")
) -> ModalPair:
    """The miniature of a config and the grown one, both of which run with images or sounds.

    Args:
        raw: the user's config, with its class under ``architectures``.
        names: kinds or sections of the towers that grow.
        kinds: what may be in the inputs besides text.

    Raises:
        UnsupportedModelError: if no reading of the config gives such a pair; the notes of the error
            say what became of each.

    Example:
        >>> pair = modal_pair({"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]})
        >>> pair.growth["text_config.hidden_size"]
        2
    """
    failures: list[str] = []
    seen: list[Raw] = []
    config = Config(raw)
    check_names(config, names)
    user_names = _user_names(config)
    for reading in READINGS:
        reading = replace(reading, grows=frozenset(names))
        with exact_arithmetic():
            try:
                towers, small = small_config(config, reading)
                if dict(small) in seen:
                    continue
                seen.append(dict(small))
                names_small = _parameter_names(small)
                _check_same(user_names, names_small, "the miniature")
                model = build_exact(small)
                loud(model)
                inputs = modal_inputs(model, kinds)
            except (*FOREIGN_ERRORS, GrowthError) as error:
                failures.append(f"{reading}: {said(error)}")
                continue
            for ratios in growths(towers, names):
                try:
                    grown = grown_config(small, ratios)
                    _check_same(names_small, _parameter_names(grown), "the grown miniature")
                    outputs_of(build_exact(grown), inputs)
                except (*FOREIGN_ERRORS, GrowthError) as error:
                    failures.append(f"{reading}, grown: {said(error)}")
                    continue
                return ModalPair(small, grown, ratios, towers, reading, model, inputs)
    refusal = UnsupportedModelError(
        f"no miniature of this {raw.get('model_type')} runs with images or sounds ({failures[0] if failures else ''})."
    )
    refusal.add_note("\n".join(failures))
    raise refusal


def check_names(config: Config, names: Collection[str]) -> None:
    """Refuse a name that no tower has.

    Raises:
        IllegalGrowthError: saying which there are.
    """
    kinds = section_kinds(nested_sections(config.parsed))
    known = {word for path, kind in kinds.items() for word in (path, kind) if word not in ("", "other")}
    for name in names:
        if name not in known:
            raise IllegalGrowthError(
                f"this {config['model_type']} has no tower '{name}'; it has {', '.join(sorted(known))}. "
                "Name one of those."
            )


def said(error: BaseException) -> str:
    """What an error says, with its notes."""
    return "\n".join([f"{type(error).__name__}: {str(error)[:400]}", *getattr(error, "__notes__", ())])


def as_pair(found: ModalPair, base: Config) -> Pair:
    """The same, as `growth.infer.pair.pair` says it.

    Args:
        found: the miniatures.
        base: the user's config.
    """
    sizes = {
        path: size if path in found.growth else replace(size, grows="never")
        for tower in found.towers
        for path, size in tower.sizes.items()
        if type(value_at(base.parsed, path)) is int
        and (path in found.growth or value_at(found.grown.parsed, path) == value_at(found.small.parsed, path))
    }
    declared = section_architecture(base.parsed, found.towers, found.reading)
    return Pair(found.small, found.grown, found.growth, sizes, found.inputs, replace(declared, sizes=sizes))


def _parameter_names(config: Config, most: int = MOST) -> frozenset[str]:
    """The names of the parameters of a model, built without memory.

    Raises:
        UnsupportedModelError: if it is no miniature.
    """
    with torch.device("meta"):
        model = class_of(config)._from_config(config_to_build(config))
    many = sum(parameter.numel() for parameter in model.parameters())
    if many > most:
        raise UnsupportedModelError(f"the miniature would have {many:,} parameters. Say its sizes in a declaration.")
    return frozenset(name for name, _ in model.named_parameters())


def _user_names(config: Config) -> frozenset[str] | None:
    """The names of the parameters of the user's model with few layers and its own widths; None if no
    such model can be built, as with defaults of a config class that do not fit each other."""
    try:
        with exact_arithmetic():
            bare = Architecture(config.parsed.model_type, modules={}, laws={}, sizes={}, twin=small_counts)
            return _parameter_names(miniature(config, bare), most=10**12)
    except (*FOREIGN_ERRORS, GrowthError):
        return None


def _check_same(wanted: frozenset[str] | None, found: frozenset[str], what: str) -> None:
    """Refuse a model with other parameters: code that compares two widths may add a map between them
    where they differ."""
    if wanted is not None and wanted != found:
        raise UnsupportedModelError(
            f"{what} has other parameters than the model ({', '.join(sorted(wanted ^ found)[:3])}). Two of its sizes "
            "are tied in a way that the config does not say."
        )
