"""Tensors that are spread over the ranks of a process group (`torch.distributed.tensor.DTensor`): read
whole, and written part by part. An ordinary tensor is its own whole and its own part."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def is_spread(value: Tensor) -> bool:
    """Whether a tensor or parameter is a DTensor."""
    return isinstance(value, DTensor)


def is_sharded(model: nn.Module) -> bool:
    """Whether any parameter of a model is a DTensor."""
    return any(map(is_spread, model.parameters()))


def whole(value: Tensor) -> Tensor:
    """All of a tensor, on the device of its mesh. Of a DTensor every rank of the mesh must ask for it at
    the same time."""
    if not isinstance(value, DTensor):
        return value
    kind = value.device_mesh.device_type
    there: Any = value if value.device.type == kind else value.to(kind)  # offloaded to the CPU
    gathered: Tensor = there.full_tensor()
    return gathered


def local(value: Tensor) -> Tensor:
    """This rank's part of a tensor."""
    return value.to_local() if isinstance(value, DTensor) else value


def with_local(value: Tensor, part: Tensor) -> Tensor:
    """A tensor spread as ``value`` is, of which this rank has another part."""
    assert isinstance(value, DTensor)
    placed: Tensor = DTensor.from_local(
        part, value.device_mesh, value.placements, run_check=False, shape=value.shape, stride=value.stride()
    )
    return placed


def checksum(value: Tensor) -> int:
    """A number that differs, all but surely, where two tensors of one shape and dtype do."""
    return zlib.crc32(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)


def hollow(value: Tensor) -> Tensor:
    """An ordinary tensor of the same shape and dtype without data (device meta)."""
    return torch.empty(value.shape, dtype=value.dtype, device="meta")


@torch.no_grad()
def put(target: Tensor, value: Tensor) -> None:
    """Write a whole tensor, which every rank has, into one that may be spread: each rank writes its
    part, and nothing is sent."""
    if isinstance(target, DTensor):
        value = distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None).to_local()
    local(target).copy_(value)


def spread_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every rank has, placed as another one of its shape is."""
    if not isinstance(like, DTensor):
        return value
    placed = torch.empty_like(like, dtype=value.dtype, requires_grad=False)
    put(placed, value)
    return placed
