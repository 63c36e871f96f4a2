"""State dicts by the names of a checkpoint and by those of a model in memory, which transformers
renames, fuses and splits at load."""

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
from growth.hf.custom_modules import MODULE, CustomModel


def to_disk(model: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict by the names and in the shapes that ``save_pretrained`` writes for a model
    that was not loaded from anywhere.

    ``model`` has the config of ``state``; its own weights do not matter. Meta tensors are fine.
    Results may be views. Tensors that are one on disk must have one dtype."""
    if isinstance(model, CustomModel):
        return {name.removeprefix(f"{MODULE}."): value for name, value in state.items()}
    fresh = copy.copy(model)  # shares everything but the attribute set next
    vars(fresh)["_weight_conversions"] = _transforms(
        model
    )  # what `revert_weight_conversion` would find, had the model been loaded
    return dict(revert_weight_conversion(fresh, dict(state)))


def from_disk(model: PreTrainedModel, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_disk`: what ``from_pretrained`` makes of the tensors, without casting,
    moving or loading them.

    ``model`` has the config of ``state``; it may be on the meta device. Names that no conversion
    knows stay as they are. A fused tensor has as many experts as ``state`` has, whatever the config
    says.

    Raises:
        CheckpointError: if tensors that are one in memory do not fit together.
    """
    if isinstance(model, CustomModel):
        return {f"{MODULE}.{name}": value for name, value in state.items()}
    transforms = _transforms(model)
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
    known = model.state_dict().keys()
    result: dict[str, Tensor] = {}
    gathered: dict[str, WeightConverter] = {}
    for name in sorted(state, key=dot_natural_key):  # the order of the experts in what they are fused to
        renamed, pattern = rename_source_key(name, renamings, converters)
        if (
            renamed not in known and name in known
        ):  # a name in memory already, which some pattern takes for one on disk
            renamed, pattern = name, None
        if pattern is None:
            result.setdefault(renamed, state[name])
            continue
        if renamed not in gathered:
            gathered[renamed] = copy.deepcopy(
                next(converter for converter in converters if pattern in converter.source_patterns)
            )
        gathered[renamed].add_tensor(renamed, name, pattern, state[name])  # type: ignore[arg-type]  # saving, it takes tensors too
    for renamed, converter in gathered.items():
        result |= _converted(model, renamed, converter)
    return result


def _transforms(model: PreTrainedModel) -> list[WeightTransform]:
    """The class's own conversions, in the direction of loading; copies, which a caller may use up.

    As in `revert_weight_conversion`: without those for old checkpoints, and without prefixes that
    only some checkpoints have."""
    return [
        transform
        for transform in get_model_conversion_mapping(model, add_legacy=False)
        if not isinstance(transform, PrefixChange)
    ]


def _converted(model: PreTrainedModel, name: str, converter: WeightConverter) -> dict[str, Tensor]:
    parts = [part for tensors in converter.collected_tensors.values() for part in tensors]
    dtypes = sorted({str(part.dtype) for part in parts})  # type: ignore[attr-defined]
    if len(dtypes) > 1:
        raise CheckpointError(
            f"tensor '{name}' is stored in parts of dtypes {', '.join(dtypes)}. Convert them to one dtype first."
        )
    try:
        converted: dict[str, Any] = converter.convert(name, model=model, config=model.config)
    except FOREIGN_ERRORS as error:
        raise CheckpointError(
            f"tensor '{name}' cannot be made from its {len(parts)} stored parts ({type(error).__name__}: {error}). "
            "Check that the checkpoint is complete and fits its config."
        ) from error
    return {key: value[0] if isinstance(value, list) else value for key, value in converted.items()}
