"""The sizes of a model that nobody declared: which config fields grow with its width.

Names say it where they are known (`growth.infer.meanings`). The others are asked of the class,
which is built on the meta device, without memory, at twice their value (`growth.infer.probe`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel

from growth.architectures.sections import joined
from growth.architectures.sizes import Grows, Size
from growth.hf.configs import Config
from growth.hf.nested import nested_sections, plain_fields
from growth.hf.own_modules import OwnWrapper
from growth.infer.fields import size_in, split, takes_one, whole_numbers
from growth.infer.groups import LEVELS, Group, groups
from growth.infer.meanings import kind, standard_name
from growth.infer.own_fields import inner_fields, own_kind
from growth.infer.probe import unknown_kind
from growth.infer.proportions import Field


def inferred_sizes(config: Mapping[str, Any], model_class: type[PreTrainedModel]) -> dict[str, Size]:
    """The config fields of a model that grow, as sizes.

    Args:
        config: of the model.
        model_class: that is built from it.

    Returns:
        Standard name (with the path of its section) -> size, with a small value for a miniature.

    Example:
        >>> from transformers import ApertusForCausalLM
        >>> sizes = inferred_sizes({"model_type": "apertus"}, ApertusForCausalLM)
        >>> {name: size.grows for name, size in sizes.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'hidden_size': 'width', 'intermediate_size': 'width', 'num_attention_heads': 'heads',
         'num_key_value_heads': 'heads'}
    """
    fields = growing(config, model_class)
    return sizes_of(fields, groups(fields, kept(config, fields), LEVELS[0]))


def growing(config: Mapping[str, Any], model_class: type[PreTrainedModel]) -> list[Field]:
    """The fields that grow, in the order in which the config has them.

    Example:
        >>> from transformers import LlamaForCausalLM
        >>> [field.path for field in growing({"model_type": "llama"}, LlamaForCausalLM)][:2]
        ['hidden_size', 'intermediate_size']
    """
    base = Config.of(config)
    if "growing" not in base.derived:
        base.derived["growing"] = _growing(base, model_class)
    return list(base.derived["growing"])


def _growing(config: Config, model_class: type[PreTrainedModel]) -> list[Field]:
    parsed, own = config.parsed, issubclass(model_class, OwnWrapper)
    found = []
    for path, section in nested_sections(parsed).items():
        here = plain_fields(section)
        for name, said in here.items():
            value = size_in(name, said)
            if type(value) is not int or value < 1 or (value is not said and not takes_one(section, name)):
                continue
            means = own_kind(name, here) if own else kind(name, here)
            at = joined(path, name)
            if means == "unknown" and value > 1:
                means = unknown_kind(config, model_class, at)
            if name == "projection_dim":
                means = "kept"  # of what the model returns
            if means not in ("kept", "unknown"):
                found.append(Field(at, value, means))
    return inner_fields(config, model_class, found) if issubclass(model_class, OwnWrapper) else found


def kept(config: Mapping[str, Any], fields: Sequence[Field]) -> dict[str, int]:
    """Path -> value of the whole numbers that do not grow.

    Example:
        >>> kept({"model_type": "llama"}, [])["hidden_size"]
        4096
    """
    paths = {field.path for field in fields}
    return {path: value for path, value in whole_numbers(Config.of(config).parsed).items() if path not in paths}


def sizes_of(
    fields: Sequence[Field], found: Sequence[Group], fixed: Mapping[str, int] | None = None
) -> dict[str, Size]:
    """Sizes for the fields that grow, and for those that must be written so that they do not.

    Args:
        fields: that grow.
        found: their groups, with small values.
        fixed: path -> value of fields that would follow from others, and are to stay.

    Example:
        >>> sizes = sizes_of([Field("n_embd", 768, "hidden")], [Group({"n_embd": 40}, "hidden")], {"n_inner": 9})
        >>> {name: (size.grows, size.small) for name, size in sizes.items()}
        {'hidden_size': ('width', 40), 'intermediate_size': ('never', 9)}
    """
    small = {path: value for group in found for path, value in group.small.items()}
    sizes: dict[str, Size] = {}
    for field in fields:
        grows: Grows = "heads" if field.kind == "heads" else "width"
        sizes[_name(field.path, sizes)] = Size(field.path, grows, small=small[field.path])
    for path, value in (fixed or {}).items():
        sizes[_name(path, sizes)] = Size(path, "never", small=value)
    return sizes


def _name(path: str, taken: Mapping[str, Size]) -> str:
    section, name = split(path)
    prefix = f"{section}." if section else ""
    return prefix + standard_name(name, {other.removeprefix(prefix) for other in taken if other.startswith(prefix)})
