"""Blocks of a tensor, along one of its dimensions: taking copies, adding them up.

Everywhere ``axis`` is the place of the dimension in the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension, copy_groups
from growth.algebra.maps import Floats, Integers

Item = TypeVar("Item")
Result = TypeVar("Result")


class Each(Protocol):
    """`map`, or something that does the same with several workers: ``ThreadPoolExecutor().map``."""

    def __call__(self, function: Callable[[Item], Result], items: Iterable[Item], /) -> Iterable[Result]:
        """The results in the order of the items."""


def column(values: np.ndarray, ndim: int, axis: int, like: Tensor) -> Tensor:
    """Coefficients in the dtype and on the device of ``like``, shaped to broadcast along ``axis``
    of a block of ``ndim`` dimensions.

    Example:
        >>> column(np.array([1.0, 2.0]), 3, 1, torch.zeros(1)).shape
        torch.Size([1, 2, 1])
    """
    shape = [1] * ndim
    shape[axis] = -1
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device, like.dtype).reshape(shape)


def tiled(dimension: Dimension) -> bool:
    """Whether the copies are whole blocks ``[x; x; ...]``."""
    return dimension.new % dimension.old == 0 and bool(
        (dimension.source == np.arange(dimension.new) % dimension.old).all()
    )


def mean(block: Tensor, axis: int) -> Tensor:
    """The mean along ``axis`` in float64, kept as a dimension of 1. The order of summation does not
    depend on the layout or the number of threads."""
    rows = np.ascontiguousarray(np.moveaxis(block.to("cpu", torch.float64).numpy(), axis, -1))
    return torch.from_numpy(np.expand_dims(rows.mean(axis=-1), axis)).to(block.device)


class Places:
    """Coordinates along one axis, to be read or written. They are a view where they are evenly
    spaced, or evenly spaced runs of such: the first 64 of every 96.

    Args:
        positions: which coordinates, all of them different.
    """

    def __init__(self, positions: Integers) -> None:
        self.positions, self.runs = positions, _runs(positions)

    def view(self, block: Tensor, axis: int) -> Tensor:
        """The coordinates as a view, with one axis for every level of `runs`."""
        assert self.runs is not None, "no view"
        step = block.stride(axis)
        start = block.storage_offset() + int(self.positions[0]) * step
        shape = (*block.shape[:axis], *(count for count, _ in self.runs), *block.shape[axis + 1 :])
        strides = (*block.stride()[:axis], *(by * step for _, by in self.runs), *block.stride()[axis + 1 :])
        return block.as_strided(shape, strides, start)

    def index(self, device: torch.device) -> Tensor:
        """The coordinates as a tensor."""
        return torch.from_numpy(np.ascontiguousarray(self.positions)).to(device)

    def pick(self, block: Tensor, axis: int) -> Tensor:
        """``block[..., positions, ...]`` along ``axis``.

        Example:
            >>> Places(np.array([2, 0])).pick(torch.tensor([10.0, 20.0, 30.0]), 0).tolist()
            [30.0, 10.0]
        """
        if self.runs is None:
            return block.index_select(axis, self.index(block.device))
        view = self.view(block, axis)
        return view if len(self.runs) == 1 else view.flatten(axis, axis + len(self.runs) - 1)

    def put(self, block: Tensor, axis: int, values: Tensor) -> None:
        """``block[..., positions, ...] = values`` along ``axis``, rounded to the dtype of ``block``.

        Example:
            >>> block = torch.zeros(4)
            >>> Places(np.array([0, 1, 3])).put(block, 0, torch.tensor([5.0, 6.0, 7.0]))
            >>> block.tolist()
            [5.0, 6.0, 0.0, 7.0]
        """
        if self.runs is None:
            block.index_copy_(axis, self.index(block.device), values.to(block.dtype))
        else:
            self.view(block, axis).copy_(values.unflatten(axis, [count for count, _ in self.runs]))


def _runs(positions: Integers) -> tuple[tuple[int, int], ...] | None:
    """(count, step) of evenly spaced positions; of runs of them, those of the runs' starts before.

    Example:
        >>> _runs(np.array([0, 1, 6, 7, 12, 13]))
        ((3, 6), (2, 1))
    """
    steps = np.diff(positions)
    if not len(positions) or (len(steps) and steps[0] <= 0):
        return None
    step = int(steps[0]) if len(steps) else 1
    uneven = np.flatnonzero(steps != step)
    run = int(uneven[0]) + 1 if len(uneven) else len(positions)
    if run == len(positions):
        return ((run, step),)
    if run == 1 or len(positions) % run:
        return None
    table = positions.reshape(-1, run)
    outer = _runs(table[:, 0])
    return (*outer, (run, step)) if outer and bool((np.diff(table) == step).all()) else None


@dataclass(frozen=True, eq=False)
class PlacedCopies:
    """Old coordinates with equally many copies (`growth.algebra.dimensions.Copies`).

    Args:
        coordinates: which.
        positions: the k-th copies of all of them, for each k.
    """

    coordinates: Places
    positions: tuple[Places, ...]


@lru_cache(maxsize=16)
def placed_copies(dimension: Dimension, determined_only: bool = False) -> tuple[PlacedCopies, ...]:
    """`copy_groups`, as places."""
    return tuple(
        PlacedCopies(Places(group.coordinates), tuple(Places(row) for row in group.positions))
        for group in copy_groups(dimension, determined_only)
    )


def take(block: Tensor, axis: int, dimension: Dimension) -> Tensor:
    """``block[..., source, ...]`` along ``axis``, old size -> new size; the mean of ``block`` where
    the dimension carries it. Copies in runs are plain memory copies."""
    if dimension.mean is not None and dimension.averages:
        copies = block.index_select(axis, torch.from_numpy(dimension.source).to(block.device)).to(torch.float64)
        return torch.where(column(dimension.mean, block.ndim, axis, copies) != 0, mean(block, axis), copies)
    if dimension.new == dimension.old and bool((np.diff(dimension.source) == 1).all()):
        return block
    if tiled(dimension):
        return torch.cat([block] * (dimension.new // dimension.old), dim=axis)
    groups = placed_copies(dimension)
    if any(places.runs is None for group in groups for places in (group.coordinates, *group.positions)):
        return block.index_select(axis, torch.from_numpy(dimension.source).to(block.device))
    wide = block.new_empty((*block.shape[:axis], dimension.new, *block.shape[axis + 1 :]))
    for group in groups:
        old = group.coordinates.pick(block, axis)
        for places in group.positions:
            places.put(wide, axis, old)
    return wide


def widened(block: Tensor, axis: int, dimension: Dimension) -> Tensor:
    """A block grown along ``axis``, old size -> new size, as a `Dimension` defines it: ``value[j] *
    block[..., source[j], ...] + shift[j]``.

    Example:
        >>> twice = Dimension(2, np.array([0, 1, 0, 1]), np.full(4, 0.5), np.ones(4), summed=True)
        >>> widened(torch.tensor([[2.0, 4.0]]), 1, twice).tolist()
        [[1.0, 2.0, 1.0, 2.0]]
    """
    wide = take(block, axis, dimension)
    if not (dimension.value == 1.0).all():
        wide = wide * column(dimension.value, block.ndim, axis, block)
    return wide if dimension.shift is None else wide + column(dimension.shift, block.ndim, axis, block)


def fold_dimension(
    block: Tensor, dimension: Dimension, axis: int, coefficients: Floats | None = None, exactly: bool = False
) -> Tensor:
    """Sum over the copies along ``axis``, new size -> old size.

    Args:
        block: what to add up.
        dimension: whose copies.
        axis: its place.
        coefficients: ``[new]``, the factor of each copy; by default its gradient coefficient.
        exactly: add what rounding takes from the running sum at the end, so that a sum which the
            dtype holds comes out to the last bit.

    Example:
        >>> twice = Dimension(2, np.array([0, 1, 0, 1]), np.full(4, 0.5), np.ones(4), summed=True)
        >>> fold_dimension(torch.tensor([1.0, 2.0, 1.5, 2.5]), twice, 0).tolist()
        [2.5, 4.5]
    """
    groups, sums = placed_copies(dimension), []
    for group in groups:
        total, lost = added_up(copies_of(group, block, dimension, axis, coefficients), exactly)
        sums.append(total if lost is None else total + lost)
    return _joined(groups, sums, dimension, axis)


def copies_of(
    group: PlacedCopies,
    block: Tensor,
    dimension: Dimension,
    axis: int,
    coefficients: Floats | None = None,
    dtype: torch.dtype | None = None,
) -> list[Tensor]:
    """The k-th copies of the coordinates of a group, each times its factor, for each k; in a dtype,
    by default that of the block."""
    weights, copies = dimension.gradient if coefficients is None else coefficients, []
    for places in group.positions:
        factors, copy = weights[places.positions], places.pick(block, axis).to(dtype or block.dtype)
        copies.append(copy if (factors == 1.0).all() else copy * column(factors, block.ndim, axis, copy))
    return copies


def added_up(parts: Sequence[Tensor], exactly: bool) -> tuple[Tensor, Tensor | None]:
    """The sum of some tensors, and what rounding took from it; None if nothing did, or if that is not
    asked for.

    Example:
        >>> parts = [torch.tensor(1.0), torch.tensor(2.0**-30)]
        >>> [part.item() for part in added_up(parts, exactly=True)]
        [1.0, 9.313225746154785e-10]
    """
    total, lost = parts[0], None
    for part in parts[1:]:
        reached = total + part
        if exactly:  # Knuth's two-sum: the error of an addition, in the same arithmetic
            taken = reached - total
            error = (total - (reached - taken)).add_(part - taken)
            lost = error if lost is None else lost.add_(error)
        total = reached
    return total, lost


def _joined(groups: Sequence[PlacedCopies], parts: Sequence[Tensor], dimension: Dimension, axis: int) -> Tensor:
    """Values of all old coordinates, from those of each group."""
    if len(groups) == 1 and len(groups[0].coordinates.positions) == dimension.old:
        return parts[0]
    whole = parts[0].new_zeros((*parts[0].shape[:axis], dimension.old, *parts[0].shape[axis + 1 :]))
    for group, part in zip(groups, parts, strict=True):
        group.coordinates.put(whole, axis, part)
    return whole
