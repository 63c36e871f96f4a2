"""Devices by name."""

from __future__ import annotations

import torch

from growth.errors import CheckpointError


def usable_device(name: str | torch.device) -> torch.device:
    """The device of that name, after a tensor could be put onto it.

    Raises:
        CheckpointError: if there is none of that name here.

    Example:
        >>> usable_device("cpu")
        device(type='cpu')
    """
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(
            f"device '{name}' cannot be used here: {str(error).split('. ')[0][:200]}. Use cpu."
        ) from error
