"""Whether the tensors of a checkpoint are those of its class, under other names or in another number.

    _orig_mod.model.layers.0.mlp.up_proj.weight     saved from inside torch.compile
    module.model.layers.0.mlp.up_proj.weight        from inside DistributedDataParallel
    model.model.layers.0.mlp.up_proj.weight         from inside a Lightning module

A wrapper puts its attribute before every name, or (activation checkpointing, FSDP) into the middle of
some. It is taken off where every tensor then has its place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Any

from transformers import PreTrainedModel

from growth import architectures
from growth.architectures.patterns import modern, without_prefix
from growth.architectures.registry import is_declared
from growth.errors import FOREIGN_ERRORS, CheckpointError
from growth.hf.configs import config_to_build
from growth.hf.expected_tensors import Shapes, class_tensors, expected_tensors, lacking
from growth.hf.missing_tensors import counts_of
from growth.hf.model_classes import class_of
from growth.hf.reader import Checkpoint

PEFT = frozenset({"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector", "base_layer"})
"""Parts of tensor names that PEFT gives, and that merging an adapter takes away."""


def fitted(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its tensors under the names that its class expects. One whose names are not
    those of a wrapped model is returned as it is.

    Raises:
        CheckpointError: for the tensors of an adapter, or fewer layers than the config counts.
        GrowthError: for a config without a class.
    """
    model_class = class_of(checkpoint.config)
    _check_layer_count(checkpoint.config, checkpoint.shapes, model_class)
    names = list(checkpoint.shapes)
    if not _look_wrapped(names, model_class.base_model_prefix):
        return checkpoint
    expected, ties = expected_tensors(checkpoint.config, model_class)
    parts = {part for name in expected for part in name.split(".")}
    if found := next((name for name in names if (PEFT - parts) & set(name.split("."))), None):
        raise CheckpointError(
            f"the weights hold tensors of a PEFT adapter that was not merged ('{found}'). Load the model with peft, "
            "save what model.merge_and_unload() returns, and widen that."
        )
    canonical, is_spare = _spelling(checkpoint.config, model_class)
    wanted = {canonical(name) for name in expected}

    def fits(tried: Iterable[str]) -> bool:
        present = {canonical(name) for name in tried}
        absent = lacking(map(canonical, expected), present, ties, canonical)
        return present <= wanted | set(filter(is_spare, present)) and all(map(is_spare, absent))

    renamed = unwrapped(names, parts, fits)
    if renamed is None or all(name == bare for name, bare in renamed.items()):
        return checkpoint
    return _renamed(checkpoint, renamed)


def _look_wrapped(names: Collection[str], prefix: str) -> bool:
    """Whether names may be those of a wrapped model, or of PEFT. Cheap: no model is built for the
    others."""
    firsts = {name.partition(".")[0] for name in names}
    return (
        (len(firsts) == 1 and firsts != {prefix})
        or any(name.startswith(f"{prefix}.{prefix}.") for name in names)
        or any(_of_a_wrapper(part) or part in PEFT for name in names for part in name.split("."))
    )


def _of_a_wrapper(part: str) -> bool:
    """Whether a part of a name may be a wrapper's wherever it stands: ``_orig_mod``, ``module``. Any other
    may mean that the weight is not used as it is stored (``parametrizations``)."""
    return part.startswith("_") or part == "module"


def unwrapped(
    names: Collection[str], parts: Collection[str], fits: Callable[[Collection[str]], bool]
) -> dict[str, str] | None:
    """Name -> name without what wrappers added; None where that does not fit.

    Args:
        names: of the tensors in the file.
        parts: what the names of the class consist of.
        fits: whether names are those of the class.

    Example:
        >>> names = ["module.up._orig_mod.weight", "module.down.weight"]
        >>> unwrapped(names, {"up", "down", "weight"}, lambda bare: set(bare) == {"up.weight", "down.weight"})
        {'module.up._orig_mod.weight': 'up.weight', 'module.down.weight': 'down.weight'}
    """
    bare = {name: [part for part in name.split(".") if part in parts or not _of_a_wrapper(part)] for name in names}
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*bare.values(), strict=False)))
    for count in range(shared + 1):
        renamed = {name: ".".join(left[count:]) for name, left in bare.items()}
        if len(set(renamed.values())) == len(names) and fits(renamed.values()):
            return renamed
    return None


def _renamed(checkpoint: Checkpoint, names: Mapping[str, str]) -> Checkpoint:
    """The checkpoint under new names, each read by its old one."""
    old, new = next((name, bare) for name, bare in names.items() if name != bare)
    return replace(
        checkpoint,
        shapes={names[name]: shape for name, shape in checkpoint.shapes.items()},
        dtypes={names[name]: dtype for name, dtype in checkpoint.dtypes.items()},
        _readers={bare: _reader(checkpoint, name) for name, bare in names.items()},
        stored_as={bare: name for name, bare in names.items()},
        notes=(
            *checkpoint.notes,
            f"the weights were saved from inside a wrapper: '{old}' is taken to be '{new}', and so on, under which "
            "name every tensor fits and is written",
        ),
    )


def _reader(checkpoint: Checkpoint, name: str) -> Any:
    return lambda bare: checkpoint._readers[name](name)


def _spelling(
    raw: Mapping[str, Any], model_class: type[PreTrainedModel]
) -> tuple[Callable[[str], str], Callable[[str], bool]]:
    """How a name is spelled without the prefix of the base model, which from_pretrained of the class
    adds or removes, and whether a checkpoint may have or lack a tensor of that name as it likes."""
    prefix = [model_class.base_model_prefix]
    model_type = str(raw.get("model_type"))
    if not is_declared(model_type):
        return lambda name: modern(without_prefix(name, prefix)), lambda name: False
    family = architectures.find(model_type)
    kinds = (family.is_buffer, family.is_optional, family.is_computed)
    return (
        lambda name: modern(without_prefix(name, prefix)),
        lambda name: any(kind(family.canonical(name)) for kind in kinds),
    )


def _check_layer_count(raw: Mapping[str, Any], shapes: Shapes, model_class: type[PreTrainedModel]) -> None:
    """Refuse a config that counts more layers than there are, before a model of so many is built.

    A count that the names do not bear out may be right (layers that share their weights), so the
    class is first built with one layer more than there are in the file: does it lack tensors?

    Raises:
        CheckpointError: naming the field.
    """
    held = 1 + max((int(part) for name in shapes for part in name.split(".") if part.isdecimal()), default=0)
    config = config_to_build(raw)
    counted = {field: value for field, value in counts_of("layer", config) if value > held + 1}
    if not counted:
        return
    try:
        for section in (config, *(part for name in config.sub_configs if (part := getattr(config, name, None)))):
            for field in counted.keys() & section.to_dict().keys():
                setattr(section, field, min(getattr(section, field), held + 1))
        expected, ties = class_tensors(config, model_class)
    except FOREIGN_ERRORS:
        return  # a config that describes its layers one by one cannot have fewer
    canonical, is_spare = _spelling(raw, model_class)
    absent = lacking(map(canonical, expected), {canonical(name) for name in shapes}, ties, canonical)
    if gone := [name for name in absent if f".{held}." in name and not is_spare(name)]:
        field, value = next(iter(counted.items()))
        raise CheckpointError(
            f"the config counts {value} layers ({field}), but no tensor in the weights has a number above {held - 1}: "
            f"'{gone[0]}' is missing. Check {field} in config.json, or fetch the checkpoint again."
        )
