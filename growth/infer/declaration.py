"""Which declaration a model grows by: one made by hand, one that fits, or one inferred on its miniature."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from transformers import PreTrainedModel

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.architectures.registry import is_declared
from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.hf.configs import Config, check_alike
from growth.hf.expected_tensors import Shapes, expected_tensors
from growth.hf.model_classes import class_of
from growth.infer.infer import infer
from growth.infer.lookalike import look_alike, of_another
from growth.plan.declared import Declared
from growth.plan.options import Options


def declaration(raw: Mapping[str, Any], options: Options, shapes: Shapes | None = None) -> Declared:
    """The declaration for a config: that of its ``model_type``; or one that fits and that the twin confirms; or
    one that is inferred.

    Args:
        raw: the config.
        options: the caller's.
        shapes: tensor name -> shape, of the file; by default those of the config's class.

    Raises:
        UnsupportedModelError: if the ``model_type`` is not declared and none can be inferred.
        IllegalGrowthError: for options that the only declaration refuses.

    Example:
        >>> raw = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
        >>> found = declaration(raw, Options())
        >>> found.inferred, found.base.model_type
        (False, 'llama')
    """
    config = Config.of(raw)
    model_type = str(config.parsed.model_type)
    if is_declared(model_type):
        check_alike(config.parsed)
        return Declared(architectures.find(model_type))
    undeclared = f"no architecture is declared for model_type '{model_type}'"
    model_class = class_of(config)
    expected = expected_tensors(config, model_class)[0]
    if shapes is not None and len(shapes.keys() & expected.keys()) < len(shapes) / 2:
        raise UnsupportedModelError(f"{undeclared}, and {of_another(config, model_class, shapes, options.vouch)}")
    if not options.towers and (found := look_alike(config, options, model_class, expected)) is not None:
        return found
    _check_options(model_type, options)
    towers = options.towers or ("text",)
    written = json.dumps(dict(config), sort_keys=True)
    try:
        return Declared(_inferred(written, model_class, towers), inferred=True)  # type: ignore[arg-type]
    except UnsupportedModelError as error:
        refusal = UnsupportedModelError(f"{undeclared}, and {error}")
        for note in getattr(error, "__notes__", ()):
            refusal.add_note(note)
        raise refusal from error


def _check_options(model_type: str, options: Options) -> None:
    """Refuse what no inferred declaration offers, before anything is inferred."""
    for name, allowed in (("attention", "heads"), ("scaling", "unit"), ("rope", "slots")):
        if (value := getattr(options, name)) != allowed:
            raise IllegalGrowthError(
                f"{name} {value} takes a declaration made by hand, and model_type '{model_type}' has none: what is "
                f"inferred grows by more heads, in copies of scale 1. Leave {name} at '{allowed}', or declare the "
                "model with growth.register."
            )


@lru_cache(maxsize=64)
def _inferred(config: str, model_class: type[PreTrainedModel], towers: tuple[str, ...]) -> Architecture:
    return infer(json.loads(config), model_class, towers)
