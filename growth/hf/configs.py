"""A raw ``config.json`` as the config object of transformers."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PreTrainedConfig

from growth.errors import FOREIGN_ERRORS, UnsupportedModelError

Raw = dict[str, Any]
"""The JSON object of a ``config.json``."""


class Config(Mapping[str, Any]):
    """A ``config.json`` as it stands, which transformers parses at most once.

    It is the raw JSON object to everything that reads or edits fields, and carries the parsed config
    along, so that one call of ``growth.widen`` parses the source's config once.

    Args:
        raw: the JSON object.

    Example:
        >>> config = Config({"model_type": "llama", "hidden_size": 64})
        >>> config["hidden_size"], config.parsed.hidden_size, config.parsed.num_attention_heads
        (64, 64, 32)
    """

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = dict(raw)

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> Config:
        """``raw`` itself if it is a `Config` already, with what it has parsed."""
        return raw if isinstance(raw, Config) else cls(raw)

    @cached_property
    def parsed(self) -> PreTrainedConfig:
        """As transformers reads it. Shared: build a model from `config_to_build`, which copies it.

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
    """The config object of a raw config. Raises what `Config.parsed` does."""
    return raw.parsed if isinstance(raw, Config) else _parse(raw)


def config_to_build(raw: Mapping[str, Any]) -> PreTrainedConfig:
    """A copy of the config object, for a model to keep and to write into."""
    return copy.deepcopy(parse(raw))


def _parse(raw: Mapping[str, Any]) -> PreTrainedConfig:
    """The config object of a raw config.

    Raises:
        UnsupportedModelError: for a missing or unknown model_type, remote code or values
            transformers rejects.
    """
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise UnsupportedModelError(
            'the config has no \'model_type\'. Add the one it was trained with, for example "model_type": "llama".'
        )
    if raw.get("auto_map"):
        raise UnsupportedModelError(
            "the config has 'auto_map', code that comes with the checkpoint, and such code is never executed. "
            "Remove 'auto_map' if the stock class of the same model_type computes the same."
        )
    if quantised := raw.get("quantization_config"):
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, Mapping) else quantised
        raise UnsupportedModelError(
            f"the checkpoint is quantised ({method}); shares of rounded weights are not exact. Widen the original and "
            "quantise the result."
        )
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedModelError(
            f"transformers {transformers.__version__} does not know model_type '{model_type}'. Check the spelling, "
            "upgrade transformers, "
            "or declare it in Python with growth.register."
        )
    try:
        return CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(dict(raw)))
    except (*FOREIGN_ERRORS, StrictDataclassError) as error:
        raise UnsupportedModelError(
            f"transformers cannot parse the config: {str(error)[:300].rstrip('.')}. Check config.json."
        ) from error
