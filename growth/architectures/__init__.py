"""One declaration per family, found by ``model_type``."""

from __future__ import annotations

import transformers
from transformers.models.auto import modeling_auto

from growth.architecture import Architecture
from growth.architectures.bert import BERT
from growth.architectures.gpt2 import GPT2
from growth.architectures.llama import LLAMA, MISTRAL, QWEN2
from growth.architectures.roberta import ROBERTA
from growth.architectures.t5 import MT5, T5
from growth.errors import UnsupportedModelError

_REGISTRY: dict[str, Architecture] = {}


def register(architecture: Architecture) -> Architecture:
    """Make a declaration known under its ``model_type``; a later one replaces an earlier one."""
    _REGISTRY[architecture.model_type] = architecture
    return architecture


def find(model_type: str) -> Architecture:
    """The declaration for a ``model_type``.

    Raises:
        UnsupportedModelError: if there is none.
    """
    if model_type not in _REGISTRY:
        raise UnsupportedModelError(f"no architecture is declared for model_type '{model_type}'. Known: {', '.join(known())}.")
    return _REGISTRY[model_type]


def known() -> list[str]:
    """Every declared ``model_type``, sorted."""
    return sorted(_REGISTRY)


def classes(model_type: str) -> list[str]:
    """The stock model classes of a ``model_type``, as transformers' auto classes know them."""
    tables = [getattr(modeling_auto, name) for name in dir(modeling_auto) if name.startswith("MODEL_") and name.endswith("_MAPPING_NAMES")]
    listed = [table[model_type] for table in tables if model_type in table]
    names = {name for entry in listed for name in ([entry] if isinstance(entry, str) else entry)}
    known_names = [name for name in sorted(names - find(model_type).without.keys()) if name in dir(transformers)]
    return [name for name in known_names if getattr(transformers, name).config_class.model_type == model_type]


for _architecture in (BERT, GPT2, LLAMA, MISTRAL, MT5, QWEN2, ROBERTA, T5):
    register(_architecture)
