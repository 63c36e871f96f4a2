"""What kind of model an undeclared one is, said of its config and its tensors alone: made of several
models, recurrent, convolutional, in stages.

No declaration describes such a model as a whole, so that its kind says more than the tensors that
do not fit the nearest one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedConfig

from growth import architectures
from growth.hf.configs import Config
from growth.hf.expected_tensors import Shapes

CONVOLUTIONAL = 0.25
"""The part of a model's matrices that are convolutions, from which on it is called so."""

_RECURRENT = re.compile(r"(^|[._])(A_log|dt_bias|time_decay|rg_lru|ssm|linear_attn)([._]|$)")
"""Parts of parameter names that only state-space models, linear attention and other recurrences
have."""

_ATTENTION = re.compile(r"(^|[._])(q_proj|qkv|qkv_proj|query|q_a_proj|query_key_value|queries_keys_values)([._]|$)")


def pattern(name: str) -> str:
    """A parameter's name with ``*`` for the numbers of layers.

    Example:
        >>> pattern("layers.11.mlp.up_proj.weight")
        'layers.*.mlp.up_proj.weight'
    """
    return re.sub(r"(?<=[.])[0-9]+(?=[.])", "*", name)


def parts(config: Config) -> dict[str, str]:
    """Section of the config -> the ``model_type`` of the model that it describes.

    Example:
        >>> parts(Config({"model_type": "gemma3"}))
        {'text_config': 'gemma3_text', 'vision_config': 'siglip_vision_model'}
    """
    sections = {name: getattr(config.parsed, name, None) for name in sorted(config.parsed.sub_configs)}
    return {
        name: section.model_type
        for name, section in sections.items()
        if isinstance(section, PreTrainedConfig) and section.model_type
    }


def of_parts(sections: Mapping[str, str]) -> str:
    """What a model of several parts is, of which types they are, and how to widen one of them.

    Args:
        sections: as `parts` returns them.
    """
    said = [
        f"its {name.removesuffix('_config').replace('_', ' ')} part is of type '{kind}', which "
        f"{'is' if kind in architectures.known() else 'is not'} declared"
        for name, kind in sections.items()
    ]
    step = "`grow architectures` lists what is declared."
    if sections.get("text_config") in architectures.known():
        step = (
            "To widen the text part alone, load the model with transformers, save the part with "
            "model.get_decoder().save_pretrained(folder), and widen that."
        )
    elif any(kind in architectures.known() for kind in sections.values()):
        step = "To widen a declared part alone, load the model with transformers, save the part, and widen that."
    return f"{_label(sections)}, which is not grown as a whole; {'; '.join(said)}. {step}"


def _label(sections: Mapping[str, str]) -> str:
    words = {name.removesuffix("_config") for name in sections}
    sees, hears = "vision" in words, "audio" in words
    if sees and "text" in words:
        return "a model of vision, audio and language" if hears else "a vision-language model"
    if hears and "text" in words:
        return "an audio-language model"
    if {"encoder", "decoder"} <= words:
        return f"an encoder-decoder of {'two' if len(words) == 2 else 'several'} models"
    return "a model of several parts" if len(sections) > 1 else "a model around another"


def kind(config: Config, shapes: Shapes) -> str:
    """What kind of model it is, if of one that no declaration describes; else empty.

    Args:
        config: of the model.
        shapes: tensor name -> shape.

    Example:
        >>> kind(Config({"model_type": "mamba"}), {"backbone.layers.0.mixer.A_log": (48, 16)})
        "a recurrent model (tensor 'backbone.layers.*.mixer.A_log')"
    """
    return next(_kinds(config, {pattern(name): shape for name, shape in shapes.items()}), "")


def _kinds(config: Config, shapes: Shapes) -> Iterator[str]:
    """The more telling first."""
    attends = any(_ATTENTION.search(name) and "linear_attn" not in name for name in shapes)
    what = "a hybrid of attention and other layers" if attends else "a recurrent model"
    listed = config.parsed.to_dict().get("layer_types")  # ResNet's class lists what a layer_type may be
    kinds = list(dict.fromkeys(map(str, listed if isinstance(listed, (list, tuple)) else ())))
    others = [name for name in kinds if not name.endswith("attention") or name == "linear_attention"]
    if others:
        yield f"{what} (its 'layer_types' are {', '.join(map(repr, kinds))})"
    if found := next(filter(_RECURRENT.search, shapes), None):
        yield f"{what} (tensor '{found}')"
    matrices = [name for name, shape in shapes.items() if len(shape) > 1]
    planes = [name for name in matrices if len(shapes[name]) == 4]
    if len(planes) >= CONVOLUTIONAL * max(len(matrices), 1):
        beside = "a convolutional network with attention" if attends else "a convolutional network"
        yield f"{beside} ({len(planes)} of its {len(matrices)} kinds of matrices are convolutions)"
    for field in ("depths", "hidden_sizes", "embed_dims", "embed_dim"):
        if isinstance(stages := getattr(config.parsed, field, None), (list, tuple)) and len(stages) > 1:
            yield f"a model in stages ('{field}' is {list(stages)})"
    if found := next((name for name in shapes if _convolves(name, shapes[name])), None):
        yield f"a model with convolutions over time (tensor '{found}')"


def _convolves(name: str, shape: Any) -> bool:
    """Whether a parameter of a repeated layer is a convolution over time that is no plain matrix."""
    return "*" in name and "conv" in name and len(shape) == 3 and shape[-1] > 1
