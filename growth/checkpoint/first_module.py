"""The first module of a sentence-transformers model: the transformer, of which it passes one output
on under a name.

Its config (``sentence_bert_config.json``) says which. Older ones say nothing, and mean the last
hidden state, as ``token_embeddings``, or the logits of a task that has some:

    {"transformer_task": "feature-extraction", "module_output_name": "sentence_embedding",
     "modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import transformers
from transformers import AutoModel, PreTrainedModel

from growth.algebra.axes import Space
from growth.algebra.maps import Map
from growth.errors import UnsupportedModelError
from growth.hf.companion_names import SENTENCE_CONFIGS
from growth.hf.config_json import read_json
from growth.hf.configs import parse
from growth.hf.source_files import SourceFiles
from growth.plan.plan import Plan

MODULES = "modules.json"
ALONE = f"Move {MODULES} elsewhere to widen the transformer alone."
TOKENS, SENTENCE = "token_embeddings", "sentence_embedding"

_FEATURES, _LOGITS = "feature-extraction", frozenset({"sequence-classification", "text-generation", "fill-mask"})
_KINDS = {"Transformer": _FEATURES, "MLMTransformer": "fill-mask"}
"""Classes of the first module -> the task that they have unless their config says another."""


@dataclass(frozen=True)
class Feature:
    """What the first module writes.

    Args:
        name: of the feature.
        space: that it ranges over; None for one that does not grow.
    """

    name: str
    space: Space | None


def written_feature(source: SourceFiles, plan: Plan, kind: str) -> Feature:
    """What the first module writes, by its config.

    Args:
        source: the files of the checkpoint.
        plan: how the transformer grows.
        kind: the name of the module's class.

    Raises:
        UnsupportedModelError: an output of which it is not known how it grows.
    """
    hidden = _output_spaces(plan)
    if hidden and not any(widened(plan.maps[space]) for space in hidden.values()):
        return Feature(TOKENS, None)
    name, config = _config(source)
    task = str(config.get("transformer_task", _KINDS.get(kind)))
    default = "logits" if task in _LOGITS else "last_hidden_state"
    modalities = config.get("modality_config", {"text": {"method": "forward", "method_output_name": default}})
    feature = config.get("module_output_name") if "modality_config" in config else TOKENS
    spaces: dict[str, Space | None] = {"logits": None} if task in _LOGITS else {}
    spaces |= hidden if task == _FEATURES else {}
    read = {_output(entry) for entry in modalities.values()} if isinstance(modalities, dict) else {""}
    found = {spaces[output] for output in read if output in spaces}
    if kind not in _KINDS or not isinstance(feature, str) or not read <= spaces.keys() or len(found) != 1:
        said = " and ".join(f"'{output}'" if output else "no single output of forward" for output in sorted(read))
        raise UnsupportedModelError(
            f"by {name or MODULES}, the first module ({kind}, task '{task}') passes on {said or 'nothing'} as "
            f"'{feature}', and how that grows is not known. {ALONE}"
        )
    return Feature(feature, found.pop())


def widened(grown: Map) -> bool:
    """Whether a space has other coordinates after growth."""
    return grown.m != grown.n or not bool((grown.write == 1).all())


def _config(source: SourceFiles) -> tuple[str, Mapping[str, Any]]:
    """The name and the content of the first module's config: the first that is there and says
    anything."""
    for name in SENTENCE_CONFIGS:
        path = source.folder / name
        if path.is_file():
            source.note(path)
            if config := read_json(path):
                return name, config if isinstance(config, dict) else {"modality_config": None}
    return "", {}


def _output(entry: Any) -> str:
    """The output of ``forward`` that an entry of a ``modality_config`` takes; empty for anything
    else."""
    if not isinstance(entry, dict) or entry.get("method") != "forward":
        return ""
    taken = entry.get("method_output_name")
    (name,) = taken if isinstance(taken, list) and len(taken) == 1 else (taken,)
    return name if isinstance(name, str) else ""


def _output_spaces(plan: Plan) -> dict[str, Space]:
    """Output field -> the space it ranges over, of the class that sentence-transformers loads: that of
    ``AutoModel``, or of an encoder-decoder its encoder."""
    plain: type[PreTrainedModel] = AutoModel._model_mapping[type(parse(plan.old))]  # type: ignore[assignment]
    encoder = f"{plain.__name__.removesuffix('Model')}EncoderModel"
    name = encoder if getattr(transformers, encoder, None) is not None else plain.__name__
    fields = ("last_hidden_state", "pooler_output")
    found = {field: plan.architecture.output_space(field, name) for field in fields}
    return {field: space for field, space in found.items() if space is not None and space in plan.maps}
