"""Tensor names and shapes: those of a checkpoint file, and those of the model in memory.

transformers renames, fuses and splits tensors when it loads a checkpoint, and undoes that when it
saves one. A plan is made for the tensors on disk, a forward pass needs those in memory:

    on disk    model.layers.0.block_sparse_moe.experts.3.w1.weight   [f, h], one per expert
    in memory  model.layers.0.mlp.experts.gate_up_proj               [experts, 2 f, h]
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    PrefixChange,
    WeightConverter,
    WeightRenaming,
    WeightTransform,
    dot_natural_key,
    rename_source_key,
    revert_weight_conversion,
)

from growth.errors import FOREIGN_ERRORS, CheckpointError
from growth.hf.custom_modules import MODULE, ModuleWrapper


def to_disk(model: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in the names and shapes that ``save_pretrained`` writes.

    They are those of a freshly built model: ``save_pretrained`` gives a loaded one the old names of
    the file it came from, this function does not.

    Args:
        model: any model of the config of ``state``, on any device; its weights are not used.
        state: tensors by their names in memory; meta tensors are fine. Those that are parts of one
            tensor on disk must have the same dtype.

    Returns:
        Tensors by their names on disk. They may be views of those in ``state``.
    """
    if isinstance(model, ModuleWrapper):
        return {name.removeprefix(f"{MODULE}."): value for name, value in state.items()}
    # `revert_weight_conversion` reads the conversions that loading leaves on the model. A shallow
    # copy of the model gets those of its class, so that the model given is not changed.
    fresh = copy.copy(model)
    vars(fresh)["_weight_conversions"] = _transforms(model)
    return dict(revert_weight_conversion(fresh, dict(state)))


def from_disk(model: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_disk`: the state dict that ``from_pretrained`` would load, without casting
    or moving tensors.

    Args:
        model: any model of the config of ``state``; it may be on the meta device.
        state: tensors by their names on disk. A name that no conversion knows stays as it is. A
            fused tensor gets as many experts as ``state`` has, whatever the config says.

    Returns:
        Tensors by their names in memory.

    Raises:
        CheckpointError: if the parts of a tensor do not fit together.
    """
    if isinstance(model, ModuleWrapper):
        return {f"{MODULE}.{name}": value for name, value in state.items()}
    transforms = _transforms(model)
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
    known = model.state_dict().keys()
    result: dict[str, Tensor] = {}
    gathered: dict[str, WeightConverter] = {}
    for name in sorted(state, key=dot_natural_key):  # experts are fused in this order: 2 before 10
        renamed, pattern = rename_source_key(name, renamings, converters)
        # A pattern may mistake a name in memory for one on disk.
        if renamed not in known and name in known:
            renamed, pattern = name, None
        if pattern is None:
            result.setdefault(renamed, state[name])
            continue
        if renamed not in gathered:
            gathered[renamed] = copy.deepcopy(
                next(converter for converter in converters if pattern in converter.source_patterns)
            )
        gathered[renamed].add_tensor(renamed, name, pattern, state[name])  # type: ignore[arg-type]  # takes tensors too, as saving does
    for renamed, converter in gathered.items():
        result |= _converted(model, renamed, converter)
    return result


def _transforms(model: PreTrainedModel) -> list[WeightTransform]:
    """The conversions of the model's class, in the direction of loading; new copies, since
    `add_tensor` fills them.

    Chosen as in `revert_weight_conversion`: none for legacy checkpoints, and none that add a prefix
    only some checkpoints have."""
    return [
        transform
        for transform in get_model_conversion_mapping(model, add_legacy=False)
        if not isinstance(transform, PrefixChange)
    ]


def _converted(model: PreTrainedModel, name: str, converter: WeightConverter) -> dict[str, Tensor]:
    """One fused or split tensor, from the parts that were added to its converter."""
    parts = [part for tensors in converter.collected_tensors.values() for part in tensors]
    dtypes = sorted({str(part.dtype) for part in parts})  # type: ignore[attr-defined]
    if len(dtypes) > 1:
        raise CheckpointError(
            f"tensor '{name}' is stored in parts of dtypes {', '.join(dtypes)}, which cannot be fused. Convert them "
            "to one dtype first."
        )
    try:
        converted: dict[str, Any] = converter.convert(name, model=model, config=model.config)
    except FOREIGN_ERRORS as error:
        raise CheckpointError(
            f"tensor '{name}' cannot be built from its {len(parts)} stored parts ({type(error).__name__}: {error}). "
            "Check that the checkpoint is complete and fits its config."
        ) from error
    return {key: value[0] if isinstance(value, list) else value for key, value in converted.items()}
