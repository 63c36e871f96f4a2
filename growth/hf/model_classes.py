"""Model classes: the one a config names, and all those of a ``model_type``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import transformers
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import model_type_to_module_name

from growth import architectures
from growth.architectures.registry import is_declared
from growth.arguments import meant
from growth.errors import FOREIGN_ERRORS, UnsupportedModelError, shown
from growth.hf.configs import parse
from growth.hf.custom_modules import custom_class
from growth.hf.own_modules import own_class


def class_of(raw: Mapping[str, Any]) -> type[PreTrainedModel]:
    """The model class a config names in ``architectures``; where it names none, the class of
    ``AutoModel``, which has no head (`class_is_guessed`).

    Raises:
        UnsupportedModelError: if ``architectures`` is not a list of names, or names no class of
            this transformers, or one of another ``model_type``.

    Example:
        >>> class_of({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
        <class 'transformers.models.llama.modeling_llama.LlamaForCausalLM'>
        >>> class_of({"model_type": "llama"})
        <class 'transformers.models.llama.modeling_llama.LlamaModel'>
    """
    names = raw.get("architectures") or []
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise UnsupportedModelError(
            f"'architectures' in the config is {names!r}. Use a list with the name of one model class."
        )
    if (own := _module_class(str(raw.get("model_type")), names)) is not None:
        return own
    if not names:
        return _plain_class(parse(raw))
    if is_declared(raw.get("model_type")):
        names = [architectures.find(str(raw["model_type"])).old_classes.get(names[0], names[0])]
    return _stock_class(names[0], parse(raw))


def _plain_class(parsed: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class of ``AutoModel``."""
    try:
        plain: type[PreTrainedModel] = AutoModel._model_mapping[type(parsed)]  # type: ignore[assignment]
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"the config names no class in 'architectures', and a '{parsed.model_type}' has no plain one. Name the "
            "class that was saved there."
        ) from error
    return plain


def _stock_class(name: str, parsed: PreTrainedConfig) -> type[PreTrainedModel]:
    """The class of that name, if it is one of the config's ``model_type``."""
    try:
        found = getattr(transformers, name, None)
    except FOREIGN_ERRORS:  # a part of transformers that needs what is not installed
        found = None
    listed = _listed(parsed.model_type)
    alike = meant(name, listed)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        known = (
            f"has no model class {shown(name)}" if found is None else f"has {shown(name)}, but it is no model class"
        )
        raise UnsupportedModelError(
            f"transformers {transformers.__version__} {known}; the config names it in 'architectures'{alike}. "
            "Check the spelling or upgrade transformers."
        )
    wanted: Any = found.config_class
    if isinstance(wanted, type) and not isinstance(parsed, wanted) and name not in listed:
        raise UnsupportedModelError(
            f"'architectures' in the config names {name}, a class of model_type "
            f"'{getattr(wanted, 'model_type', '')}', but the config's own is '{parsed.model_type}', by which "
            f"transformers chooses the class{alike}. Correct the one that is wrong."
        )
    return found


def class_is_guessed(raw: Mapping[str, Any]) -> bool:
    """Whether a config names no class in ``architectures``, so that `class_of` takes the model
    without a head. A registered ``model_type`` has one class only, which is no guess."""
    return not raw.get("architectures") and _module_class(str(raw.get("model_type")), []) is None


HEADS = ("CAUSAL_LM", "SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MASKED_LM", "SPEECH_SEQ_2_SEQ")
"""Kinds of heads in transformers' auto classes, those that most people train first."""


def class_with_a_head(model_type: str) -> str | None:
    """The name of the class of a ``model_type`` that has a head; None if there is none.

    Example:
        >>> class_with_a_head("llama"), class_with_a_head("t5"), class_with_a_head("vit")
        ('LlamaForCausalLM', 'T5ForConditionalGeneration', None)
    """
    for kind in HEADS:
        found = getattr(modeling_auto, f"MODEL_FOR_{kind}_MAPPING_NAMES", {}).get(model_type)
        if found:
            return found if isinstance(found, str) else str(found[0])
    return None


def _module_class(model_type: str, names: Sequence[str]) -> type[PreTrainedModel] | None:
    """The wrapper class of a module, registered or not; None for a ``model_type`` of transformers."""
    return custom_class(model_type, names) or own_class(model_type)


def classes(model_type: str) -> list[str]:
    """The names of the model classes of a ``model_type`` that can be grown, sorted.

    They are those of transformers' auto classes and those the declaration adds, without those it
    excludes; for a registered module, its one class.

    Raises:
        UnsupportedModelError: if the ``model_type`` is not declared.
    """
    own = architectures.find(model_type).module_class
    if own is not None:
        return [own.__name__]
    names = _listed(model_type) | {*architectures.find(model_type).classes}
    # Some auto classes list a class of another family; it is not in this one's package.
    package = import_module(f"transformers.models.{model_type_to_module_name(model_type)}")
    return sorted((names - architectures.find(model_type).without.keys()) & set(dir(package)))


def _listed(model_type: str) -> set[str]:
    """The names of the classes of a ``model_type`` in transformers' auto classes."""
    tables = [
        getattr(modeling_auto, name)
        for name in dir(modeling_auto)
        if name.startswith("MODEL_") and name.endswith("_MAPPING_NAMES")
    ]
    listed = [table[model_type] for table in tables if model_type in table]
    return {name for entry in listed for name in ([entry] if isinstance(entry, str) else entry)}
