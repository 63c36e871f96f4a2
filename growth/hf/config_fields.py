"""Which config fields a declaration supports, so that any other is refused by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from growth.architectures.architecture import Architecture
from growth.errors import UnsupportedModelError
from growth.hf.configs import parse

# Fields of any config that say nothing about how hidden states are computed, beside those of
# PreTrainedConfig itself.
_NEUTRAL = frozenset(
    """_name_or_path _commit_hash architectures torch_dtype dtype transformers_version model_type
    vocab_size max_position_embeddings num_hidden_layers n_layer num_layers use_cache
    pad_token_id bos_token_id eos_token_id sep_token_id decoder_start_token_id mask_token_id
    tie_word_embeddings rope_theta rope_scaling rope_parameters gradient_checkpointing
    output_past task_specific_params id2label label2id num_labels problem_type
    finetuning_task language tokenizer_class prefix name sentence_transformers
    unsloth_version unsloth_fixed transformers.js_config is_encoder_decoder use_bfloat16
    torchscript output_hidden_states output_attentions return_dict return_dict_in_generate
    chunk_size_feed_forward max_length min_length do_sample early_stopping num_beams
    num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty
    length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
    num_return_sequences output_scores forced_bos_token_id forced_eos_token_id
    sbert_ce_default_activation_function remove_invalid_values
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens""".split()  # noqa: SIM905
)


def check_vouched(raw: Mapping[str, Any], architecture: Architecture, vouch: Collection[str] = ()) -> None:
    """Refuse any field that neither the declaration nor the caller vouches for, unless it is at its
    default.

    Raises:
        UnsupportedModelError: naming the field and its value.
    """
    fields = {*raw, *parse(raw).to_dict()}
    for name in vouch:
        if name.partition(".")[0] not in fields:
            raise UnsupportedModelError(f"there is no config field '{name}' to vouch for. Check the spelling.")
    if unknown := unvouched(raw, architecture, vouch):
        listed = ", ".join(f"'{name}' is {value!r}" for name, value in unknown.items())
        raise UnsupportedModelError(
            f"config field {listed}, which the '{architecture.model_type}' declaration does not vouch for. "
            f"If it does not change what the model computes, say {' '.join(f'--vouch {name}' for name in unknown)} "
            f"(in Python vouch={list(unknown)})."
        )


def unvouched(raw: Mapping[str, Any], architecture: Architecture, vouch: Collection[str] = ()) -> dict[str, Any]:
    """Config fields, with their values, that nobody vouches for; dotted inside a nested config."""
    defaults = AutoConfig.for_model(architecture.model_type).to_dict()
    return _unvouched("", parse(raw), raw, defaults, architecture, vouch)


def _unvouched(
    prefix: str,
    config: PreTrainedConfig,
    raw: Mapping[str, Any],
    defaults: Mapping[str, Any],
    architecture: Architecture,
    vouch: Collection[str],
) -> dict[str, Any]:
    """In one section of the config, whose path is ``prefix``, and those inside it."""
    unknown: dict[str, Any] = {}
    allowed = allowed_fields(config, architecture, vouch, prefix)
    inner = {
        name: part for name in config.sub_configs if isinstance(part := getattr(config, name, None), PreTrainedConfig)
    }
    for name, part in inner.items():
        spelled_out = {**(raw.get(name) or {}), **(raw.get(f"{name}_dict") or {})}
        unknown |= _unvouched(f"{prefix}{name}.", part, spelled_out, defaults.get(name) or {}, architecture, vouch)
    for name in sorted((set(raw) | set(config.to_dict())) - inner.keys() - {f"{name}_dict" for name in inner}):
        if name in allowed or is_neutral(name):
            continue
        value = getattr(config, name, raw.get(name))
        if prefix + name in architecture.vouched:
            values = architecture.vouched[prefix + name]
            if values is None or value in values:
                continue
        elif value == defaults.get(name, None) or (not value and name not in defaults):
            continue
        unknown[prefix + name] = value
    return unknown


def allowed_fields(
    config: PreTrainedConfig, architecture: Architecture, vouch: Collection[str], prefix: str = ""
) -> set[str]:
    """Fields of one section of a config that may have any value: neutral ones, sizes, epsilon, and
    those the caller vouches for."""
    epsilons = {architecture.epsilon} if isinstance(architecture.epsilon, str) else set()
    paths = {*(size.field for size in architecture.sizes.values()), *epsilons, *vouch}
    own = {path.removeprefix(prefix) for path in paths if path.startswith(prefix)}
    old_names = {name for size in architecture.sizes.values() for name in size.old_names}
    aliases = type(config).attribute_map
    return {*_NEUTRAL, *(aliases.get(name, name) for name in _NEUTRAL), *aliases, *own, *old_names}


def is_neutral(name: str) -> bool:
    """Whether a field says by its name that it does not matter once a model is trained: private,
    dropout, initial weights."""
    return (
        name.startswith("_")
        or "dropout" in name
        or name.endswith("_pdrop")
        or name.startswith(("initializer_", "init_"))
    )
