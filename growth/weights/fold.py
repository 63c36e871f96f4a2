"""The fold: a grown tensor read back through its maps and compared with its source."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension
from growth.errors import CheckpointError, ProofError
from growth.weights.blocks import column, fold_dimension, tiled, widened
from growth.weights.exact_sums import ulps


@dataclass
class Fold:
    """What reading grown tensors back through their maps found.

    Args:
        error: max |folded - expected| over max |expected|, block by block.
        excess: the same difference in units of what rounding each weight once can explain; at most
            1.
        exact: True if every weight came back bit for bit.
        tensors: how many were read back.
        ulps: max |folded - expected| in units in the last place of the expected weight in the dtype
            of the result (of its copies, where it is 0), beyond what float64 itself loses on the
            way.
        square, lost: sum of expected**2 and of (folded - expected)**2.
        shared, held_back: number of weights whose copies were to differ, and of those among them
            where less than asked for (`growth.weights.exact_sums`).
    """

    error: float = 0.0
    excess: float = 0.0
    exact: bool = True
    tensors: int = 0
    ulps: float = 0.0
    square: float = 0.0
    lost: float = 0.0
    shared: int = 0
    held_back: int = 0

    @property
    def ok(self) -> bool:
        """True if rounding each weight once explains everything."""
        return self.excess <= 1.0

    @property
    def rms(self) -> float:
        """RMS of folded - expected over that of expected, all tensors together; to three digits,
        for sums of floats depend on threads."""
        return float(f"{math.sqrt(self.lost / self.square):.3g}") if self.square else 0.0

    @property
    def limited(self) -> float:
        """Share of the weights whose copies were to differ, and do so less than was asked for."""
        return self.held_back / self.shared if self.shared else 0.0

    def to_json(self) -> dict[str, float | bool | int]:
        """What to report."""
        found = {
            "error": self.error,
            "rms": self.rms,
            "ulps": self.ulps,
            "excess": self.excess,
            "limited": self.limited,
        }
        return {"tensors": self.tensors, "exact": self.exact, **found}


def _same_copies(block: Tensor, rows: Tensor, rest: list[Dimension], factor: float, fold: Fold) -> bool:
    """The fold where all weights carry one power of two: copies must be equal bit for bit, and one
    of them, scaled back, the old weight."""
    for axis, dimension in enumerate(rest, 1):
        if dimension.new != dimension.old:
            first, *others = _copies(block, axis, dimension)
            if not all(torch.equal(first, other) for other in others):
                fold.excess = math.inf
                return False
            block = first
    fold.square += _square(rows)
    back = block / factor
    if torch.equal(back, rows):
        return True
    # Only a weight below the smallest normal number can lose a bit to a power of two.
    lost = (back - rows).abs().to(torch.float64)
    if bool((lost > _smallest(rows.dtype) / min(factor, 1.0)).any()) or bool(lost.isnan().any()):
        fold.excess = math.inf
    fold.error = max(fold.error, float(lost.max()))
    fold.ulps = max(fold.ulps, float((lost / ulps(rows.to(torch.float64), rows.dtype)).max()))
    fold.lost += float((lost**2).sum())
    return False


def _copies(block: Tensor, axis: int, dimension: Dimension) -> list[Tensor]:
    """The copies along ``axis``, each in the order of the old coordinates; for equal counts, as
    views where they are blocks."""
    count = dimension.new // dimension.old
    if tiled(dimension):
        return list(block.split(dimension.old, axis))
    order = np.argsort(dimension.source, kind="stable").reshape(dimension.old, count)
    return [
        block.index_select(axis, torch.from_numpy(np.ascontiguousarray(order[:, i])).to(block.device))
        for i in range(count)
    ]


def _compare(block: Tensor, expected: Tensor, rest: list[Dimension], fold: Fold) -> None:
    """The fold in float64, against what rounding each weight once can explain."""
    wide = folded = block.to(torch.float64)
    summed = [(axis, d) for axis, d in enumerate(rest, 1) if d.summed and d.new != d.old]
    for axis, dimension in enumerate(rest, 1):
        if (axis, dimension) not in summed:
            expected = widened(expected, axis, dimension)
            continue
        folded = fold_dimension(folded, dimension, axis, exactly=block.dtype == torch.float64)
        if dimension.shift is not None:
            moved = np.bincount(dimension.source, dimension.gradient * dimension.shift, minlength=dimension.old)
            expected = expected + column(moved, expected.ndim, axis, expected)
    fold.square += _square(expected)
    if torch.equal(folded, expected):
        return
    fold.exact = False
    size, copies, largest = wide.abs(), 1, 1.0
    for axis, dimension in summed:
        size = fold_dimension(size, dimension, axis, np.abs(dimension.gradient))
        copies *= int(np.bincount(dimension.source).max())
        largest *= max(1.0, float(np.abs(dimension.gradient).max()))
    # Half a unit of each weight for the cast; and for float64 itself (factors, noise that may
    # cancel, the sum) units of the largest.
    difference = (folded - expected).abs()
    own = 4 * (copies + 2) * torch.finfo(torch.float64).eps
    allowed = (
        size * (torch.finfo(block.dtype).eps / 2) + own * float(size.max()) + _smallest(block.dtype) * copies * largest
    )
    if (largest_expected := float(expected.abs().max())) > 0:
        fold.error = max(fold.error, float(difference.max()) / largest_expected)
    unit = ulps(torch.where(expected == 0, size, expected), block.dtype)
    fold.ulps = max(fold.ulps, float(((difference - own * size).clamp_(min=0.0) / unit).max()))
    fold.lost += float((difference**2).sum())
    worst = float((difference / allowed).max())
    fold.excess = math.inf if math.isnan(worst) else max(fold.excess, worst)


def _square(values: Tensor) -> float:
    """Sum of squares, to some six digits; in float32 where that holds it, for speed."""
    norm = float(
        torch.linalg.vector_norm(values, dtype=torch.float64 if values.dtype == torch.float64 else torch.float32)
    )
    return (norm if math.isfinite(norm) else float(torch.linalg.vector_norm(values, dtype=torch.float64))) ** 2


def _smallest(dtype: torch.dtype) -> float:
    """The smallest number above zero: what rounding may cost a weight below the normal ones."""
    return torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps


def check_finite(name: str, tensor: Tensor, allow_nonfinite: bool) -> bool:
    """Whether all weights are finite. Raise CheckpointError if they are not and that was not asked
    for."""
    finite = not tensor.numel() or all(
        math.isfinite(float(end)) for end in torch.aminmax(tensor)
    )  # NaN wins both, without a temporary
    if not finite and not allow_nonfinite:
        raise CheckpointError(
            f"tensor '{name}' holds NaN or infinity. Repair the checkpoint, or carry them over with --allow-nonfinite."
        )
    return finite


def check_fold(name: str, fold: Fold, old: Tensor, dtype: torch.dtype) -> None:
    """Raise ProofError if what was read back is not what went in."""
    if not fold.ok and not bool(old.to(dtype).isfinite().all()):
        raise CheckpointError(
            f"tensor '{name}' holds values beyond the largest {dtype}, {torch.finfo(dtype).max:.3g}. Use --dtype "
            "bfloat16 or float32."
        )
    if not fold.ok:
        raise ProofError(
            f"tensor '{name}' does not fold back to its source (relative difference {fold.error:.3g}), so nothing was "
            "kept. Please report this."
        )
