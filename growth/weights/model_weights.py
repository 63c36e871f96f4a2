"""All tensors of a model, one after the other: check that it is finite, grow it, read it back.

The one loop over weights. `growth.widen` takes each tensor whole, `growth.widen_checkpoint` writes
it block by block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from growth.errors import CheckpointError
from growth.hf.dtypes import FLOATS
from growth.plan.plan import Plan
from growth.plan.symmetry import UNBROKEN
from growth.plan.tensor_plan import TensorPlan
from growth.weights.blocks import Each
from growth.weights.fold import Fold, check_finite, check_fold
from growth.weights.grow import grow_blocks, grow_tensor


@dataclass(frozen=True, eq=False)
class GrowingTensor:
    """One tensor about to grow. Take it by `blocks` or `whole`, once.

    Args:
        name: on disk.
        old: the source tensor.
        plan: its plan.
        dtype: of the result.
        seed: of what is drawn.
        fold: where reading it back is recorded, None for a tensor that is not finite.
    """

    name: str
    old: Tensor
    plan: TensorPlan
    dtype: torch.dtype
    seed: int
    fold: Fold | None

    def blocks(self, each: Each = map) -> Iterator[Tensor]:
        """Its rows in order, in blocks of bounded size; ``each`` works on them, as `map` does."""
        grown = grow_blocks(self.old, self.plan, self.dtype, seed=self.seed, fold=self.fold, each=each)
        return (block for _, block in grown)

    def whole(self, each: Each = map) -> Tensor:
        """All of it, on the device of the source; ``each`` works on its blocks, as `map` does."""
        return grow_tensor(self.old, self.plan, self.dtype, seed=self.seed, fold=self.fold, each=each)


def growing_tensors(
    plan: Plan,
    names: Iterable[str],
    read: Callable[[str], Tensor],
    dtypes: Mapping[str, torch.dtype],
    fold: Fold,
    *,
    allow_nonfinite: bool = False,
) -> Iterator[GrowingTensor]:
    """Read, check and hand out each tensor in turn; check what reading it back found before the
    next.

    Args:
        plan: of the model.
        names: which of its tensors, in order.
        read: name -> the source tensor.
        dtypes: name -> dtype of the result.
        fold: where reading back is recorded.
        allow_nonfinite: grow tensors with NaN or infinity without noise instead of refusing them.

    Raises:
        CheckpointError: for NaN or infinity, or values that the result's dtype cannot hold.
        ProofError: for a tensor that does not fold back to its source.
    """
    for name in names:
        old, tensor = read(name), plan.tensors[name]
        finite = check_finite(name, old, allow_nonfinite or tensor.unchanged)
        # The copies of NaN and infinity cannot differ and add up, and there is nothing to compare.
        tensor = tensor if finite else replace(tensor, symmetry=UNBROKEN)
        yield GrowingTensor(name, old, tensor, dtypes[name], plan.options.seed, fold if finite else None)
        check_fold(fold, old, tensor, dtypes[name])


def check_dtypes(plan: Plan) -> None:
    """Refuse a tensor that grows and whose dtype cannot hold shares of a weight.

    Raises:
        CheckpointError: naming the tensor and its dtype.
    """
    for name, dtype in plan.dtypes.items():
        if name in plan.tensors and dtype not in FLOATS and not plan.tensors[name].unchanged:
            raise CheckpointError(
                f"tensor '{name}' has dtype {dtype}, which cannot hold shares of a weight. Widen the unquantised "
                "original."
            )
