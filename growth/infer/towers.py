"""Towers: the sections of a config, and the sizes each of them has.

A model of text and images is built from several stacks. The text tower has the stream that the
logits are read from; what an image or a sound becomes is written into it. By default the text tower
grows and the others stay, so their sizes are written small in the miniature and never multiplied,
except those that say how wide the text is."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedConfig

from growth.architectures.sections import joined
from growth.architectures.sizes import Size
from growth.errors import UnsupportedModelError
from growth.hf.nested import nested_sections, plain_fields
from growth.infer.size_fields import EXPERT, FEED_FORWARD, HEAD_DIMS, HEAD_PAIRS, HIDDEN, INTO_TEXT, is_width

Kind = Literal["text", "vision", "audio", "other"]


@dataclass(frozen=True)
class Tower:
    """One section of a config.

    Args:
        section: its path; "" is the config itself.
        kind: what it reads. ``other``: parts between towers, such as a projector or a resampler.
        sizes: path of a config field -> the size, which `grows` if this tower does.
        into_text: paths of its fields that are as wide as the text, and grow with that.
        says_head_dim: whether a field says how wide its heads are, so that their number is free.
    """

    section: str
    kind: Kind
    sizes: Mapping[str, Size]
    into_text: tuple[str, ...] = ()
    says_head_dim: bool = False


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


def tower_sections(config: PreTrainedConfig, reading: Reading | None = None) -> tuple[Tower, ...]:
    """The towers of a config, with their sizes.

    Args:
        config: a parsed config.
        reading: how to read what its fields do not say; the first of `READINGS` by default.

    Returns:
        One tower for each section, in the order of `nested_sections`.

    Raises:
        UnsupportedModelError: if no section is a text tower.

    Example:
        >>> from transformers import LlavaConfig
        >>> [(tower.section, tower.kind) for tower in tower_sections(LlavaConfig())]
        [('', 'other'), ('text_config', 'text'), ('vision_config', 'vision')]
    """
    reading = reading or READINGS[0]
    sections = nested_sections(config)
    kinds = section_kinds(sections)
    texts = {path: plain_fields(sections[path]) for path, kind in kinds.items() if kind == "text"}
    if not texts:
        raise UnsupportedModelError(
            f"no section of the {config.model_type} config has a vocabulary and a hidden size, so that there is no "
            "text tower to grow. Name a class with one."
        )
    streams = [hidden for fields in texts.values() if (hidden := own_hidden(fields)) is not None]
    small = {hidden: _small_hidden(fields, reading, at) for at, (hidden, fields) in _by_hidden(texts.values())}
    widest = max(streams, default=0)
    rest = [plain_fields(sections[path]) for path, kind in kinds.items() if kind != "text"]
    factor = shrinking_factor(rest) if reading.shrink else 1
    grown = {path for path, kind in kinds.items() if {kind, path} & reading.grows}
    towers = []
    for path, section in sections.items():
        fields, kind = plain_fields(section), kinds[path]
        if kind == "text":
            sizes = dict(_text_sizes(path, fields, small, factor))
            says = reading.free_hidden and any(_counts(fields.get(name)) for name in HEAD_DIMS)
            towers.append(Tower(path, kind, sizes, says_head_dim=says))
            continue
        into = tuple(name for name in fields if widest and _writes_text(name, fields, kind, path, widest, reading))
        heads = {}
        if reading.one and own_hidden(fields) == widest:
            heads = next(small_heads(inner) for inner in texts.values() if own_hidden(inner) == widest)
            heads = {name: heads[name] for name in heads if name in fields}
            into += tuple(heads)
        sizes = dict(_other_sizes(path, fields, into, small.get(widest, widest), factor, grows=path in grown))
        sizes |= {at: Size(at, "heads", small=heads[name]) for name in heads if (at := joined(path, name)) in sizes}
        towers.append(Tower(path, kind, sizes, tuple(joined(path, name) for name in into)))
    return tuple(towers)


def section_kinds(sections: Mapping[str, PreTrainedConfig]) -> dict[str, Kind]:
    """Path -> what the tower of a section reads, from its name and its fields.

    Example:
        >>> from transformers import Qwen2AudioConfig
        >>> section_kinds(nested_sections(Qwen2AudioConfig()))
        {'': 'other', 'audio_config': 'audio', 'text_config': 'text'}
    """
    kinds: dict[str, Kind] = {path: _kind(path, plain_fields(section)) for path, section in sections.items()}
    if "text" not in kinds.values() or kinds[""] != "text":
        return kinds
    own = plain_fields(sections[""])
    inner = [path for path, kind in kinds.items() if path and kind == "text"]
    if inner and not any(name in own for pair in HEAD_PAIRS for name in pair if name):
        kinds[""] = "other"
    return kinds


def _kind(path: str, fields: Mapping[str, Any]) -> Kind:
    words = path.replace(".", "_").split("_")
    if {"vision", "visual", "vq", "image", "sam"} & {*words}:
        return "vision"
    if {"audio", "speech", "sound"} & {*words}:
        return "audio"
    if {"qformer", "perceiver", "projector", "adapter", "adaptor", "protein"} & {*words}:
        return "other"
    if "vocab_size" in fields and own_hidden(fields) is not None:
        return "text"
    if path and {"patch_size", "image_size", "num_channels", "in_channels"} & fields.keys():
        return "vision"
    if path and {"num_mel_bins", "feature_size", "sampling_rate", "n_mel_bins"} & fields.keys():
        return "audio"
    return "other"


def own_hidden(fields: Mapping[str, Any]) -> int | None:
    """The width of a section's stream; None if no field says it."""
    return next((fields[name] for name in HIDDEN if _counts(fields.get(name))), None)


def _counts(value: Any) -> bool:
    return type(value) is int and value > 0


def _by_hidden(texts: Iterable[Mapping[str, Any]]) -> list[tuple[int, tuple[int, Mapping[str, Any]]]]:
    """(number, (hidden size, fields of the first section with it))."""
    first: dict[int, Mapping[str, Any]] = {}
    for fields in texts:
        if (hidden := own_hidden(fields)) is not None:
            first.setdefault(hidden, fields)
    return list(enumerate(first.items()))


def _small_hidden(fields: Mapping[str, Any], reading: Reading, number: int) -> int:
    """The text's hidden size in the miniature. Where no field says how wide a head is, heads of the
    user's width make it up."""
    heads = small_heads(fields)
    named = next((name for name in HEAD_DIMS if _counts(fields.get(name))), None)
    main = next((name for name in _head_fields(fields)), None)
    if main is None or (named and reading.free_hidden):
        return (12 + 6 * number) * (heads[main] if main else 4)  # some configs want whole multiples of the heads
    width = fields[named] if named else (own_hidden(fields) or 0) // fields[main]
    return int(heads[main] * width)


def _head_fields(fields: Mapping[str, Any]) -> list[str]:
    return [many for many, _ in HEAD_PAIRS if _counts(fields.get(many))]


def small_heads(fields: Mapping[str, Any]) -> dict[str, int]:
    """Counts of heads in the miniature of a text section: as many queries to a key and value as the
    user's, and two of those.

    Example:
        >>> small_heads({"num_attention_heads": 32, "num_key_value_heads": 8})
        {'num_attention_heads': 8, 'num_key_value_heads': 2}
    """
    found: dict[str, int] = {}
    for many, few in HEAD_PAIRS:
        if not _counts(fields.get(many)):
            continue
        shared = fields.get(few) if few else None
        if few == "n_groups" and _counts(shared):
            found.setdefault(many, 2 * fields[few])  # groups stay
        elif shared == 1 < fields[many]:
            found.setdefault(many, min(fields[many], 5))
            found.setdefault(few, 1)
        elif not _counts(shared) or shared == fields[many] or fields[many] % fields[few]:
            found.setdefault(many, 3)
            if _counts(shared):
                found.setdefault(few, 3)
        else:
            groups = found.get(few, _few_groups(fields, fields[many] // fields[few]))
            found.setdefault(many, groups * (fields[many] // fields[few]))
            found.setdefault(few, groups)
    return found


WIDEST = 2048
"""What heads of the user's width may make up with two groups; one group is taken beyond that."""


def _few_groups(fields: Mapping[str, Any], queries: int) -> int:
    """How many keys and values a miniature has that so many queries share each."""
    if any(_counts(fields.get(name)) for name in HEAD_DIMS):
        return 2 if queries < 32 else 1
    heads = next((fields[name] for name in _head_fields(fields)), 1)
    return 2 if 2 * queries * ((own_hidden(fields) or 0) // heads) <= WIDEST else 1


def _text_sizes(
    path: str, fields: Mapping[str, Any], small: Mapping[int, int], factor: int
) -> Iterable[tuple[str, Size]]:
    """The sizes of a text section, by path."""
    hidden = own_hidden(fields)
    heads = small_heads(fields)
    inner, experts = iter(range(58, 900, 16)), iter(range(34, 900, 8))
    for name, value in fields.items():
        at = joined(path, name)
        if not _counts(value) or name.startswith("_"):
            continue
        if name in heads:
            yield at, Size(at, "heads", small=heads[name])
        elif name in HIDDEN and value in small:
            yield at, Size(at, small=small[value])
        elif name in FEED_FORWARD:
            yield at, Size(at, small=next(inner))
        elif name in EXPERT:
            yield at, Size(at, small=next(experts))
        elif name == "encoder_hidden_size" and hidden is not None:
            yield at, Size(at, "never", small=_divided(value, factor))


def _writes_text(name: str, fields: Mapping[str, Any], kind: Kind, path: str, hidden: int, reading: Reading) -> bool:
    """Whether a field outside the text says how wide the text is."""
    value = fields[name]
    if not _counts(value):
        return False
    if path and name in INTO_TEXT:
        return True
    if path and name == "hidden_size" and _counts(fields.get("embed_dim")) and "num_heads" in fields:
        return True  # the tower's own width is embed_dim
    if name in reading.named or (name in PROJECTED and value == hidden):
        return True
    if not path and name in HIDDEN:
        return True
    if reading.one and path and value == hidden and name in HIDDEN:
        return True
    return reading.equal and value == hidden and is_width(name) and (kind == "other" or name not in HIDDEN)


def _other_sizes(
    path: str, fields: Mapping[str, Any], into: Collection[str], text: int, factor: int, *, grows: bool
) -> Iterable[tuple[str, Size]]:
    """The sizes of a section that is not text, by path: the user's, all divided by one factor, so
    that whatever one is of another stays so."""
    heads = {name for pair in HEAD_PAIRS for name in pair if name and name != "n_groups"}
    for name, value in fields.items():
        at = joined(path, name)
        if not _counts(value) or name.startswith("_"):
            continue
        if name in into:
            yield at, Size(at, small=text)
        elif name in heads:
            yield at, Size(at, "heads" if grows else "never", small=_divided(value, factor))
        elif is_width(name) or name == "base_channels":
            yield at, Size(at, "width" if grows else "never", small=_divided(value, factor))


def list_sizes(sections: Mapping[str, PreTrainedConfig], reading: Reading) -> dict[str, list[int]]:
    """Widths that a config lists, one for each stage of a tower or each kind of block, as they are in
    the miniature. They stay.

    Args:
        sections: from `nested_sections`.
        reading: whether towers that stay are made small.
    """
    kinds = section_kinds(sections)
    factor = shrinking_factor(plain_fields(s) for path, s in sections.items() if kinds[path] != "text")
    found: dict[str, list[int]] = {}
    for path, section in sections.items():
        for name, value in plain_fields(section).items():
            if not (isinstance(value, list) and value and all(_counts(entry) for entry in value)):
                continue
            if kinds[path] == "text" and name in (*FEED_FORWARD, *EXPERT):
                found[joined(path, name)] = [34 + 8 * at for at in range(len(value))]
            elif kinds[path] != "text" and reading.shrink and name in STAGED:
                found[joined(path, name)] = [_divided(entry, factor) for entry in value]
            elif kinds[path] != "text" and name == "depths":
                found[joined(path, name)] = [min(entry, 2) for entry in value]
    return found


STAGED = (
    "embed_dim",
    "embed_dims",
    "hidden_sizes",
    "num_heads",
    "num_attention_heads",
    "num_groups",
    "downsample_channels",
)
"""Names of lists with a width or a number of heads for each stage."""


def _divided(value: int, factor: int) -> int:
    """A width over the factor, at least 1. One that the factor does not divide is rounded to an
    even number."""
    return value // factor if value % factor == 0 else max(2, value // factor // 2 * 2)


def shrinking_factor(sections: Iterable[Mapping[str, Any]]) -> int:
    """The largest number that divides the heads and the widths of streams in all sections and leaves
    at least two heads where there were several."""
    counts: list[int] = []
    streams: list[int] = []
    for fields in sections:
        for pair in HEAD_PAIRS:
            counts += [fields[name] for name in pair if name != "n_groups" and _counts(fields.get(name))]
        for pair in HEAD_PAIRS:
            for value in (fields.get(name) for name in pair):
                if isinstance(value, list):
                    counts += value
        streams += [fields[name] for name in HIDDEN if _counts(fields.get(name))]
        streams += [fields["base_channels"] // 32] if _counts(fields.get("base_channels")) else []  # in groups of 32
        for name in HIDDEN:
            if isinstance(fields.get(name), list):
                streams += fields[name]
    several = [count for count in counts if count > 1]
    common = math.gcd(*several) if several else 8
    fits = [
        factor
        for factor in range(1, common + 1)
        if common % factor == 0 and all(stream % factor == 0 for stream in streams)
    ]
    kept = [factor for factor in fits if all(count // factor >= 2 for count in several)]
    return max(kept or fits, default=1)


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
        >>> text_growth(tower_sections(LlavaConfig()))["text_config.hidden_size"]
        2
    """
    found: dict[str, int] = {}
    towers = tuple(towers)
    text_grows = any(tower.kind == "text" and {tower.kind, tower.section} & {*names} for tower in towers)
    for tower in towers:
        more = 0 if tower.kind == "text" else 1
        for at in tower.into_text:
            if text_grows:
                found[at] = RATIOS["hidden"]
        if not {tower.kind, tower.section} & {*names}:
            continue
        explicit = free_heads and tower.says_head_dim
        for at, size in tower.sizes.items():
            if at in found or size.grows == "never":
                continue
            leaf = at.rpartition(".")[2]
            if alike and tower.kind != "text":
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


def growths(towers: Iterable[Tower], names: Collection[str] = ("text",)) -> list[dict[str, int]]:
    """The growths to try for a choice of towers, those with the most different ratios first. What
    the model's code ties together shows only when the grown config is built and run.

    Args:
        towers, names: as for `text_growth`.
    """
    towers = tuple(towers)
    found: list[dict[str, int]] = []
    for alike in (False, True):
        for free in (True, False):
            ratios = text_growth(towers, names, free_heads=free, alike=alike)
            if ratios not in found:
                found.append(ratios)
    return found
