"""Devices by name."""

from __future__ import annotations

import torch

from growth.errors import FOREIGN_ERRORS, CheckpointError, shown


def usable_device(name: str | torch.device, dtype: torch.dtype = torch.float32) -> torch.device:
    """The device of that name, after a tensor could be put onto it.

    Args:
        name: such as ``cuda:1``.
        dtype: what it has to compute in; some devices have no float64.

    Raises:
        CheckpointError: if there is none of that name here.

    Example:
        >>> usable_device("cpu")
        device(type='cpu')
    """
    try:
        device = torch.zeros(1, device=name, dtype=dtype).device if name is not None else torch.device("meta")
    except FOREIGN_ERRORS as error:
        raise CheckpointError(
            f"device {shown(name)} cannot be used here: {str(error).split('. ')[0][:200]}. Use cpu."
        ) from error
    if device.type == "meta":
        raise CheckpointError(f"device {shown(name)} computes nothing. Use cpu.")
    return device
