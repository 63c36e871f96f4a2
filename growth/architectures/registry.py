"""Which declaration belongs to which ``model_type``.

Every `Architecture` that a file in `growth.architectures.families` binds to a public name is found
by its ``model_type``. `growth.register` adds declarations from outside.
"""

from __future__ import annotations

import pkgutil
from difflib import get_close_matches
from functools import cache
from importlib import import_module

from growth.architectures import families
from growth.architectures.architecture import Architecture
from growth.errors import UnsupportedModelError

_REGISTRY: dict[str, Architecture] = {}
"""Declarations that the caller added, by ``model_type``. They come before the families."""


@cache
def declared_families() -> dict[str, Architecture]:
    """The declarations in `growth.architectures.families`, by ``model_type``."""
    modules = [import_module(f"{families.__name__}.{found.name}") for found in pkgutil.iter_modules(families.__path__)]
    public = [value for module in modules for name, value in vars(module).items() if not name.startswith("_")]
    return {value.model_type: value for value in public if isinstance(value, Architecture)}


UNLISTED = "own/"
"""How the ``model_type`` of one model in memory begins, which no file has."""

_UNLISTED: dict[str, Architecture] = {}
"""Declarations for one model in memory, by ``model_type``."""


def add(architecture: Architecture, *, listed: bool = True) -> None:
    """Make a declaration known under its ``model_type``; a later one replaces an earlier one.

    Args:
        architecture: the declaration.
        listed: False for that of one model in memory: it is found, and not offered for others.
    """
    (_REGISTRY if listed else _UNLISTED)[architecture.model_type] = architecture


def is_declared(model_type: object) -> bool:
    """Whether `find` has a declaration for a ``model_type``."""
    return isinstance(model_type, str) and (model_type in _UNLISTED or model_type in known())


def find(model_type: str) -> Architecture:
    """The declaration for a ``model_type``.

    Raises:
        UnsupportedModelError: if there is none.

    Example:
        >>> find("llama").rotary
        True
    """
    tables = (_REGISTRY, _UNLISTED, declared_families())
    architecture = next((table[model_type] for table in tables if model_type in table), None)
    if architecture is None:
        near = get_close_matches(model_type.lower(), known(), 3, 0.6)
        hint = f"Did you mean {' or '.join(near)}?" if near else "`grow architectures` lists the known ones."
        raise UnsupportedModelError(f"no architecture is declared for model_type '{model_type}'. {hint}")
    return architecture


def known() -> list[str]:
    """Every declared ``model_type``, sorted, without those of models in memory."""
    return sorted({*_REGISTRY, *declared_families()})
