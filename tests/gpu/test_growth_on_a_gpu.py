"""Growth in memory on a device: the bits of growth on the CPU, noise included, and the same function, in float64 on
that device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, PreTrainedModel

import growth
from growth.hf.configs import config_to_build
from growth.hf.model_classes import class_of
from growth.hf.own_inputs import moved
from growth.plan.plan import TOLERANCE, Plan
from growth.proof.float64 import exact_arithmetic
from growth.proof.inputs import random_inputs
from growth.proof.miniature import VOCABULARY, build_exact, loud
from growth.proof.outputs import forward, largest_difference
from growth.proof.twin import prove_twin
from support.devices import DEVICES, differing, on_cpu
from support.family_cases import MAIN, small_config
from support.optimizers import no_twin

__all__ = ["no_twin"]  # a fixture for every test here
pytestmark = pytest.mark.filterwarnings("default")  # what torch warns of on a GPU is not known beforehand

DTYPES = (torch.float32, torch.bfloat16, torch.float64)
CHOICES: dict[str, dict[str, Any]] = {
    "noise": {"width": 2, "noise": 1.0, "seed": 3},
    "uneven, noise": {"width": 1.5, "noise": 1.0},
    "split": {"width": 2, "symmetry": "split:1/2:varied"},
    "deeper, wider heads": {"width": 2, "attention": "head-dim", "layers": 3, "noise": 0.5},
}
FAMILIES = ("llama", "gemma2", "mixtral", "t5")
CASES = [("llama", choice) for choice in CHOICES] + [(family, "noise") for family in FAMILIES[1:]]
BIT_FOR_BIT = [("llama", "noise"), ("llama", "split"), ("mixtral", "noise")]
"""Where no weight rounds, so that the function is the same in the dtype of the weights too."""


def small_model(model_type: str, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """A tiny model with loud random weights in a dtype, on a device."""
    raw = small_config(*next(case for case in MAIN if case[0] == model_type))
    eager = {"attn_implementation": "eager", "experts_implementation": "eager"}  # fused experts want sizes by 16 bytes
    model: PreTrainedModel = class_of(raw)._from_config(config_to_build(raw), **eager)
    loud(model)
    return model.eval().to(dtype).to(device)  # type: ignore[arg-type]


def in_float64(model: PreTrainedModel, device: str) -> PreTrainedModel:
    """The same weights in a model that computes in float64 throughout. Call it in exact arithmetic."""
    raw = {**model.config.to_dict(), "architectures": [type(model).__name__]}
    raw = {**AutoConfig.for_model(raw["model_type"]).to_dict(), **raw}
    exact = build_exact(raw)
    exact.load_state_dict({name: value.double() for name, value in model.state_dict().items()})
    return exact.to(device)  # type: ignore[arg-type]


def apart(small: PreTrainedModel, wide: PreTrainedModel, plan: Plan, device: str) -> float:
    """max |difference| of all outputs, computed in float64 on a device."""
    with exact_arithmetic(), torch.no_grad():
        one, other = in_float64(small, device), in_float64(wide, device)
        inputs = moved(random_inputs(one, VOCABULARY), device)
        return largest_difference(forward(one, inputs), forward(other, inputs), plan)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("model_type", "choice"), CASES)
@pytest.mark.parametrize("device", DEVICES)
def test_a_model_grows_as_on_the_cpu_and_computes_the_same(
    device: str, model_type: str, choice: str, dtype: torch.dtype
) -> None:
    small = small_model(model_type, dtype, device)
    grown = growth.widen(small, **CHOICES[choice])
    assert {value.device.type for value in grown.model.state_dict().values()} == {device}
    assert {value.device.type for value in grown.model.buffers()} <= {device}
    assert {value.dtype for value in grown.model.parameters()} == {dtype}
    assert grown.proof.fold.tensors == len(grown.plan.tensors)
    beside = growth.widen(on_cpu(small), **CHOICES[choice])
    assert differing(grown.model.state_dict(), beside.model.state_dict()) == []
    exact = all(tensor.exact for tensor in grown.plan.tensors.values())
    assert exact == ((model_type, choice) in BIT_FOR_BIT)
    if exact or dtype == torch.float64:
        assert apart(small, grown.model, grown.plan, device) <= TOLERANCE


@pytest.mark.parametrize("device", DEVICES)
def test_a_wrong_weight_is_seen(device: str) -> None:
    """The comparisons themselves: one weight off by a last bit, and by a little more."""
    small = small_model("llama", torch.float32, device)
    grown = growth.widen(small, width=2, noise=1.0)
    beside = growth.widen(on_cpu(small), width=2, noise=1.0)
    name = "model.layers.1.mlp.down_proj.weight"
    weight = grown.model.get_parameter(name).data
    weight[3, 5] = torch.nextafter(weight[3, 5], weight.new_tensor(9.0))
    assert differing(grown.model.state_dict(), beside.model.state_dict()) == [name]
    weight[3, 5] += 1e-3
    assert apart(small, grown.model, grown.plan, device) > 1e-6
    on_another_seed = growth.widen(on_cpu(small), width=2, noise=1.0, seed=1)
    assert len(differing(on_another_seed.model.state_dict(), beside.model.state_dict())) > 5


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("device", DEVICES)
def test_the_twin_agrees_on_the_device(device: str, choice: str) -> None:
    plan = growth.plan_widening(small_model("llama", torch.float32, device), **CHOICES[choice])
    report = prove_twin(plan, device)
    assert report.difference <= TOLERANCE < 1e-6 * report.scale
