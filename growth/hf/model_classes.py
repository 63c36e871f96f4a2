"""Model classes: the one a config names, and all those of a ``model_type``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import transformers
from transformers import AutoModel, PreTrainedModel
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import model_type_to_module_name

from growth import architectures
from growth.errors import UnsupportedModelError
from growth.hf.configs import parse
from growth.hf.custom_modules import custom_class


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
    if (own := custom_class(str(raw.get("model_type")), names)) is not None:
        return own
    if not names:
        plain: type[PreTrainedModel] = AutoModel._model_mapping[type(parse(raw))]  # type: ignore[assignment]
        return plain
    if raw.get("model_type") in architectures.known():
        names = [architectures.find(str(raw["model_type"])).old_classes.get(names[0], names[0])]
    found = getattr(transformers, names[0], None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise UnsupportedModelError(
            f"transformers {transformers.__version__} has no model class '{names[0]}', which the config names in "
            "'architectures'. Check the spelling or upgrade transformers."
        )
    if (made_for := found.config_class) is not None and not isinstance(parse(raw), made_for):
        raise UnsupportedModelError(
            f"'architectures' in the config names {names[0]}, a class of model_type '{made_for.model_type}', but the "
            f"config's own is '{raw.get('model_type')}', by which transformers chooses the class. Correct the "
            "one that is wrong."
        )
    return found


def class_is_guessed(raw: Mapping[str, Any]) -> bool:
    """Whether a config names no class in ``architectures``, so that `class_of` takes the model
    without a head. A registered ``model_type`` has one class only, which is no guess."""
    return not raw.get("architectures") and custom_class(str(raw.get("model_type")), []) is None


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
    tables = [
        getattr(modeling_auto, name)
        for name in dir(modeling_auto)
        if name.startswith("MODEL_") and name.endswith("_MAPPING_NAMES")
    ]
    listed = [table[model_type] for table in tables if model_type in table]
    names = {name for entry in listed for name in ([entry] if isinstance(entry, str) else entry)} | {
        *architectures.find(model_type).classes
    }
    # Some auto classes list a class of another family; it is not in this one's package.
    package = import_module(f"transformers.models.{model_type_to_module_name(model_type)}")
    return sorted((names - architectures.find(model_type).without.keys()) & set(dir(package)))
