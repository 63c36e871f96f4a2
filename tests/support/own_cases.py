"""Three modules of one's own with loud weights, what `growth.widen` is told of them, and inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from growth.proof.miniature import loud
from support.own_models import DECODER_CONFIG, GPT, Decoder, GPTConfig, Selective, selective_config


def ready(model: Any) -> Any:
    """A module with loud float64 weights."""
    model = model.double()
    loud(model)
    return model


def gpt(**fields: Any) -> Any:
    return ready(GPT(GPTConfig(**fields)))


def decoder() -> Any:
    return ready(Decoder(**DECODER_CONFIG))


def selective(**fields: Any) -> Any:
    return ready(Selective(selective_config(**fields)))


def ids(seed: int = 0) -> Tensor:
    return torch.randint(50, (3, 9), generator=torch.Generator().manual_seed(seed))


def signal(seed: int = 0) -> Tensor:
    return torch.randn(3, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_signal(config: Any) -> dict[str, Any]:
    return {"signal": torch.randn(2, 6, config.features), "scale": 0.5}


Case = tuple[Callable[[], Any], dict[str, Any], Callable[[int], Tensor], Callable[[Any], Tensor]]


CASES: dict[str, Case] = {
    "a dataclass": (gpt, {}, ids, lambda output: output[0]),
    "keywords": (
        decoder,
        {"config": DECODER_CONFIG, "build": lambda config: Decoder(**config)},
        ids,
        lambda output: output,
    ),
    "floats": (selective, {"inputs": (signal().float(),)}, signal, lambda output: output["classes"]),
}
"""How to make it, what growth.widen is told, inputs, and the output."""
