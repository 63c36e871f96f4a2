"""Inputs for a model of images or sounds and text: the text says where they are, and they matter.

Nothing but the class and its config is at hand: no processor, and nothing from the network. The
signature of ``forward`` says what a class takes, the config how large it is, and the model itself
how many tokens stand for an image: the number of features that its tower hands to the text."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from growth.errors import FOREIGN_ERRORS, UnsupportedModelError
from growth.proof.modal_check import outputs_of, why_ignored
from growth.proof.modal_text import TextAround
from growth.proof.pixels import ROWS, Inputs, described, image_candidates
from growth.proof.sounds import sound_candidates

READERS = ("get_image_features", "get_video_features", "get_audio_features", "get_placeholder_mask")
"""Methods of transformers' models that hand features of images and sounds to the text."""


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
        UnsupportedModelError: if there are none, saying what was tried first and last; its notes say
            what became of each.

    Example:
        >>> with exact_arithmetic():
        ...     model = build_exact(small_llava)
        ...     inputs = modal_inputs(model)
        >>> {name: list(value.shape) for name, value in inputs.items()}
        {'input_ids': [2, 27], 'attention_mask': [2, 27], 'pixel_values': [2, 3, 56, 56]}
    """
    taken = inspect.signature(type(model).forward).parameters
    failures: list[str] = []
    for kind in kinds:
        made = image_candidates if kind == "image" else sound_candidates
        for candidate in made(model.config, taken):
            inputs = candidate
            try:
                inputs = _with_text(model, candidate, TextAround(model, kind, frozenset(taken), candidate, seed))
                reason = why_ignored(model, inputs, {*candidate}, weights=weights)
            except FOREIGN_ERRORS as error:
                reason = f"{type(error).__name__}: {str(error)[:200]}"
            if reason is None:
                return inputs
            failures.append(f"{described(inputs)}: {reason}")
    tried = "; ".join(failures[:1] + failures[-1:]) or "its forward takes neither images nor sounds"
    refusal = UnsupportedModelError(
        f"no inputs with images or sounds were found for {type(model).__name__} ({tried}). Give them as inputs=."
    )
    refusal.add_note("\n".join(failures))
    raise refusal


def _with_text(model: PreTrainedModel, candidate: Inputs, text: TextAround) -> Inputs:
    """A candidate with the text around it. The model is run to learn how long that is, and whether it
    takes a row that is padded."""
    raw = {name: value for name, value in candidate.items() if not name.startswith("_")}
    if "input_ids" not in text.taken:
        return {**raw, **text.decoder()}
    counts = [0] if text.token is None else _counts(model, raw, text)
    failed: Exception | None = None
    for count in counts:
        for padded in (True, False):
            inputs = {**raw, **text.inputs(count, padded=padded)}
            try:
                outputs_of(model, inputs)
            except FOREIGN_ERRORS as error:
                failed = error
                continue
            return inputs
    raise failed or ValueError("no text fits")


def _counts(model: PreTrainedModel, raw: Inputs, text: TextAround) -> list[int]:
    """How many tokens may stand for one image: what the model's own tower says, the last first."""
    with _features(model) as found:
        try:
            outputs_of(model, {**raw, **text.inputs(1, padded=False)})
        except FOREIGN_ERRORS:
            if not found:
                raise
        else:
            found.append(ROWS)
    return list(dict.fromkeys(count // ROWS for count in reversed(found) if count and count % ROWS == 0)) or [1]


@contextmanager
def _features(model: PreTrainedModel) -> Iterator[list[int]]:
    """While open, the list fills with how many vectors the model's towers hand to the text."""
    found: list[int] = []
    hidden = embedding_width(model)
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


def embedding_width(model: PreTrainedModel) -> int:
    """How wide the text is that features are written into."""
    weight: Any = model.get_input_embeddings().weight
    return int(weight.shape[-1])


def _vectors(value: Any, hidden: int) -> int:
    """How many vectors of the text's width are in features: a tensor, or one for each image."""
    if isinstance(value, Tensor):
        return value.numel() // hidden if value.numel() % hidden == 0 else 0
    if isinstance(value, (list, tuple)):
        return sum(_vectors(entry, hidden) for entry in value)
    return 0
