"""The fold: what a grown tensor shows, read back through its maps and compared with its source.

Along a summed dimension the copies of a weight, each times its gradient coefficient (the factor on
the activation that it multiplies), must add up to the old weight. Along other dimensions every copy
must be its old weight times its coefficient. Where nothing is rounded, they must be so bit for bit;
elsewhere the comparison allows for one rounding per weight and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from growth.errors import CheckpointError, ProofError
from growth.plan.tensor_plan import TensorPlan
from growth.weights.exact_sums import overflows


@dataclass
class Fold:
    """What reading grown tensors back found.

    Args:
        error: max ``|folded - expected|`` over max ``|expected|``, a few rows at a time.
        excess: the same difference in units of what rounding can explain: of each weight once, or
            of subnormal weights alone where nothing else is rounded. At most 1 for a correct tensor.
        exact: True if every weight came back bit for bit.
        tensors: how many were read back.
        ulps: max ``|folded - expected|`` in ulps of the expected weight in the dtype of the result
            (of its copies, where it is 0), less what the float64 arithmetic itself may lose.
        square, lost: sum of ``expected**2`` and of ``(folded - expected)**2``.
        differing, held_back: number of weights whose copies were to differ, and of those among them
            whose copies differ less than asked for (`growth.weights.exact_sums`).

    Example:
        >>> fold = Fold(square=4.0, lost=4e-6, differing=200, held_back=3)
        >>> fold.rms, fold.limited, fold.ok
        (0.001, 0.015, True)
        >>> Fold.merged([Fold(tensors=1), Fold(error=0.5), Fold(error=0.25, exact=False)])
        Fold(error=0.5, excess=0.0, exact=False, tensors=1, ulps=0.0, square=0.0, lost=0.0, differing=0, held_back=0)
    """

    error: float = 0.0
    excess: float = 0.0
    exact: bool = True
    tensors: int = 0
    ulps: float = 0.0
    square: float = 0.0
    lost: float = 0.0
    differing: int = 0
    held_back: int = 0

    @classmethod
    def merged(cls, folds: Iterable[Fold]) -> Fold:
        """What reading back all of them found. Floats are added up in the order given."""
        whole = cls()
        for fold in folds:
            whole.add(fold)
        return whole

    def add(self, other: Fold) -> None:
        """Take in what reading back something else found."""
        self.error, self.excess = max(self.error, other.error), max(self.excess, other.excess)
        self.exact = self.exact and other.exact
        self.tensors += other.tensors
        self.ulps = max(self.ulps, other.ulps)
        self.square += other.square
        self.lost += other.lost
        self.differing += other.differing
        self.held_back += other.held_back

    @property
    def ok(self) -> bool:
        """True if rounding explains every difference."""
        return self.excess <= 1.0

    @property
    def rms(self) -> float:
        """RMS of ``folded - expected`` over that of ``expected``, all tensors together. Three
        digits: the last ones of a sum of floats depend on the number of threads."""
        return float(f"{math.sqrt(self.lost / self.square):.3g}") if self.square else 0.0

    @property
    def limited(self) -> float:
        """Of the weights whose copies were to differ, the share whose copies differ less than asked
        for."""
        return self.held_back / self.differing if self.differing else 0.0

    def to_json(self) -> dict[str, float | bool | int]:
        """The figures that reports show."""
        return {
            "tensors": self.tensors,
            "exact": self.exact,
            "error": self.error,
            "rms": self.rms,
            "ulps": self.ulps,
            "excess": self.excess,
            "limited": self.limited,
        }


def check_finite(name: str, tensor: Tensor, allow_nonfinite: bool) -> bool:
    """Whether all weights are finite.

    Raises:
        CheckpointError: if some are not and ``allow_nonfinite`` is False.
    """
    finite = not tensor.numel() or all(
        math.isfinite(float(end)) for end in torch.aminmax(tensor)
    )  # NaN is both the smallest and the largest; no temporary tensor is made
    if not finite and not allow_nonfinite:
        raise CheckpointError(
            f"tensor '{name}' holds NaN or infinity. Repair the checkpoint, or carry them over with --allow-nonfinite."
        )
    return finite


def check_fold(fold: Fold, old: Tensor, plan: TensorPlan, dtype: torch.dtype) -> None:
    """Refuse a tensor that did not fold back to its source.

    Args:
        fold: what reading it back found.
        old: the source tensor.
        plan: its plan.
        dtype: of the result.

    Raises:
        CheckpointError: if ``dtype`` cannot hold the values.
        ProofError: if there is no such excuse.
    """
    if not fold.ok and overflows(old, plan, dtype):
        raise CheckpointError(
            f"tensor '{plan.name}' would hold values beyond the largest {dtype}, {torch.finfo(dtype).max:.3g}. Use "
            "--dtype bfloat16 or float32."
        )
    if not fold.ok:
        raise ProofError(
            f"tensor '{plan.name}' does not fold back to its source (relative difference {fold.error:.3g}), so "
            "nothing was kept. Please report this."
        )
