"""Which config fields a declaration supports. Any other field is refused by name.

A config field may change what the model computes. It is accepted if

* its name says that it does not (`_NEUTRAL_FIELDS`, `is_neutral`),
* it is a size or the epsilon of the declaration, which growth reads and writes,
* the declaration supports its value (``Architecture.vouched``),
* it has the default of its class, for which every declaration holds, or
* the caller says that it does not matter (``--vouch FIELD``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from growth.architectures.architecture import Architecture
from growth.architectures.sizes import rotary_fraction, value_at
from growth.arguments import meant
from growth.errors import UnsupportedModelError
from growth.hf.configs import parse

_UNUSED = frozenset(
    {
        # What the file is about and who wrote it.
        "_name_or_path",
        "_commit_hash",
        "architectures",
        "torch_dtype",
        "dtype",
        "transformers_version",
        "model_type",
        "tokenizer_class",
        "prefix",
        "name",
        "language",
        "finetuning_task",
        "task_specific_params",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "output_past",
        "sentence_transformers",
        "sbert_ce_default_activation_function",
        "transformers.js_config",
        # Special tokens.
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "sep_token_id",
        "mask_token_id",
        "decoder_start_token_id",
        # How the model is run: what it returns, and how it saves memory.
        "use_cache",
        "use_bfloat16",
        "torchscript",
        "gradient_checkpointing",
        "chunk_size_feed_forward",
        "output_hidden_states",
        "output_attentions",
        "return_dict",
        "attn_implementation",
        "use_flash_attn",
        "use_flash_attention",
        "use_flash_attention_2",
        "trust_remote_code",
        "cache_implementation",
        # How it was trained, and what the tokenizer does; tools write these beside the class's own fields.
        "model_name",
        "neftune_noise_alpha",
        "model_max_length",
        "max_sequence_length",
        "tokenizer_model_max_length",
        "tokenizer_padding_side",
        # Text generation.
        "return_dict_in_generate",
        "output_scores",
        "max_length",
        "min_length",
        "do_sample",
        "early_stopping",
        "num_beams",
        "num_beam_groups",
        "num_return_sequences",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "diversity_penalty",
        "repetition_penalty",
        "length_penalty",
        "exponential_decay_length_penalty",
        "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
        "bad_words_ids",
        "suppress_tokens",
        "begin_suppress_tokens",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "remove_invalid_values",
    }
)
"""Fields of any config on which no output depends."""

_NEUTRAL_FIELDS = _UNUSED | {
    # Counts: tokens, positions, layers.
    "vocab_size",
    "max_position_embeddings",
    "n_ctx",
    "num_hidden_layers",
    "n_layer",
    "num_layers",
    # Checked elsewhere: ties on the class as built, rotary fields by `growth.rules.rotary`.
    "tie_word_embeddings",
    "is_encoder_decoder",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
}
"""Fields of any config that say nothing about how hidden states are computed."""

_ABOUT_WEIGHTS = ("initializer_", "init_")
"""How the fields begin that say how weights are drawn for a model that is trained from the start."""


def check_fields(raw: Mapping[str, Any], architecture: Architecture, vouch: Collection[str] = ()) -> None:
    """Refuse config fields that neither the declaration nor the caller supports.

    Args:
        raw: the config.
        architecture: the declaration at this config.
        vouch: fields that, the caller says, do not change what the model computes.

    Raises:
        UnsupportedModelError: naming the fields and their values; or a field in ``vouch`` that the
            config does not have.
    """
    fields = {*raw, *parse(raw).to_dict()}
    for name in vouch:
        if name.partition(".")[0] not in fields:
            raise UnsupportedModelError(
                f"vouch names '{name}', but there is no such config field{meant(name, fields)}. Check the spelling."
            )
    if unsupported := unsupported_fields(raw, architecture, vouch):
        listed = ", ".join(f"'{name}' is {value!r}" for name, value in unsupported.items())
        raise UnsupportedModelError(
            f"config field {listed}, which the '{architecture.model_type}' declaration does not support. "
            "If it does not change what the model computes, add "
            f"{' '.join(f'--vouch {name}' for name in unsupported)} (in Python vouch={list(unsupported)})."
        )


def unsupported_fields(
    raw: Mapping[str, Any], architecture: Architecture, vouch: Collection[str] = ()
) -> dict[str, Any]:
    """Config fields that neither the declaration nor the caller supports, with their values. Their
    names are dotted inside a nested config.

    Example:
        >>> unsupported_fields({"model_type": "llama", "residual_multiplier": 2.0}, LLAMA)
        {'residual_multiplier': 2.0}
    """
    defaults = AutoConfig.for_model(architecture.model_type).to_dict()
    return _unsupported("", parse(raw), raw, defaults, architecture, vouch)


def _unsupported(
    prefix: str,
    config: PreTrainedConfig,
    raw: Mapping[str, Any],
    defaults: Mapping[str, Any],
    architecture: Architecture,
    vouch: Collection[str],
) -> dict[str, Any]:
    """The same for one section of the config, at the path ``prefix``, and those inside it."""
    found: dict[str, Any] = {}
    allowed = allowed_fields(config, architecture, vouch, prefix)
    sections = {
        name: part for name in config.sub_configs if isinstance(part := getattr(config, name, None), PreTrainedConfig)
    }
    for name, part in sections.items():
        written = {**(raw.get(name) or {}), **(raw.get(f"{name}_dict") or {})}
        found |= _unsupported(f"{prefix}{name}.", part, written, defaults.get(name) or {}, architecture, vouch)
    known = config.to_dict()
    for name in sorted((set(raw) | set(known)) - sections.keys() - {f"{name}_dict" for name in sections}):
        if name in allowed or is_neutral(name):
            continue
        value = value_at(config, name) if name in known else getattr(config, name, raw.get(name))
        turning = architecture.sizes.get("rotary_dim")
        if name == "partial_rotary_factor" and turning is not None and not turning.field:
            supported = value == rotary_fraction(config)  # also beside rotary_pct, which the class reads instead
        elif prefix + name in architecture.vouched:
            values = architecture.vouched[prefix + name]
            supported = values is None or value in values
        else:
            supported = value == defaults.get(name) or (not value and name not in defaults)
        if not supported:
            found[prefix + name] = value
    return found


def allowed_fields(
    config: PreTrainedConfig, architecture: Architecture, vouch: Collection[str], prefix: str = ""
) -> set[str]:
    """Fields of one section of a config that may have any value: neutral ones, sizes, epsilon, and
    those in ``vouch``.

    Args:
        config: the section, parsed.
        architecture: the declaration.
        vouch: fields the caller accepts, by their full path.
        prefix: path of the section: "" or, for example, ``text_config.``
    """
    epsilons = {architecture.epsilon} if isinstance(architecture.epsilon, str) else set()
    paths = {*(size.field for size in architecture.sizes.values()), *epsilons, *vouch}
    here = {path.removeprefix(prefix) for path in paths if path.startswith(prefix)}
    old_names = {name for size in architecture.sizes.values() for name in size.old_names}
    aliases = type(config).attribute_map
    neutral = {*_NEUTRAL_FIELDS, *(aliases.get(name, name) for name in _NEUTRAL_FIELDS)}
    return {*neutral, *aliases, *here, *old_names}


def is_neutral(name: str) -> bool:
    """Whether a field's name says that it does not change a trained model: private fields, dropout,
    initialisation, notes of the tool that trained it.

    Example:
        >>> [is_neutral(name) for name in ("attn_pdrop", "initializer_range", "hidden_act")]
        [True, True, False]
    """
    return (
        name.startswith("_")
        or "dropout" in name
        or name.endswith("_pdrop")
        or name.startswith((*_ABOUT_WEIGHTS, "unsloth_"))
    )


def is_unused(name: str) -> bool:
    """Whether no output of a trained model depends on a field, whatever its value.

    Example:
        >>> [is_unused(name) for name in ("eos_token_id", "attention_dropout", "vocab_size")]
        [True, True, False]
    """
    return name in _UNUSED or is_neutral(name)


def is_of_initial_weights(name: str) -> bool:
    """Whether a field says how weights are drawn, which those of a trained model are not."""
    return name.startswith(_ABOUT_WEIGHTS)
