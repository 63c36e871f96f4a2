"""The tensors a checkpoint of a class must have, those it may have, and which of them are tied."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from growth.architectures.architecture import Architecture
from growth.architectures.sizes import LARGEST
from growth.errors import FOREIGN_ERRORS, CheckpointError, UnsupportedModelError
from growth.hf.configs import Config, check_counts, config_to_build
from growth.hf.custom_modules import ModuleWrapper
from growth.hf.missing_tensors import Absence, highest, uncounted
from growth.hf.own_modules import OwnWrapper
from growth.hf.tensor_names import to_disk

Shapes = Mapping[str, tuple[int, ...]]


def expected_tensors(
    raw: Mapping[str, Any], model_class: type[PreTrainedModel]
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """The tensors that a checkpoint of a class has on disk, found by building the class on the meta
    device.

    Returns:
        shapes: name on disk -> shape.
        ties: name of a tied tensor -> name of the tensor it shares its values with.

    Raises:
        UnsupportedModelError: if the class cannot be built without weights.

    Example:
        For a Llama config with ``tie_word_embeddings``:

        >>> shapes, ties = expected_tensors(raw, LlamaForCausalLM)
        >>> shapes["model.embed_tokens.weight"], ties
        ((32000, 4096), {'lm_head.weight': 'model.embed_tokens.weight'})
    """
    config = Config.of(raw)
    if model_class not in config.derived:
        config.derived[model_class] = _tensors_of_a_new_model(config, model_class)
    shapes, ties = config.derived[model_class]
    return dict(shapes), dict(ties)


def _tensors_of_a_new_model(
    config: Config, model_class: type[PreTrainedModel]
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    check_counts(config)
    try:
        shapes, ties = class_tensors(config_to_build(config), model_class)
    except FOREIGN_ERRORS as error:
        raise UnsupportedModelError(
            f"{model_class.__name__} cannot be built on the meta device from the config "
            f"({_reason(config, error)}). Check config.json"
            + (
                ", and that the constructor reads the value of no tensor (item, tolist)."
                if issubclass(model_class, ModuleWrapper)
                else "."
            )
        ) from error
    for name, shape in shapes.items():
        if max(shape, default=0) > LARGEST:
            raise UnsupportedModelError(
                f"tensor '{name}' of {model_class.__name__} would have the shape {list(shape)}, beyond any model: at "
                f"most {LARGEST:,} in a dimension. Check the sizes in config.json."
            )
    return shapes, ties


def without_weights(config: PreTrainedConfig, model_class: type[PreTrainedModel]) -> PreTrainedModel:
    """A class on the meta device, whichever kernel of attention the config asks for, and whether or
    not it is installed. The model keeps the config. Raises what the constructor does."""

    def built() -> PreTrainedModel:
        model: PreTrainedModel = model_class._from_config(config, attn_implementation="eager")
        return model

    try:
        with torch.device("meta"):
            return built()
    except FOREIGN_ERRORS:
        if not issubclass(model_class, OwnWrapper):
            raise
        return built()  # a constructor that reads the value of a tensor


def class_tensors(
    config: PreTrainedConfig, model_class: type[PreTrainedModel]
) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """As `expected_tensors`, of a parsed config, which the model keeps. Raises what the constructor
    does."""
    model = without_weights(config, model_class)
    in_memory, shared = model.state_dict(), model.all_tied_weights_keys or {}
    state = to_disk(model, in_memory)
    renamed = {id(parameter): name for name, parameter in state.items()}
    on_disk = {name: renamed.get(id(parameter), name) for name, parameter in in_memory.items()}
    ties = {on_disk.get(target, target): on_disk.get(source, source) for target, source in shared.items()}
    return {name: tuple(parameter.shape) for name, parameter in state.items()}, ties


def _reason(config: Config, error: Exception) -> str:
    """What stood in the way of building a class. A value that transformers looks up and does not
    find is named with its field, and PyTorch's C++ stack is left out."""
    if isinstance(error, KeyError) and error.args:
        for field, value in _leaves(config):
            if value == error.args[0]:
                return f"config field '{field}' is {value!r}, which transformers does not know"
    said = re.split(r"\W*Exception raised from ", str(error))[0][:300].rstrip(".")
    return f"{type(error).__name__}: {said}"


def _leaves(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a config with their dotted fields."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


@dataclass(frozen=True)
class Inventory:
    """The tensors of a checkpoint, sorted.

    Args:
        known: names of those to grow.
        left_out: names of buffers that old files hold and the model computes itself.
        tied: name -> canonical names of all tensors tied with it, including its own; only for
            tensors that are tied.
        notes: what the caller should know about tensors that are not of the class.
    """

    known: Sequence[str]
    left_out: Sequence[str]
    tied: Mapping[str, frozenset[str]]
    notes: Sequence[str]


def inventory(
    raw: Mapping[str, Any], shapes: Shapes, architecture: Architecture, model_class: type[PreTrainedModel]
) -> Inventory:
    """Check the tensors of a checkpoint against those its class expects, and sort them.

    Tensors beyond the layers that the config counts are left out, as are others that the class
    ignores by name and no rule describes; ``from_pretrained`` does not load them either.

    Args:
        raw: the config as JSON.
        shapes: name on disk -> shape, of the tensors the checkpoint has.
        architecture: the declaration at this config.
        model_class: the class named in the config.

    Raises:
        CheckpointError: for a tensor that is missing, or whose shape differs from the config's.
    """
    expected, ties = expected_tensors(raw, model_class)
    canonical = {name: architecture.canonical(name) for name in shapes}
    spelled = {architecture.canonical(name): name for name in expected}
    made = (architecture.is_buffer, architecture.is_optional)
    absent = lacking(spelled, set(canonical.values()), ties, architecture.canonical)
    if missing := [spelled[name] for name in absent if not any(may_lack(name) for may_lack in made)]:
        raise CheckpointError(
            Absence(
                raw,
                model_class,
                expected,
                list(shapes),
                missing,
                architecture.canonical,
                lambda config: class_tensors(config, model_class)[1],
            ).sentence()
        )
    for name, shape in shapes.items():
        wanted = expected.get(spelled.get(canonical[name], ""), shape)
        if tuple(shape) == (0,) != wanted:
            raise CheckpointError(
                f"tensor '{name}' is empty (shape [0]), as DeepSpeed ZeRO-3 leaves tensors where it saves a model "
                "without gathering its shards. Load the shards with zero_to_fp32.py, which lies beside them, and "
                "widen what it writes."
            )
        if wanted != tuple(shape):
            raise CheckpointError(
                f"tensor '{name}' has shape {list(shape)}, but the config makes it {list(wanted)}. Check the config."
            )
    left_out = [name for name in shapes if architecture.is_buffer(canonical[name])]
    spare = [name for name in shapes if canonical[name] not in spelled and name not in left_out]

    def ruled(name: str) -> bool:
        return architecture.declared_roles(canonical[name], model_class.__name__) is not None

    counted = _with_drafts(highest(spelled), Config.of(raw).parsed)
    ignored, notes = _spare(spare, {name: canonical[name] for name in spare}, counted, ruled, model_class)
    known = [name for name in shapes if name not in left_out and name not in ignored]
    if strange := next((name for name in spare if name in known and not ruled(name)), None):
        whose = model_class.__name__
        raise UnsupportedModelError(
            f"no rule of '{architecture.model_type}' matches tensor '{strange}', which is not of {whose}, so that "
            "from_pretrained would ignore it. If the model has parameters of its own, take them out of the weights "
            "first."
        )
    groups = tied_groups(ties, architecture.canonical)
    tied = {name: frozenset(groups[canonical[name]]) for name in known if canonical[name] in groups}
    return Inventory(known, left_out, tied, notes)


def _with_drafts(counted: Mapping[str, int], config: PreTrainedConfig) -> dict[str, int]:
    """The highest number of each numbered list, with the layers that draft further tokens
    (multi-token prediction): transformers' ``MtpModel`` finds them behind the layers that the config
    counts.

    References:
        DeepSeek-AI, "DeepSeek-V3 Technical Report", arXiv:2412.19437, section 2.2.
    """
    text = config.get_text_config()
    said, last = getattr(text, "num_mtp_layers", None), getattr(text, "num_hidden_layers", 0) - 1
    drafts = said if isinstance(said, int) else 0
    return {
        stack: number + drafts if number == last and "*" not in stack else number for stack, number in counted.items()
    }


def _spare(
    names: Sequence[str],
    canonical: Mapping[str, str],
    counted: Mapping[str, int],
    ruled: Callable[[str], bool],
    model_class: type[PreTrainedModel],
) -> tuple[set[str], list[str]]:
    """Tensors in the weights that are not of the class: which of them are left out, and what is to be
    said."""
    whose, patterns = model_class.__name__, model_class._keys_to_ignore_on_load_unexpected or ()
    beyond = [name for name in names if uncounted(canonical[name], counted)]
    ignored = [
        name
        for name in names
        if name not in beyond and not ruled(name) and any(re.search(pattern, name) for pattern in patterns)
    ]
    kept = [name for name in names if ruled(name) and name not in beyond]
    notes = [
        f"{_some(found)} {said}"
        for found, said in (
            (
                beyond,
                "belong to layers that the config does not count; from_pretrained ignores them, they are left out",
            ),
            (ignored, f"are ignored by {whose} and left out"),
            (
                kept,
                f"are not of {whose}, and from_pretrained ignores them; they are grown by the declaration and kept, "
                "but the twin does not cover them",
            ),
        )
        if found
    ]
    return {*beyond, *ignored}, notes


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"tensors of the source ('{names[0]}'{more})"


def lacking(
    wanted: Iterable[str], present: Collection[str], ties: Mapping[str, str], canonical: Callable[[str], str]
) -> list[str]:
    """Those of the canonical names ``wanted`` that are not ``present``, and neither is a tensor that
    they are tied with."""
    groups = tied_groups(ties, canonical)
    present = frozenset(present)
    return [name for name in wanted if name not in present and not groups.get(name, set()) & present]


def tied_groups(ties: Mapping[str, str], canonical: Callable[[str], str]) -> dict[str, set[str]]:
    """Canonical name -> canonical names of all tensors tied with it, its own among them. A tie may
    join two groups: of ``a = b`` and ``b = c`` all three are one."""
    groups: dict[str, set[str]] = {}
    for target, source in ties.items():
        group = {canonical(target), canonical(source)}
        group |= set().union(*(groups.get(member, set()) for member in group))
        groups |= {member: group for member in group}
    return groups


def not_saved(model_class: type[PreTrainedModel], names: Iterable[str]) -> list[str]:
    """Those of ``names`` that ``save_pretrained`` of this class leaves out, sorted."""
    return sorted(set(model_class._keys_to_ignore_on_save or ()) & set(names))
