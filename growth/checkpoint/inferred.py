"""`infer_declaration`: the declaration that a model grows by where nobody wrote one."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from torch import nn
from transformers import CONFIG_MAPPING, PreTrainedConfig

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.architectures.registry import is_declared
from growth.errors import UnsupportedModelError, shown
from growth.hf.catalogue import Description, describe, describe_inferred
from growth.hf.configs import Config
from growth.hf.custom_modules import raw_config
from growth.hf.model_classes import class_is_guessed, class_of, class_with_a_head
from growth.hf.own_modules import OwnWrapper
from growth.hf.paths import local_path
from growth.infer.infer import infer
from growth.plan.other_model import config_from
from growth.training.stock import as_stock

Source = str | os.PathLike[str] | PreTrainedConfig | Mapping[str, Any] | nn.Module


def infer_declaration(
    source: Source,
    *,
    towers: Collection[str] = ("text",),
    config: Any = None,
    build: Callable[[Any], nn.Module] | None = None,
    inputs: Any = None,
) -> Architecture:
    """The declaration of a model, found on a miniature of it: as `growth.widen` finds it where nobody
    wrote one. It reads no weights.

    Args:
        source: a folder, a hub id, a ``config.json``, a config, a ``model_type`` of transformers (its
            class's default config), or a model in memory, which may be a module of your own.
        towers: of a model of several, which ones grow (`growth.widen`).
        config, build, inputs: of a module of your own, as in `growth.widen`.

    Returns:
        The declaration. It covers this config and this class. Print it with
        `growth.architectures.as_python`, edit it, and make it known with `growth.register`.

    Raises:
        UnsupportedModelError: naming the operation, the module or the tensor that could not be
            explained.

    Example:
        >>> print(growth.architectures.as_python(growth.infer_declaration("qwen3_next")))
    """
    if isinstance(source, nn.Module):
        stock = as_stock(source, config, build, inputs)
        if isinstance(stock, OwnWrapper):
            found = architectures.find(type(stock).config_class.model_type)
            return replace(found, model_type=type(stock).__name__)
        written = {**stock.config.to_dict(), "architectures": [type(stock).__name__]}
        return infer(written, type(stock), towers)
    if any(value is not None for value in (config, build, inputs)):
        raise UnsupportedModelError(
            f"config=, build= and inputs= say how a module in memory is built and run, and {shown(source)} is none. "
            "Leave them out, or pass the module."
        )
    raw = source_config(source)
    return infer(raw, class_of(raw), towers)


def source_config(source: str | os.PathLike[str] | PreTrainedConfig | Mapping[str, Any]) -> Config:
    """The config of a folder, a hub id, a ``config.json``, a config, or a ``model_type``. Where it
    names no class, it gets the one with a head that transformers lists first.

    Raises:
        GrowthError: if there is no such config.
    """
    if isinstance(source, str) and source in CONFIG_MAPPING and not os.path.exists(local_path(source)):
        raw: Mapping[str, Any] = {"model_type": source}
    else:
        known = None if isinstance(source, PreTrainedConfig) else raw_config(source)
        raw = config_from(known or source)
    config = Config(raw)
    if class_is_guessed(config) and (name := class_with_a_head(str(config.parsed.model_type))) is not None:
        return Config({**config, "architectures": [name]})
    return config


def described(name: str) -> tuple[Architecture, Description]:
    """A declaration, and all of it in words: the one that a model type has, or one that is inferred.

    Args:
        name: a ``model_type``, a folder, a hub id, or a ``config.json``.

    Raises:
        GrowthError: if there is no such thing, or none can be inferred.
    """
    if is_declared(name) or _is_no_path(name):
        return architectures.find(name), describe(name)
    config = source_config(name)
    model_type = str(config.parsed.model_type)
    if is_declared(model_type):
        return architectures.find(model_type), describe(model_type)
    found = infer(config, class_of(config))
    return found, describe_inferred(found, config)


def _is_no_path(name: str) -> bool:
    """Whether a word is neither a model type of transformers, nor a folder or file, nor a hub id."""
    return name not in CONFIG_MAPPING and "/" not in name and not os.path.exists(local_path(name))
