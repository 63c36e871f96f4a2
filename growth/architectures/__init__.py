"""One declaration per family, found by ``model_type``."""

from __future__ import annotations

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


for _architecture in (BERT, GPT2, LLAMA, MISTRAL, MT5, QWEN2, ROBERTA, T5):
    register(_architecture)
