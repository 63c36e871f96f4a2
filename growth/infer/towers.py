"""Towers: the sections of a config, and the sizes each of them has.

A model of text and images is built from several stacks. The text tower has the stream that the
logits are read from; what an image or a sound becomes is written into it. By default the text tower
grows and the others stay, so their sizes are written small in the miniature and never multiplied,
except those that say how wide the text is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedConfig

from growth.architectures.sections import joined
from growth.architectures.sizes import Size
from growth.errors import UnsupportedModelError
from growth.hf.nested import nested_sections, plain_fields
from growth.infer.readings import PROJECTED, READINGS, Reading
from growth.infer.size_fields import EXPERT, FEED_FORWARD, HEAD_DIMS, HEAD_PAIRS, HIDDEN, INTO_TEXT, is_width
from growth.infer.small_sizes import counts_up, divided, own_hidden, shrinking_factor, small_heads, small_hidden

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
        leads: whether the stream of the model's outputs is its: the text's, where there is one.
    """

    section: str
    kind: Kind
    sizes: Mapping[str, Size]
    into_text: tuple[str, ...] = ()
    says_head_dim: bool = False
    leads: bool = False


def tower_sections(config: PreTrainedConfig, reading: Reading | None = None) -> tuple[Tower, ...]:
    """The towers of a config, with their sizes.

    Args:
        config: a parsed config.
        reading: how to read what its fields do not say; the first of `READINGS` by default.

    Returns:
        One tower for each section, in the order of `nested_sections`.

    Raises:
        UnsupportedModelError: if no section says how wide its stream is.

    Example:
        >>> from transformers import LlavaConfig
        >>> [(tower.section, tower.kind) for tower in tower_sections(LlavaConfig())]
        [('', 'other'), ('text_config', 'text'), ('vision_config', 'vision')]
    """
    reading = reading or READINGS[0]
    sections = nested_sections(config)
    kinds = section_kinds(sections)
    texts = {path: plain_fields(sections[path]) for path, kind in kinds.items() if kind == "text"}
    if not texts:  # of images or sounds alone: the first section with a stream leads
        wide = (path for path, section in sections.items() if own_hidden(plain_fields(section)) is not None)
        texts = {path: plain_fields(sections[path]) for path in list(wide)[:1]}
    if not texts:
        raise UnsupportedModelError(
            f"no section of the {config.model_type} config says how wide its stream is ({', '.join(HIDDEN)}). Give "
            "its sizes in a declaration."
        )
    streams = [hidden for fields in texts.values() if (hidden := own_hidden(fields)) is not None]
    small = {hidden: small_hidden(fields, reading, at) for at, (hidden, fields) in _by_hidden(texts.values())}
    widest = max(streams, default=0)
    rest = [plain_fields(section) for path, section in sections.items() if path not in texts]
    factor = shrinking_factor(rest) if reading.shrink else 1
    grown = {path for path, kind in kinds.items() if {kind, path} & reading.grows}
    towers = []
    for path, section in sections.items():
        fields, kind = plain_fields(section), kinds[path]
        if path in texts:
            sizes = dict(_text_sizes(path, fields, small, factor))
            says = reading.free_hidden and any(counts_up(fields.get(name)) for name in HEAD_DIMS)
            towers.append(Tower(path, kind, sizes, says_head_dim=says, leads=True))
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
    if "text" not in kinds.values() and kinds[""] == "other":
        kinds[""] = _by_fields(plain_fields(sections[""]))
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
    return _by_fields(fields) if path else "other"


def _by_fields(fields: Mapping[str, Any]) -> Kind:
    if {"patch_size", "image_size", "num_channels", "in_channels"} & fields.keys():
        return "vision"
    if {"num_mel_bins", "feature_size", "sampling_rate", "n_mel_bins"} & fields.keys():
        return "audio"
    return "other"


def _by_hidden(texts: Iterable[Mapping[str, Any]]) -> list[tuple[int, tuple[int, Mapping[str, Any]]]]:
    """(number, (hidden size, fields of the first section with it))."""
    first: dict[int, Mapping[str, Any]] = {}
    for fields in texts:
        if (hidden := own_hidden(fields)) is not None:
            first.setdefault(hidden, fields)
    return list(enumerate(first.items()))


def _text_sizes(
    path: str, fields: Mapping[str, Any], small: Mapping[int, int], factor: int
) -> Iterable[tuple[str, Size]]:
    """The sizes of a text section, by path."""
    hidden = own_hidden(fields)
    heads = small_heads(fields)
    inner, experts = iter(range(58, 900, 16)), iter(range(34, 900, 8))
    for name, value in fields.items():
        at = joined(path, name)
        if not counts_up(value) or name.startswith("_"):
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
            yield at, Size(at, "never", small=divided(value, factor))


def _writes_text(name: str, fields: Mapping[str, Any], kind: Kind, path: str, hidden: int, reading: Reading) -> bool:
    """Whether a field outside the text says how wide the text is."""
    value = fields[name]
    if not counts_up(value):
        return False
    if path and name in INTO_TEXT:
        return True
    if path and name == "hidden_size" and counts_up(fields.get("embed_dim")) and "num_heads" in fields:
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
        if not counts_up(value) or name.startswith("_"):
            continue
        if name in into:
            yield at, Size(at, small=text)
        elif name in heads:
            yield at, Size(at, "heads" if grows else "never", small=divided(value, factor))
        elif is_width(name) or name == "base_channels":
            yield at, Size(at, "width" if grows else "never", small=divided(value, factor))
