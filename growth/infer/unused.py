"""Parameters that take no part in a forward pass, so that nothing tells what they do.

A class of transformers may have some: a decoder that was cut out of an encoder-decoder keeps its cross-attention.
They grow as modules of their kind do, and the plan names them. A module of the caller's is refused: other inputs may
use them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from growth.hf.own_modules import OwnWrapper
from growth.infer.errors import Unexplained
from growth.infer.parts import Part
from growth.infer.ranges import grows
from growth.infer.tensor_names import starred
from growth.infer.walk import Walk

LISTED = 4
"""How many names a note lists."""


def unused(walk: Walk, model: PreTrainedModel) -> dict[str, tuple[Part, ...]]:
    """Name -> one part per dimension, of the parameters that grow and that no operation ends in: what a linear layer
    or a convolution of that shape reads and writes.

    Args:
        walk: a finished walk.
        model: the small one.

    Raises:
        Unexplained: for a module of the caller's.
    """
    names = [
        name
        for name, tensor in walk.small.held.items()
        if name not in walk.uses and tensor.is_floating_point() and tensor.shape != walk.wide.held[name].shape
    ]
    if names and isinstance(model, OwnWrapper):
        raise Unexplained(
            f"'{names[0]}' takes no part in the outputs on these inputs, so that nothing tells what it does; give "
            "inputs= that use it, or take it out of the module"
        )
    return {name: _by_kind(walk, name, model) for name in names}


def _by_kind(walk: Walk, name: str, model: PreTrainedModel) -> tuple[Part, ...]:
    owner, _, leaf = name.rpartition(".")
    reads = _reading(model.get_submodule(owner)) if leaf == "weight" else None
    parts = []
    for d, parts_of_d in enumerate(walk.parameter(name).ranges):
        kind = "keeps" if not grows(parts_of_d) else "reads" if d == reads else "writes"
        parts.append(Part(kind, parts_of_d if kind != "keeps" else []))
    return tuple(parts)


def _reading(module: nn.Module) -> int | None:
    """The dimension of a module's weight that reads its input."""
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return 1
    return 0 if isinstance(module, Conv1D) else None


@dataclass(frozen=True)
class NotProved:
    """A note on parameters whose use was not seen: the ``remarks`` of a declaration.

    Args:
        names: of the parameters, ``*`` for numbers.
    """

    names: tuple[str, ...]

    def __call__(self, config: Any, model_class: str) -> Iterator[str]:
        listed = ", ".join(self.names[:LISTED]) + (", ..." if len(self.names) > LISTED else "")
        yield (
            f"nothing that a {model_class} returns depends on {listed}; they grow as layers of their kind do, and no "
            "comparison can tell whether something else uses them otherwise"
        )


def remark(found: Mapping[str, Any]) -> dict[str, NotProved]:
    """The argument ``remarks`` of an `Architecture`, where there is something to say.

    Example:
        >>> remark({"layers.0.cross.weight": (), "layers.1.cross.weight": ()})["remarks"].names
        ('layers.*.cross.weight',)
        >>> remark({})
        {}
    """
    names = tuple(dict.fromkeys(starred(name) for name in found))
    return {"remarks": NotProved(names)} if names else {}
