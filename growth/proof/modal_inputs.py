"""Inputs for a model of images or sounds and text: the text says where they are, and they matter.

Nothing but the class and its config is at hand: no processor, and nothing from the network. The
signature of ``forward`` says what a class takes, the config how large it is, and the model itself
how many tokens stand for an image: the number of features that its tower hands to the text."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.errors import FOREIGN_ERRORS, UnsupportedModelError
from growth.proof.modal_check import outputs_of, why_ignored
from growth.proof.pixels import ROWS, Inputs, described, image_candidates, sound_candidates
from growth.proof.special_tokens import placeholder

BEFORE, AFTER = 4, 5
"""Text tokens before an image and after it."""

READERS = ("get_image_features", "get_video_features", "get_audio_features", "get_placeholder_mask")


def modal_inputs(
    model: PreTrainedModel, kinds: Collection[str] = ("image", "audio"), *, seed: int = 0, weights: bool = True
) -> Inputs:
    """The first inputs with images or sounds under which a model runs and which change its outputs.

    Args:
        model: in eval mode, at any size; run it under `growth.proof.float64.exact_arithmetic` if it
            is in float64.
        kinds: what may be in the inputs besides text, the first that works.
        seed: of the token ids.
        weights: whether to check with another weight, too, that the image matters; not for a model of the caller's,
            whose weights stay.

    Returns:
        Keyword arguments of ``forward``: token ids ``[2, length]`` with an image or a sound in each
        row, and what belongs to it.

    Raises:
        UnsupportedModelError: if there are none, saying what was tried last.

    Example:
        >>> with exact_arithmetic():
        ...     model = build_exact(small_llava)
        ...     inputs = modal_inputs(model)
        >>> {name: list(value.shape) for name, value in inputs.items()}
        {'input_ids': [2, 21], 'attention_mask': [2, 21], 'pixel_values': [2, 3, 56, 56]}
    """
    taken = inspect.signature(type(model).forward).parameters
    failures: list[str] = []
    for kind in kinds:
        made = image_candidates if kind == "image" else sound_candidates
        for candidate in made(model.config, taken):
            try:
                inputs = _with_text(model, candidate, kind, taken, seed)
                reason = why_ignored(model, inputs, {*candidate}, weights=weights)
            except FOREIGN_ERRORS as error:
                reason = f"{type(error).__name__}: {str(error)[:200]}"
                inputs = candidate
            if reason is None:
                return inputs
            failures.append(f"{described(inputs)}: {reason}")
    tried = "; ".join(failures[:1] + failures[-1:]) or "its forward takes neither images nor sounds"
    error = UnsupportedModelError(
        f"no inputs with images or sounds were found for {type(model).__name__} ({tried}). Give them as inputs=."
    )
    error.add_note("\n".join(failures))
    raise error


def _with_text(model: PreTrainedModel, candidate: Inputs, kind: str, taken: Mapping[str, Any], seed: int) -> Inputs:
    """A candidate with the text around it; runs the model to learn how long that is."""
    pixels = {name: value for name, value in candidate.items() if not name.startswith("_")}
    token = placeholder(model.config, kind)
    if token is None:
        token = placeholder(model.config, "video" if kind == "image" else "speech")
    if "input_ids" not in taken:
        return {**pixels, **_decoder(model, taken, seed)}
    counts = [0]
    if token is not None:
        counts = _counts(model, pixels, token, kind, taken, seed, candidate)
    error: Exception | None = None
    for count in counts:
        for padded in (True, False):
            inputs = {**pixels, **_text(model, token, count, kind, taken, seed, padded, candidate)}
            try:
                outputs_of(model, inputs)
            except FOREIGN_ERRORS as failed:
                error = failed
                continue
            return inputs
    raise error or ValueError("no text fits")


def _counts(
    model: PreTrainedModel,
    pixels: Inputs,
    token: int,
    kind: str,
    taken: Mapping[str, Any],
    seed: int,
    candidate: Inputs,
) -> list[int]:
    """How many tokens stand for one image: what the model's own tower says, then guesses."""
    inputs = {**pixels, **_text(model, token, 1, kind, taken, seed, False, candidate)}
    with _features(model) as found:
        try:
            outputs_of(model, inputs)
        except FOREIGN_ERRORS as error:
            if not found:
                raise
            del error
        else:
            found.append(ROWS)
    return list(dict.fromkeys(count // ROWS for count in reversed(found) if count and count % ROWS == 0)) or [1]


@contextmanager
def _features(model: PreTrainedModel) -> Iterator[list[int]]:
    """While open, the list fills with how many vectors the model's towers hand to the text."""
    found: list[int] = []
    hidden = model.get_input_embeddings().weight.shape[-1]
    owners = [(module, name) for module in model.modules() for name in READERS if hasattr(type(module), name)]

    def watched(method: Any, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "get_placeholder_mask":
                given = [value for key, value in kwargs.items() if key.endswith("features")] or list(args[2:])
                found.extend(_vectors(value, hidden) for value in given if value is not None)
                return method(*args, **kwargs)
            result = method(*args, **kwargs)
            read = getattr(result, "pooler_output", None)
            found.append(_vectors(result if read is None else read, hidden))
            return result

        return call

    for module, name in owners:
        module.__dict__[name] = watched(getattr(module, name), name)
    try:
        yield found
    finally:
        for module, name in owners:
            module.__dict__.pop(name, None)


def _vectors(value: Any, hidden: int) -> int:
    """How many vectors of the text's width are in features: a tensor, or one for each image."""
    if isinstance(value, Tensor):
        return value.numel() // hidden if value.numel() % hidden == 0 else 0
    if isinstance(value, (list, tuple)):
        return sum(_vectors(entry, hidden) for entry in value)
    return 0


def _text(
    model: PreTrainedModel,
    token: int | None,
    count: int,
    kind: str,
    taken: Mapping[str, Any],
    seed: int,
    padded: bool,
    candidate: Inputs,
) -> Inputs:
    """Token ids with ``count`` placeholders in each row, and everything that has the same length."""
    config = model.config.get_text_config()
    vocabulary = int(getattr(config, "vocab_size", None) or model.get_input_embeddings().weight.shape[0])
    generator = torch.Generator().manual_seed(seed)
    low = max(vocabulary // 2, 3)
    before = torch.randint(low, vocabulary - 1, (ROWS, BEFORE), generator=generator)
    after = torch.randint(low, vocabulary - 1, (ROWS, AFTER), generator=generator)
    starts = [_marker(model, f"{name}_{end}") for name, end in _openings(kind)]
    start = next((value for value in starts if value is not None), None)
    if start is not None and token is not None:
        before[:, -1] = start
    middle = torch.full((ROWS, count if token is not None else 0), token or 0)
    ids = torch.cat([before, middle, after], 1)
    mask = torch.ones_like(ids)
    if padded:
        ids, mask = _padded(ids, mask, model)
    inputs: Inputs = {"input_ids": ids, "attention_mask": mask}
    here = (ids == token).long() if token is not None else torch.zeros_like(ids)
    more = {
        "mm_token_type_ids": here * (1 if kind == "image" else 3),
        "moe_mm_token_type_ids": here,
        "token_type_ids": here,
        "image_embeds_position_mask": _leading(ids, candidate, model),
    }
    inputs |= {name: value for name, value in more.items() if name in taken}
    if "cross_attention_mask" in taken and "_tiles" in candidate:
        inputs["cross_attention_mask"] = torch.ones(ROWS, ids.shape[1], 1, int(candidate["_tiles"]), dtype=torch.long)
    if "image_attention_mask" in taken and "_image_attention" in candidate:
        inputs["image_attention_mask"] = torch.ones(ROWS, ids.shape[1], 1, dtype=torch.long)
    if "qformer_input_ids" in taken:
        inputs["qformer_input_ids"] = torch.randint(low, vocabulary - 1, (ROWS, 5), generator=generator)
    if "bbox" in taken:
        inputs["bbox"] = torch.rand(ROWS, ids.shape[1], 4, generator=generator).sort(-1).values
    inputs |= _decoder(model, taken, seed)
    return inputs


def _openings(kind: str) -> list[tuple[str, str]]:
    """Names of the token that comes before an image or a sound."""
    names = ("vision_start", "image_start", "boi", "im_start") if kind == "image" else ("audio_start", "boa")
    return [(name, end) for name in names for end in ("token_id", "token_index", "id")]


def _marker(model: PreTrainedModel, name: str) -> int | None:
    value = getattr(model.config, name, None)
    return value if type(value) is int else None


def _padded(ids: Tensor, mask: Tensor, model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """The first row padded by two on the left, the second with two more tokens of text there."""
    pad = getattr(model.config.get_text_config(), "pad_token_id", None)
    left = ids[:, :1].expand(-1, 2).clone()
    left[0] = pad if type(pad) is int and pad >= 0 else 0
    front = torch.ones_like(left)
    front[0] = 0
    return torch.cat([left, ids], 1), torch.cat([front, mask], 1)


def _leading(ids: Tensor, candidate: Inputs, model: PreTrainedModel) -> Tensor:
    """A mask of the places after the first one, as many as the model has queries for an image."""
    many = getattr(model.config, "latent_query_num", 1)
    places = torch.arange(ids.shape[1])
    return ((places >= 1) & (places < 1 + many)).expand_as(ids).clone()


def _decoder(model: PreTrainedModel, taken: Mapping[str, Any], seed: int) -> Inputs:
    """Token ids for a decoder, if the class has one."""
    if "decoder_input_ids" not in taken or not getattr(model.config, "is_encoder_decoder", False):
        return {}
    config = model.config.get_text_config(decoder=True)
    vocabulary = int(getattr(config, "vocab_size", None) or 32)
    generator = torch.Generator().manual_seed(seed + 1)
    return {
        "decoder_input_ids": torch.randint(max(vocabulary // 2, 3), vocabulary - 1, (ROWS, 7), generator=generator)
    }
