"""Unusable models in memory, and models that cannot be compared: a one-line error of a named type, and
the model is left unchanged."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedModel

import growth
from growth import CheckpointError, GrowthError, UnsupportedModelError
from support.refusals import Sources, check_message, offline, sources
from support.small_models import bert, llama

__all__ = ["offline", "sources"]  # fixtures, the first for every test here


def refused_in_memory(model: Any, error: type[GrowthError], *says: str, step: str | None = None) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()} if isinstance(model, nn.Module) else {}
    with pytest.raises(GrowthError) as caught:
        growth.widen(model)
    assert type(caught.value) is error or error is GrowthError
    check_message(str(caught.value), says, step)
    for key, value in before.items():
        assert value.is_meta or torch.equal(model.state_dict()[key].view(torch.uint8), value.view(torch.uint8))


FOREIGN: dict[str, tuple[Callable[[PreTrainedModel], Any], str, str]] = {
    "sequence": (nn.Sequential, "Sequential has no config", "If it wraps a model, widen what is inside"),
    "parallel": (nn.DataParallel, "DataParallel wraps a model in", "Widen its .module"),
    "path": (lambda model: "llama", "str is not a model", "Load one first"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_model_that_is_not_stock_is_refused(name: str) -> None:
    wrap, says, step = FOREIGN[name]
    refused_in_memory(wrap(llama()), UnsupportedModelError, says, step=step)


def test_model_with_nan_is_refused() -> None:
    model = llama()
    model.lm_head.weight.data[3, 4] = float("nan")
    refused_in_memory(model, CheckpointError, "lm_head.weight", "NaN")


def test_model_with_an_added_parameter_is_refused() -> None:
    model = llama()
    model.register_parameter("adapter", nn.Parameter(torch.zeros(3)))
    refused_in_memory(model, UnsupportedModelError, "'adapter'")


def test_model_with_an_unsupported_config_field_is_refused() -> None:
    model = llama()
    model.config.residual_multiplier = 2.0
    refused_in_memory(model, UnsupportedModelError, "residual_multiplier", "2.0", step="vouch")


def test_model_with_a_pruned_layer_is_refused() -> None:
    model = llama()
    model.model.layers[0].mlp.up_proj = nn.Linear(24, 30, bias=False)
    refused_in_memory(model, CheckpointError, "model.layers.0.mlp.up_proj.weight", "[30, 24]", "[40, 24]")


def test_model_with_a_bias_its_config_does_not_know_is_refused() -> None:
    model = llama()
    bias = nn.Linear(24, 40)
    bias.weight = model.model.layers[0].mlp.up_proj.weight
    model.model.layers[0].mlp.up_proj = bias
    refused_in_memory(model, GrowthError, "layers.0.mlp.up_proj.bias")


def test_model_with_a_layer_its_config_does_not_know_is_refused() -> None:
    model = bert()
    model.bert.encoder.layer.append(copy.deepcopy(model.bert.encoder.layer[0]))
    refused_in_memory(model, GrowthError, "encoder.layer.2.")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_model_of_a_quantised_dtype_is_refused(dtype: torch.dtype) -> None:
    model = llama()
    quantised = model.model.layers[1].mlp.up_proj.weight.data.to(dtype)
    model.model.layers[1].mlp.up_proj.weight = nn.Parameter(quantised, requires_grad=False)
    refused_in_memory(model, CheckpointError, "model.layers.1.mlp.up_proj.weight", str(dtype))


def test_model_without_data_is_refused() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(llama().config)
    refused_in_memory(model, GrowthError, "meta")


@pytest.mark.parametrize("options", [{"dtype": "nope"}, {"dtype": "int8"}, {"device": "nope"}, {"tokens": 1}], ids=str)
def test_comparison_is_refused(options: dict[str, Any], sources: Sources) -> None:
    ((name, value),) = options.items()
    with pytest.raises(GrowthError) as caught:
        growth.check_equivalence(sources["llama"], sources["llama"], **options)
    check_message(str(caught.value), (name, str(value)), ".")


def test_comparison_of_two_kinds_is_refused(sources: Sources) -> None:
    with pytest.raises(CheckpointError) as caught:
        growth.check_equivalence(sources["llama"], sources["bert"])
    check_message(str(caught.value), ("LlamaForCausalLM", "BertForMaskedLM"), "Compare models of the same class")
