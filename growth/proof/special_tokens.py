"""Special tokens of a miniature: distinct, in the order of the user's, inside a small vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig

from growth.architectures.sections import joined
from growth.hf.nested import nested_sections, plain_fields

VOCABULARY = 96
FIRST = 5
"""The first id of a token that stands for something else than text; below are padding and the like."""

TOKEN_ENDS = ("_token_id", "_token_index", "_start_id", "_end_id", "_newline_id", "_patch_id", "vocab_offset")
LIST_ENDS = ("_token_ids",)
VOCABULARIES = ("vocab_size", "vocab_size_per_layer_input", "decoder_vocab_size", "unpadded_vocab_size")
SMALLEST = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "unk_token_id")


def small_tokens(sections: Mapping[str, PreTrainedConfig]) -> dict[str, Any]:
    """Path of a field -> its value in the miniature, for special tokens and sizes of vocabularies.

    Example:
        >>> from transformers import Qwen2VLConfig
        >>> found = small_tokens(nested_sections(Qwen2VLConfig()))
        >>> found["vision_start_token_id"], found["vision_end_token_id"], found["image_token_id"]
        (7, 8, 9)
    """
    said = [
        (path, name, value) for path, section in sections.items() for name, value in _tokens(plain_fields(section))
    ]
    texts = {path: plain_fields(section) for path, section in sections.items()}
    distinct = sorted({value for _, name, value in said if name not in SMALLEST})
    small = {value: FIRST + 2 + at for at, value in enumerate(distinct)}
    extra = any("additional_vocab_size" in fields for fields in texts.values())
    if extra:
        base = max(fields.get("vocab_size", 0) for fields in texts.values() if type(fields.get("vocab_size")) is int)
        small = {value: VOCABULARY + value - base if value >= base else at for value, at in small.items()}
    found: dict[str, Any] = {}
    for path, name, value in said:
        at = joined(path, name)
        found[at] = _first_ids(name) if name in SMALLEST else small[value]
    for path, fields in texts.items():
        for name, value in fields.items():
            if name.endswith(LIST_ENDS) and isinstance(value, list):
                found[joined(path, name)] = [FIRST + 30 + at for at in range(len(value))]
            elif name == "eos_token_id" and isinstance(value, list):
                found[joined(path, name)] = [2]
        for name in VOCABULARIES:
            if type(size := fields.get(name)) is int:
                found[joined(path, name)] = VOCABULARY if distinct else min(size, VOCABULARY)
        if type(offset := fields.get("vocab_offset")) is int and small:
            following = min((at for at in small.values() if at > small[offset]), default=VOCABULARY)
            later = sorted(
                small[other]
                for inner in texts.values()
                if type(other := inner.get("vocab_offset")) is int and other > offset
            )
            found[joined(path, "vocab_size")] = max(later[0] if later else VOCABULARY, following) - small[offset]
    return found


def _tokens(fields: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Fields that hold one special token."""
    for name, value in fields.items():
        if name.endswith(TOKEN_ENDS) and type(value) is int and value >= 0:
            yield name, value


def _first_ids(name: str) -> int:
    return {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "unk_token_id": 3}.get(name, 1)


def placeholder(config: PreTrainedConfig, what: str) -> int | None:
    """The token that stands in a text for each feature of an image (``what`` is ``"image"``), a
    video or a sound; None where the config names none.

    Example:
        >>> from transformers import LlavaConfig
        >>> placeholder(LlavaConfig(), "image")
        32000
    """
    names = [f"{what}_{end}" for end in ("token_id", "token_index", "patch_id")]
    for section in nested_sections(config).values():
        fields = plain_fields(section)
        for name in names:
            if type(value := fields.get(name, getattr_plain(section, name))) is int:
                return value
    return None


def getattr_plain(section: PreTrainedConfig, name: str) -> Any:
    """An attribute that a config computes; None where it has none, or cannot say it for all layers."""
    try:
        return getattr(section, name, None)
    except RuntimeError:
        return None
