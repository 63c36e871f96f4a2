"""Blocks of a tensor, along one of its dimensions: taking copies, adding them up.

Everywhere ``axis`` is the place of the dimension in the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from growth.algebra.dimensions import Dimension, copy_table
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


def take(block: Tensor, axis: int, dimension: Dimension) -> Tensor:
    """``block[..., source, ...]`` along ``axis``, old size -> new size; the mean of ``block`` where
    the dimension carries it. Whole blocks of copies are plain memory copies."""
    if dimension.mean is not None and dimension.averages:
        copies = block.index_select(axis, torch.from_numpy(dimension.source).to(block.device)).to(torch.float64)
        return torch.where(column(dimension.mean, block.ndim, axis, copies) != 0, mean(block, axis), copies)
    if dimension.new == dimension.old and bool((np.diff(dimension.source) == 1).all()):
        return block
    if tiled(dimension):
        return torch.cat([block] * (dimension.new // dimension.old), dim=axis)
    return block.index_select(axis, torch.from_numpy(dimension.source).to(block.device))


def widened(block: Tensor, axis: int, dimension: Dimension) -> Tensor:
    """A block grown along ``axis``, old size -> new size, as a `Dimension` defines it: ``value[j] *
    block[..., source[j], ...] + shift[j]``.

    Example:
        >>> twice = Dimension(2, np.array([0, 1, 0, 1]), np.full(4, 0.5), np.ones(4), summed=True)
        >>> widened(torch.tensor([[2.0, 4.0]]), 1, twice).tolist()
        [[1.0, 2.0, 1.0, 2.0]]
    """
    wide = take(block, axis, dimension) * column(dimension.value, block.ndim, axis, block)
    return wide if dimension.shift is None else wide + column(dimension.shift, block.ndim, axis, block)


def pick(block: Tensor, axis: int, positions: Integers) -> Tensor:
    """``block[..., positions, ...]`` along ``axis``; a position of -1 picks the first coordinate. A
    view where positions are evenly spaced.

    Example:
        >>> pick(torch.tensor([10.0, 20.0, 30.0]), 0, np.array([2, -1])).tolist()
        [30.0, 10.0]
    """
    if (even := _evenly_spaced(positions)) is not None:
        return block[(slice(None),) * axis + (even,)]
    return block.index_select(axis, torch.from_numpy(positions.clip(min=0)).to(block.device))


def put(block: Tensor, axis: int, positions: Integers, values: Tensor) -> None:
    """``block[..., positions, ...] = values`` along ``axis``; values at a position of -1 are left
    out.

    Example:
        >>> block = torch.zeros(3)
        >>> put(block, 0, np.array([2, -1]), torch.tensor([5.0, 7.0]))
        >>> block.tolist()
        [0.0, 0.0, 5.0]
    """
    if (even := _evenly_spaced(positions)) is not None:
        block[(slice(None),) * axis + (even,)] = values
        return
    taken = np.flatnonzero(positions >= 0)
    chosen = values.index_select(axis, torch.from_numpy(taken).to(block.device))
    block.index_copy_(axis, torch.from_numpy(positions[taken]).to(block.device), chosen.to(block.dtype))


def _evenly_spaced(positions: Integers) -> slice | None:
    """Positions as a slice, where they are one and none is -1."""
    step = int(positions[1] - positions[0]) if len(positions) > 1 else 1
    if len(positions) and positions[0] >= 0 and step > 0 and bool((np.diff(positions) == step).all()):
        return slice(int(positions[0]), int(positions[-1]) + 1, step)
    return None


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
    weights = dimension.gradient if coefficients is None else coefficients
    total: Tensor | None = None
    lost = torch.zeros((), dtype=block.dtype, device=block.device)
    for positions in copy_table(dimension):
        factors = np.where(positions >= 0, weights[positions], 0.0)
        part = pick(block, axis, positions)
        part = part if (factors == 1.0).all() else part * column(factors, block.ndim, axis, block)
        if total is None:
            total = part
            continue
        reached = total + part
        if exactly:  # Knuth's two-sum: the error of an addition, in the same arithmetic
            taken = reached - total
            lost = lost + ((total - (reached - taken)) + (part - taken))
        total = reached
    assert total is not None, "a dimension without coordinates"
    return total + lost if exactly else total
