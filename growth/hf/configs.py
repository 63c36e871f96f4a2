"""A ``config.json``, as JSON and as transformers parses it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PreTrainedConfig

from growth import architectures
from growth.arguments import meant
from growth.errors import FOREIGN_ERRORS, UnsupportedModelError, shown

Raw = dict[str, Any]
"""The JSON object of a ``config.json``."""


BUILT = {"layers": 1000, "n_layer": 1000, "experts": 10_000}
"""How the name of a config field that counts modules ends -> the most that are built. No published
model has more, and each takes milliseconds."""

PARSED = {**dict.fromkeys(BUILT, 10**6), "num_labels": 10**6}
"""The same, the most for which a config is parsed: classes list kinds of layers and names of labels."""


class Config(Mapping[str, Any]):
    """A ``config.json`` that transformers parses at most once.

    It is a read-only mapping of the JSON fields, and keeps the parsed config, so that one call of
    ``growth.widen`` parses the source's config once.

    Args:
        raw: the JSON object.

    Example:
        >>> config = Config({"model_type": "llama", "hidden_size": 64})
        >>> config["hidden_size"], config.parsed.hidden_size, config.parsed.num_attention_heads
        (64, 64, 32)
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = dict(raw)
        self.derived: dict[Any, Any] = {}
        """What was worked out from the config alone, kept by the functions that did."""

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Config:
        """``raw`` itself if it is a `Config`, so that it is not parsed again; else a new one."""
        return raw if isinstance(raw, Config) else cls(raw)

    @cached_property
    def parsed(self) -> PreTrainedConfig:
        """The config object of transformers. Do not change it, and do not build a model from it,
        which writes into its config: use `config_to_build`.

        Raises:
            UnsupportedModelError: for a missing or unknown model_type, remote code or values
                transformers rejects.
        """
        return _parse(self._raw)

    def __getitem__(self, name: str) -> Any:
        return self._raw[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __repr__(self) -> str:
        return f"Config({self._raw!r})"


def parse(raw: Mapping[str, Any]) -> PreTrainedConfig:
    """The config object of a config. Raises what `Config.parsed` does."""
    return raw.parsed if isinstance(raw, Config) else _parse(raw)


def config_to_build(raw: Mapping[str, Any]) -> PreTrainedConfig:
    """A copy of the config object, for a model to keep and to write into."""
    return copy.deepcopy(parse(raw))


def _parse(raw: Mapping[str, Any]) -> PreTrainedConfig:
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise UnsupportedModelError(
            'the config has no \'model_type\'. Add the one it was trained with, for example "model_type": "llama".'
        )
    if raw.get("auto_map"):
        raise UnsupportedModelError(
            "the config has 'auto_map', which names code that comes with the checkpoint, and such code is never "
            "executed. Remove 'auto_map' if the transformers class of the same model_type computes the same."
        )
    if quantised := raw.get("quantization_config"):
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, Mapping) else quantised
        raise UnsupportedModelError(
            f"the checkpoint is quantised ({method}), and parts of a quantised weight do not add up to it exactly. "
            "Widen the original and quantise the result."
        )
    if model_type not in CONFIG_MAPPING:
        named = raw.get("architectures")
        for name in filter(lambda name: isinstance(name, str), named if isinstance(named, list) else ()):
            for known in architectures.known():
                if (new := architectures.find(known).old_classes.get(name)) is not None:
                    raise UnsupportedModelError(
                        f"model_type '{model_type}' with {name} is what transformers calls '{known}' with {new}. Save "
                        "the model as that class; its config has other fields too."
                    )
        raise UnsupportedModelError(
            f"transformers {transformers.__version__} does not know model_type {shown(model_type)}"
            f"{meant(model_type, CONFIG_MAPPING.keys())}. Check the spelling, upgrade transformers, or declare it in "
            "Python with growth.register."
        )
    check_counts(raw, PARSED)
    scaling = raw.get("rope_scaling")
    if isinstance(scaling, Mapping) and "su" in (scaling.get("type"), scaling.get("rope_type")):
        raise UnsupportedModelError(
            f"the type of rope_scaling is 'su', the former name of 'longrope', which transformers "
            f"{transformers.__version__} does not read. Say 'longrope' in config.json."
        )
    try:
        # save_pretrained writes infinity as {"__float__": "Infinity"}, which plain JSON does not have
        fields = PreTrainedConfig._decode_special_floats(copy.deepcopy(dict(raw)))
        parsed = CONFIG_MAPPING[model_type].from_dict(fields)
    except (*FOREIGN_ERRORS, StrictDataclassError) as error:
        raise UnsupportedModelError(
            f"transformers cannot parse the config: {str(error)[:300].rstrip('.')}. Check config.json."
        ) from error
    return parsed


def check_counts(section: Mapping[str, Any], limits: Mapping[str, int] = BUILT, path: str = "") -> None:
    """Refuse a config, or a section of it, that counts more modules than can be built.

    Args:
        section: the config.
        limits: how the names of fields end -> the most that they may say.
        path: of the section, for messages.

    Raises:
        UnsupportedModelError: naming the field.

    Example:
        >>> check_counts({"num_hidden_layers": 32})
    """
    for name, value in section.items():
        if isinstance(value, Mapping):
            check_counts(value, limits, f"{path}{name}.")
        most = next((limits[end] for end in limits if f"_{name}".endswith(f"_{end}")), None)
        if most is not None and type(value) is int and not 0 <= value <= most:
            raise UnsupportedModelError(
                f"config field '{path}{name}' is {value}, but from 0 to {most} can be built. Check config.json."
            )


def check_alike(parsed: PreTrainedConfig) -> None:
    """Refuse a config, or a section of it, whose layers differ in their sizes: a declaration made by
    hand describes layers that are alike.

    Raises:
        UnsupportedModelError: naming the fields.
    """
    sections = (getattr(parsed, name, None) for name in parsed.sub_configs)
    for section in (parsed, *(section for section in sections if isinstance(section, PreTrainedConfig))):
        if getattr(section, "is_heterogeneous", False):  # since transformers 5.21
            differing = ", ".join(sorted(section.per_layer_attributes or ())) or "the parts they skip"
            raise UnsupportedModelError(
                f"the layers of this {section.model_type} differ in {differing} (per_layer_config), but a declaration "
                "describes layers that are alike. Choose a model whose layers are."
            )
