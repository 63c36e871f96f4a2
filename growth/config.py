"""Reading and editing ``config.json`` as plain JSON, in the dialect it was written in.

transformers 4 and 5 spell rotary parameters and dtypes differently, and each ignores or reinterprets the other's; so a config is never
re-serialised, only the fields that change are edited, and the result is parsed again to see that it says what was meant.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from growth import architectures
from growth.architecture import Architecture
from growth.errors import FOREIGN_ERRORS, UnsupportedModelError
from growth.own import own_class
from growth.sizes import value_at

Raw = dict[str, Any]

# Fields of any config that say nothing about how hidden states are computed, beside those of PreTrainedConfig itself.
_NEUTRAL = frozenset(
    """_name_or_path _commit_hash architectures torch_dtype dtype transformers_version model_type vocab_size max_position_embeddings
    num_hidden_layers n_layer num_layers use_cache pad_token_id bos_token_id eos_token_id sep_token_id decoder_start_token_id
    mask_token_id tie_word_embeddings rope_theta rope_scaling rope_parameters gradient_checkpointing output_past task_specific_params
    id2label label2id num_labels problem_type finetuning_task language tokenizer_class prefix name sentence_transformers unsloth_version
    unsloth_fixed transformers.js_config is_encoder_decoder use_bfloat16 torchscript output_hidden_states output_attentions
    return_dict return_dict_in_generate chunk_size_feed_forward max_length min_length do_sample early_stopping num_beams num_beam_groups
    diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores forced_bos_token_id forced_eos_token_id
    sbert_ce_default_activation_function
    remove_invalid_values exponential_decay_length_penalty suppress_tokens begin_suppress_tokens""".split()  # noqa: SIM905
)


def parse(raw: Mapping[str, Any]) -> PreTrainedConfig:
    """The config object of a raw config.

    Raises:
        UnsupportedModelError: for a missing or unknown model_type, remote code or values transformers rejects.
    """
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise UnsupportedModelError('the config has no \'model_type\'. Add the one it was trained with, for example "model_type": "llama".')
    if raw.get("auto_map"):
        raise UnsupportedModelError(
            "the config has 'auto_map', code that comes with the checkpoint, and such code is never executed. "
            "Remove 'auto_map' if the stock class of the same model_type computes the same."
        )
    if quantised := raw.get("quantization_config"):
        method = quantised.get("quant_method", "unknown") if isinstance(quantised, Mapping) else quantised
        raise UnsupportedModelError(
            f"the checkpoint is quantised ({method}); shares of rounded weights are not exact. Widen the original and quantise the result."
        )
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedModelError(
            f"transformers {transformers.__version__} does not know model_type '{model_type}'. Check the spelling, upgrade transformers, "
            "or declare it in Python with growth.register."
        )
    try:
        return CONFIG_MAPPING[model_type].from_dict(copy.deepcopy(dict(raw)))
    except (*FOREIGN_ERRORS, StrictDataclassError) as error:
        raise UnsupportedModelError(f"transformers cannot parse the config: {str(error)[:300].rstrip('.')}. Check config.json.") from error


def model_class(raw: Mapping[str, Any]) -> type[PreTrainedModel]:
    """The stock class named in ``architectures``, or the plain model where none is named."""
    names = raw.get("architectures") or []
    if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise UnsupportedModelError(f"'architectures' in the config is {names!r}. Use a list with the name of one model class.")
    if (own := own_class(str(raw.get("model_type")), names)) is not None:
        return own
    if not names:
        plain: type[PreTrainedModel] = AutoModel._model_mapping[type(parse(raw))]  # type: ignore[assignment]
        return plain
    if raw.get("model_type") in architectures.known():
        names = [architectures.find(str(raw["model_type"])).old_classes.get(names[0], names[0])]
    found = getattr(transformers, names[0], None)
    if not (isinstance(found, type) and issubclass(found, PreTrainedModel)):
        raise UnsupportedModelError(
            f"transformers {transformers.__version__} has no model class '{names[0]}', which the config names in 'architectures'. "
            "Check the spelling or upgrade transformers."
        )
    return found


def check_vouched(raw: Mapping[str, Any], architecture: Architecture, vouch: Collection[str] = ()) -> None:
    """Refuse any field that neither the declaration nor the caller vouches for, unless it is at its default.

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
    inner = {name: part for name in config.sub_configs if isinstance(part := getattr(config, name, None), PreTrainedConfig)}
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


def allowed_fields(config: PreTrainedConfig, architecture: Architecture, vouch: Collection[str], prefix: str = "") -> set[str]:
    """Fields of one section of a config that may have any value: neutral ones, sizes, epsilon, and those the caller vouches for."""
    epsilons = {architecture.epsilon} if isinstance(architecture.epsilon, str) else set()
    paths = {*(size.field for size in architecture.sizes.values()), *epsilons, *vouch}
    own = {path.removeprefix(prefix) for path in paths if path.startswith(prefix)}
    old_names = {name for size in architecture.sizes.values() for name in size.old_names}
    aliases = type(config).attribute_map
    return {*_NEUTRAL, *(aliases.get(name, name) for name in _NEUTRAL), *aliases, *own, *old_names}


def is_neutral(name: str) -> bool:
    """Whether a field says by its name that it does not matter once a model is trained: private, dropout, initial weights."""
    return name.startswith("_") or "dropout" in name or name.endswith("_pdrop") or name.startswith(("initializer_", "init_"))


def merged(raw: Mapping[str, Any]) -> Raw:
    """A copy of ``raw`` whose nested configs say themselves what older files override them with: ``text_config_dict`` goes into
    ``text_config``."""
    result = copy.deepcopy(dict(raw))
    read = parse(raw)
    for name in read.sub_configs:
        if (override := result.get(f"{name}_dict")) is not None:
            known, said = getattr(read, name).to_dict(), {**(result.get(name) or {}), **override}
            result[name] = {key: known.get(key, value) for key, value in said.items()}
            del result[f"{name}_dict"]
    return result


def edited(
    raw: Mapping[str, Any], changes: Mapping[str, Any], rope: Mapping[str, Mapping[str, Any]] | None = None, written: Collection[str] = ()
) -> Raw:
    """A copy of ``raw`` with ``changes`` applied to the fields it spells out; what it leaves implied must follow from those, and is
    written down where it does not.

    Args:
        raw: the config as JSON.
        changes: config field -> value the parsed result must have; dotted inside a nested config.
        rope: kind of layer (or "" for all) -> new ``rope_parameters`` in the dialect of transformers 5.
        written: fields to write down even where ``raw`` leaves them null, so that they would follow.
    """
    raw = merged(raw)
    result = copy.deepcopy(raw)
    for path, value in changes.items():
        target = section(result, path)
        target.update({key: value for key in spellings(raw, path) if target.get(key) is not None})
        if rope and path.rpartition(".")[2] == "head_dim" and is_null(parse(raw), path):
            target["head_dim"] = value  # transformers takes scaled frequencies from the field, null or not
    for kind, parameters in (rope or {}).items():
        _write_rope(result, kind, parameters)
    for path, value in changes.items():
        if path in written or value_at(parse(result), path) not in (value, None):
            section(result, path).update(dict.fromkeys(spellings(raw, path), value))
    return result


def is_null(config: Any, path: str) -> bool:
    """Whether the class has this field and the config leaves it null."""
    part, _, name = path.rpartition(".")
    return (value_at(config, part) if part else config).to_dict().get(name, 0) is None


def spellings(raw: Mapping[str, Any], path: str) -> list[str]:
    """The keys that say a field, in its own section of ``raw``: its name, its aliases (``hidden_size`` for ``n_embd``), its old names
    (`growth.sizes.Size`), or, where none does, its name."""
    spelled, name = section(copy.deepcopy(dict(raw)), path), path.rpartition(".")[2]
    owner: Any = CONFIG_MAPPING[raw["model_type"]]
    for part in path.split(".")[:-1]:
        owner = owner.sub_configs[part]
    aliases = [alias for alias, target in owner.attribute_map.items() if target == name]
    sizes = architectures.find(raw["model_type"]).sizes.values() if raw["model_type"] in architectures.known() else ()
    old_names = [old for size in sizes if size.field == path for old in size.old_names]
    return [key for key in (name, *aliases, *old_names) if key in spelled] or [name]


def spelled(raw: Mapping[str, Any], path: str) -> bool:
    """Whether the config itself gives a field a value."""
    held = section(copy.deepcopy(dict(raw)), path)
    return any(held.get(key) is not None for key in spellings(raw, path))


def section(raw: Raw, path: str) -> Raw:
    """The nested object that holds the last part of a dotted path; made where it is missing."""
    for part in path.split(".")[:-1]:
        if raw.get(part) is None:
            raw[part] = {}
        raw = raw[part]
    return raw


def rope_of(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Kind of layer -> ``rope_parameters`` in the dialect of transformers 5, whichever the config is written in; "" where all layers
    share them."""
    parameters = getattr(parse(raw), "rope_parameters", None) or {}
    if parameters and all(isinstance(value, Mapping) for value in parameters.values()):
        return {kind: dict(value) for kind, value in parameters.items()}
    if not isinstance(parameters.get("rope_type", ""), str) or any(isinstance(value, Mapping) for value in parameters.values()):
        raise UnsupportedModelError("the config has rotary parameters this version cannot read. Check rope_parameters in config.json.")
    return {"": dict(parameters)}


def _write_rope(raw: Raw, kind: str, rope: Mapping[str, Any]) -> None:
    """In place, in the dialect at hand: ``rope_parameters`` (5) or ``rope_theta`` beside ``rope_scaling`` (4)."""
    if kind:
        parameters = getattr(parse(raw), "rope_parameters", None) or {}
        raw["rope_parameters"] = {**parameters, kind: dict(rope)}
        raw.pop("rope_scaling", None)  # said by rope_parameters now, and would be laid over them again
    elif "rope_parameters" in raw:
        raw["rope_parameters"] = dict(rope)
    else:
        raw["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
