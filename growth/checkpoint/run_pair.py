"""Running two models, one at a time, on the same tokens."""

from __future__ import annotations

import copy
import gc
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel

from growth.errors import FOREIGN_ERRORS, CheckpointError
from growth.hf.configs import Config, parse
from growth.hf.custom_modules import as_transformers
from growth.hf.dtypes import FLOATS, dtype_name
from growth.hf.expected_tensors import inventory
from growth.hf.fitting import fitted
from growth.hf.model_classes import class_of
from growth.hf.own_inputs import LENGTHS, moved
from growth.hf.own_modules import OwnWrapper, wrapped_again
from growth.hf.reader import open_checkpoint, resolve
from growth.infer.declaration import declaration
from growth.plan.options import Options
from growth.proof.class_inputs import Inputs, class_inputs
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import most_tokens
from growth.proof.outputs import Outputs, forward

EXCERPT = Path(__file__).parent.parent / "assets" / "excerpt.txt"
"""The text that is read by default."""


ROWS = 8
"""Rows of the inputs of a module of the caller's, where it may have any number."""


SEQUENCE = 128
"""Tokens per sequence, at most."""


Model = str | os.PathLike[str] | PreTrainedModel
"""A folder, a hub id, or a model in memory."""


def as_model(model: Model | nn.Module) -> Model:
    """A module of a registered class, or one that was grown or grew, as a transformers model that
    shares its weights; anything else as it is.

    Raises:
        CheckpointError: a module of another class.
    """
    if not isinstance(model, nn.Module) or isinstance(model, PreTrainedModel):
        return model
    if (own := wrapped_again(model)) is not None:
        return own
    found = as_transformers(model)
    if found is None:
        raise CheckpointError(
            f"{type(model).__name__} is neither a transformers model nor of a registered class. Unwrap it, or "
            "declare it with growth.register."
        )
    return found


def describe(model: Model) -> tuple[Config, type[PreTrainedModel], torch.dtype]:
    """(config, class, the dtype of most weights)."""
    if isinstance(model, PreTrainedModel):
        return Config(model.config.to_dict()), type(model), model.dtype
    checkpoint = open_checkpoint(model)
    floats = [dtype for dtype in checkpoint.dtypes.values() if dtype in FLOATS]
    return checkpoint.config, class_of(checkpoint.config), max(set(floats), key=floats.count)


def text_inputs(
    a: Model, raw: Mapping[str, Any], kind: type[PreTrainedModel], text: str | None, tokens: int
) -> tuple[Inputs, bool]:
    """The inputs of a model class that reads a text, with ``labels`` if it predicts tokens.

    Args:
        a: the source, whose tokenizer is used.
        raw, kind: its config and class.
        text: the text; None for the excerpt.
        tokens: number of tokens, about.

    Returns:
        The inputs, each ``[sequences, tokens per sequence]`` where it is of tokens, and whether the
        tokens are text; without a tokenizer they are random. A module of the caller's has the inputs
        that it grew with.
    """
    if isinstance(a, OwnWrapper):
        return a.draw(batch=ROWS, length=LENGTHS[0], seed=0), False
    ids, is_text = _tokens(a, raw, text, tokens)
    inputs = class_inputs(kind, parse(raw).to_dict(), ids, torch.ones_like(ids))
    name = kind.__name__
    if name.endswith("ForConditionalGeneration"):
        inputs["labels"] = ids
    elif name.endswith(("ForMaskedLM", "ForPreTraining")):
        masked = torch.arange(ids.numel()).reshape(ids.shape) % 7 == 3
        inputs["labels"] = ids.masked_fill(~masked, -100)
        inputs["input_ids"] = ids.masked_fill(masked, _mask_token(a))
    elif name.endswith(("LMHeadModel", "ForCausalLM")):
        inputs["labels"] = torch.cat([ids[:, 1:], torch.full((len(ids), 1), -100)], dim=1)
    return inputs, is_text


def _tokens(a: Model, raw: Mapping[str, Any], text: str | None, tokens: int) -> tuple[Tensor, bool]:
    """Token ids ``[sequences, tokens per sequence]``, and whether they are text."""
    read = parse(raw).get_text_config()
    length = min(SEQUENCE, tokens, most_tokens(parse(raw)))
    count = max(1, tokens // length)
    vocabulary = int(getattr(read, "vocab_size", None) or 8)
    ids: list[int] = []
    if not isinstance(a, PreTrainedModel) and (tokenizer := _tokenizer(resolve(a))) is not None:
        passage = (text if text is not None else EXCERPT.read_text(encoding="utf-8"))[: 40 * tokens]
        ids = [
            token
            for token in tokenizer(passage, add_special_tokens=False, verbose=False)["input_ids"]
            if token < vocabulary
        ]
    is_text = len(ids) >= 2
    if not is_text:
        ids = torch.randint(
            min(5, vocabulary - 1), vocabulary, (count * length,), generator=torch.Generator().manual_seed(0)
        ).tolist()
    if len(ids) < count * length:
        count = max(1, len(ids) // length)
        length = min(length, len(ids))
    return torch.tensor(ids[: count * length]).reshape(count, length), is_text


def _tokenizer(folder: Path) -> Any:
    if not any(
        (folder / name).is_file()
        for name in ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.txt", "vocab.json")
    ):
        return None
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)  # which is not asked for either
    except (OSError, ValueError, KeyError, TypeError, ImportError):
        return None


def _mask_token(a: Model) -> int:
    tokenizer = None if isinstance(a, PreTrainedModel) else _tokenizer(resolve(a))
    return int(getattr(tokenizer, "mask_token_id", None) or 0)


def run_model(
    model: Model, dtype: torch.dtype, device: torch.device, inputs: Mapping[str, Tensor], exact: bool = False
) -> Outputs:
    """All outputs of a model on some inputs, one sequence at a time, on the CPU.

    Args:
        model: it is loaded for this, or copied, and freed afterwards.
        dtype, device: to run in and on.
        inputs: of `text_inputs`; labels are not passed on.
        exact: run under `growth.proof.float64.exact_arithmetic`, where model code that casts to
            float32 stays in float64.
    """
    name = type(model).__name__ if isinstance(model, PreTrainedModel) else str(model)
    collected: dict[str, list[Tensor]] = {}
    try:
        with torch.random.fork_rng(devices=[]):
            loaded = copy.deepcopy(model) if isinstance(model, PreTrainedModel) else _load(model, dtype)
            with exact_arithmetic() if exact else nullcontext():
                for outputs in _run(loaded, dtype, device, inputs):
                    for field, value in outputs.items():
                        collected.setdefault(field, []).append(value.cpu())
    except FOREIGN_ERRORS as error:
        said = " ".join(str(error).split())[:200].rstrip(".")
        raise CheckpointError(
            f"transformers cannot run {name} in {dtype_name(dtype)} ({type(error).__name__}: {said}). Check its "
            "config.json, or name another dtype or device."
        ) from error
    del loaded
    gc.collect()
    return {name: torch.cat(values) for name, values in collected.items()}


def _run(
    model: PreTrainedModel, dtype: torch.dtype, device: torch.device, inputs: Mapping[str, Tensor]
) -> Iterator[Outputs]:
    """The outputs for one sequence after another. Changes the model."""
    model = model.to(device).eval()  # type: ignore[arg-type]
    model._apply(lambda value: value.to(dtype) if value.is_floating_point() else value)
    # The fused kernels have no float64, and none for sizes that are no multiple of 16 bytes.
    model.config._experts_implementation = "eager"
    for part in model.modules():
        if isinstance(part, PreTrainedModel):  # some classes read the fields of their parts' outputs
            part.config.return_dict = True
    if isinstance(model, OwnWrapper):
        yield forward(model, moved(inputs, device, dtype))
        return
    passed = {
        name: value.to(device, dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
        if name != "labels"
    }
    for row in range(len(next(iter(passed.values())))):
        yield forward(model, {key: entry[row : row + 1] for key, entry in passed.items()})


def _load(path: str | os.PathLike[str], dtype: torch.dtype) -> PreTrainedModel:
    """The model in a folder. Raises CheckpointError if transformers would fill missing weights with
    random ones."""
    checkpoint = fitted(open_checkpoint(path))
    kind, folder = class_of(checkpoint.config), checkpoint.folder
    architecture = declaration(checkpoint.config, Options()).base.at(parse(checkpoint.config))
    names = {f"^{re.escape(old)}$": new for new, old in checkpoint.stored_as.items()}
    renamed: dict[str, Any] = {"key_mapping": names} if names else {}
    inventory(checkpoint.config, checkpoint.shapes, architecture, kind)  # refuses what would be filled at random
    loaded: Any = kind.from_pretrained(folder, dtype=dtype, output_loading_info=True, **renamed)
    model: PreTrainedModel = loaded[0]
    info: dict[str, Any] = loaded[1]
    lacking = {name: architecture.canonical(name) for name in info["missing_keys"]}
    made = (architecture.is_optional, architecture.is_computed, architecture.is_buffer)
    if missing := sorted(name for name, own in lacking.items() if not any(by_itself(own) for by_itself in made)):
        raise CheckpointError(
            f"{folder} lacks {len(missing)} tensors of {kind.__name__}, for example '{missing[0]}'. Check "
            "'architectures' in its config.json."
        )
    for name, parameter in model.named_parameters():
        if name in lacking and parameter.requires_grad:  # a pooler that the file lacks is another one in every model
            torch.nn.init.zeros_(parameter)
    return model
