"""What a style says, and what goes into its model."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Style:
    """One model.

    Args:
        make: makes it.
        inputs: seed -> arguments of the forward pass by name, in float64.
        told: what `growth.widen` is told.
        grows: fields that grow.
        keeps: fields that stay.
        says: what a refusal says, where it cannot grow.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[int], dict[str, Any]]
    told: dict[str, Any] = field(default_factory=dict)
    grows: tuple[str, ...] = ()
    keeps: tuple[str, ...] = ()
    says: str = ""


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def floats(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=drawn(seed), dtype=torch.float64)


def tokens(entries: int, *shape: int, seed: int = 0) -> Tensor:
    return torch.randint(entries, shape, generator=drawn(seed))


def of(kind: Callable[[Any], nn.Module], **fields: Any) -> Callable[[], nn.Module]:
    return lambda: kind(Namespace(**fields))


def keywords(kind: Callable[..., nn.Module], config: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"config": config, "build": lambda config: kind(**config), **more}
