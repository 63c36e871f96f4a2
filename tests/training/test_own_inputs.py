"""What modules that nobody registered are run on: inputs that are found, and those that the caller gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import growth
from growth.architectures import (
    FFN,
    RESIDUAL,
    Architecture,
    Copied,
    Keeps,
    Linear,
    Size,
    convolution,
    feed_forward,
    linear,
)
from growth.hf.own_inputs import Features, Made, Tokens, found_inputs
from growth.plan.plan import TOLERANCE
from growth.proof.float64 import exact_arithmetic
from support.own_cases import gpt, random_signal, ready, selective
from support.own_models import GPT, GPTConfig, Selective, selective_config


def test_inputs_that_are_chosen(asked: list[Any]) -> None:
    growth.widen(gpt(block_size=7))  # 11 tokens are too many
    growth.widen(selective(features=6))
    growth.widen(selective(features=4), inputs=random_signal)
    found = [each[2] for each in asked]
    assert found == [Tokens("idx", 5), Features("signal", True), Made(random_signal, ("signal",))]


class Inner(nn.Module):
    """A part of a model: its inputs are as wide as what it grows."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.up, self.down = nn.Linear(config["width"], config["inner"]), nn.Linear(config["inner"], config["width"])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).relu())


class Image(nn.Module):
    """It begins with a convolution, has a norm with a memory, and takes its inputs as they come."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.norm, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, config["width"], 3)
        self.head = nn.Linear(config["width"], 10)

    def forward(self, *images: Tensor, shift: float = 0.0) -> Tensor:
        logits: Tensor = self.head(self.conv(self.norm(sum(images)) + shift).tanh().mean((2, 3)))
        return logits


def test_parts_of_a_model(declared: dict[type, Architecture]) -> None:
    rules = feed_forward(("up",), "down", reads=RESIDUAL, writes=RESIDUAL)
    sizes = {"hidden_size": Size("width", small=9), "intermediate_size": Size("inner", small=11)}
    laws = {RESIDUAL: Linear(), FFN: Copied()}
    rule = Architecture("inner", modules=rules, laws=laws, sizes=sizes, outputs={"logits": RESIDUAL})
    declared[Inner] = rule
    model = Inner({"width": 8, "inner": 12})
    with pytest.raises(growth.UnsupportedModelError, match="where an input has a dimension that grows, the module is"):
        growth.widen(model)
    grown = growth.widen(model, intermediate_size=36)
    x = torch.randn(4, 8)
    assert grown.config["inner"] == 36 and torch.allclose(grown.model(x), model(x), atol=1e-6)


@pytest.mark.parametrize("inputs", ["zeros", "two", "named", "function"])
def test_images(inputs: str, declared: dict[type, Architecture]) -> None:
    kept = {name: (Keeps(),) for name in ("weight", "bias", "running_mean", "running_var")}
    modules = {
        "norm": {**kept, "num_batches_tracked": ()},
        "conv": convolution(None, FFN, kernel=2),
        "head": linear(FFN),
    }
    sizes = {"intermediate_size": Size("width", small=9)}
    rule = Architecture("image", modules=modules, laws={FFN: Copied()}, sizes=sizes)
    declared[Image] = rule
    model, image = ready(Image({"width": 8})), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    model.train()(image)  # its norm remembers
    with pytest.raises(growth.UnsupportedModelError, match=r"Image begins with Conv2d.* Give inputs: growth.widen\("):
        growth.widen(model)
    given: Any = {
        "zeros": torch.zeros(1, 3, 6, 6),
        "two": (image, image + 1),
        "named": {"input_0": image, "shift": 0.5},
        "function": lambda config: [torch.randn(2, 3, 5, 5) * config["width"]],
    }[inputs]
    grown = growth.widen(model, width=1.5, inputs=given)
    assert grown.proof.run is not None and "input_0" in grown.proof.run.inputs
    wide = grown.model.eval()
    with exact_arithmetic(), torch.no_grad():
        assert float((wide(image) - model.eval()(image)).abs().max()) <= TOLERANCE
    declared[Image] = replace(rule, laws={FFN: Linear()})
    with pytest.raises(growth.ProofError):
        growth.widen(ready(Image({"width": 10})), inputs=given, scaling="orthogonal")


def test_several_inputs_have_to_be_given() -> None:
    class Two(Selective):
        def forward(self, signal: Tensor, other: Tensor) -> Any:  # type: ignore[override]
            return super().forward(signal + other)

    with pytest.raises(growth.UnsupportedModelError, match=r"Two takes several inputs \(signal, other\). Give inputs"):
        growth.widen(Two(selective_config()))


def test_a_miniature_keeps_what_the_inputs_need() -> None:
    """Token 49 is not in the vocabulary of 41 that a miniature has otherwise."""
    last = torch.full((1, 5), 49)
    assert growth.widen(gpt(n_embd=36), inputs=last).proof.twin.ok


def test_a_mask_hides_the_end_of_a_row() -> None:
    class Masked(GPT):  # type: ignore[misc]
        def forward(self, idx: Tensor, attention_mask: Tensor | None = None) -> Any:
            logits = super().forward(idx)[0]
            return logits if attention_mask is None else logits * attention_mask[..., None]

    (inputs, *_) = found_inputs(Masked(GPTConfig()))
    drawn = inputs.draw(Masked(GPTConfig()), None, batch=2, length=6, seed=0)
    assert drawn["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1] * 6] and drawn["idx"].shape == (2, 6)
