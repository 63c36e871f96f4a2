"""The weights of a model under FSDP, grown one tensor at a time as they are written.

A tensor in memory may be several on disk (the experts of a layer): those grow each by its own plan, and are
fused again. A tied weight that was stored under several names grows once, and is written under each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.errors import CheckpointError, ProofError, UnsupportedModelError
from growth.hf.configs import config_to_build
from growth.hf.expected_tensors import without_weights
from growth.hf.fsdp_reader import FsdpCheckpoint
from growth.hf.tensor_names import from_disk, to_disk
from growth.plan.plan import Plan
from growth.proof.rounding import same_values
from growth.weights.blocks import Each
from growth.weights.fold import Fold
from growth.weights.model_weights import growing_tensors


@dataclass
class FsdpWeights:
    """The tensors of a grown model by their names in memory, made when they are asked for.

    Args:
        source: the checkpoint.
        plan: how it grows.
        dtypes: name on disk -> dtype of the result.
        model: the grown one, on the meta device.
        parts: name in memory -> names on disk of what it is made of.
        again: name of a tied tensor that is written a second time -> the name it has the values of.
        kept: names of tensors that are no weights, and are carried over as they are -> their names in the
            source.
    """

    source: FsdpCheckpoint
    plan: Plan
    dtypes: Mapping[str, torch.dtype]
    model: PreTrainedModel
    parts: Mapping[str, list[str]]
    again: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)
    _held: dict[str, Tensor] = field(default_factory=dict)

    def shapes(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Name in memory -> shape and dtype, in the order in which they are to be asked for: a tied weight
        follows the one it is tied to."""
        expected = self.model.state_dict()
        order = [
            name
            for first in [*self.parts, *self.kept]
            for name in (first, *(again for again, other in self.again.items() if other == first))
        ]
        return {name: (tuple(expected[name].shape), self._dtype(name)) for name in order}

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in self.shapes().values())

    @property
    def largest(self) -> int:
        """The size of the largest tensor, in bytes."""
        return max((torch.Size(shape).numel() * dtype.itemsize for shape, dtype in self.shapes().values()), default=0)

    def _dtype(self, name: str) -> torch.dtype:
        if name in self.kept:
            return self.source.dtypes[self.kept[name]]
        return self.dtypes[self.parts[self.again.get(name, name)][0]]

    def make(self, name: str, fold: Fold, allow_nonfinite: bool = False, each: Each = map) -> Tensor:
        """One grown tensor, read back into ``fold``; ``each`` works on its blocks, as `map` does.

        Raises:
            CheckpointError: NaN or infinity, or tied weights that are not equal.
            ProofError: a tensor that does not fold back to its source.
        """
        if name in self.kept:
            return self.source.read_stored(self.kept[name])
        if name in self.again:
            self._check_tied(name)
            return self._held.get(self.again[name], torch.empty(0))
        plan, parts = self.plan, {}
        read = plan.reading(self.source.checkpoint.read)
        for growing in growing_tensors(
            plan, self.parts[name], read, self.dtypes, fold, allow_nonfinite=allow_nonfinite
        ):
            parts[growing.name] = growing.whole(each)
        grown = from_disk(self.model, parts)
        wanted = tuple(self.model.state_dict()[name].shape)
        if grown.keys() != {name} or tuple(grown[name].shape) != wanted:
            raise ProofError(f"'{name}' did not grow to {list(wanted)}, which its class makes it. Please report this.")
        self._held = {name: grown[name]} if name in self.again.values() else {}
        return grown[name]

    def _check_tied(self, name: str) -> None:
        """Refuse a tied weight that holds other values than the one it is tied to."""
        stored, tied = self.source.tied.get(name), self.source.read_stored
        if stored is not None and not same_values(tied(name), tied(stored)):
            raise CheckpointError(
                f"'{name}' and '{stored}' are one weight by the config, but {self.source.found.weights} holds other "
                "values for each. Set tie_word_embeddings in the config to what the training had."
            )


def grown_weights(source: FsdpCheckpoint, plan: Plan, dtypes: Mapping[str, torch.dtype]) -> FsdpWeights:
    """How the weights of an open folder grow.

    Args:
        source: it.
        plan: made for its tensors by their names on disk.
        dtypes: name on disk -> dtype of the result.

    Raises:
        UnsupportedModelError: a tensor of the grown model that follows from nothing in the folder.
    """
    new = without_weights(config_to_build(plan.new), plan.model_class)
    state, origin = new.state_dict(), _origin(plan)
    parts: dict[str, list[str]] = {}
    for name, value in state.items():
        stored = list(to_disk(new, {name: value.detach()}))
        if all(one in plan.tensors for one in stored):
            parts[name] = stored
    again: dict[str, str] = {}
    kept: dict[str, str] = {}
    for name, value in state.items():
        if name in parts or origin(name) not in source.shapes:
            continue
        if (other := _same(new, name, parts)) is not None:
            again[name] = other
        elif tuple(value.shape) == source.shapes[origin(name)]:
            kept[name] = origin(name)
        else:
            raise UnsupportedModelError(
                f"'{name}' is computed by {type(new).__name__} itself, and stored by FSDP, so no wider one is "
                "known. Load the checkpoint into the model, save_pretrained, and widen that."
            )
    return FsdpWeights(source, plan, dtypes, new, parts, again, kept)


def _origin(plan: Plan) -> Callable[[str], str]:
    """Name in memory of the grown model -> that in the model."""
    extension = plan.extension
    return (lambda name: name) if extension is None else extension.module_source


def _same(model: PreTrainedModel, name: str, among: Mapping[str, object]) -> str | None:
    """The tensor among some that a name is tied with."""
    ties = model.all_tied_weights_keys or {}
    root = ties.get(name, name)
    return next((other for other in among if ties.get(other, other) == root), None)
