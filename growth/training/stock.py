"""A model in memory as a transformers model, whatever it is; and what growth would do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel

from growth.errors import UnsupportedModelError
from growth.hf.configs import Config
from growth.hf.custom_modules import ModuleWrapper, as_transformers
from growth.hf.dtensors import hollow
from growth.hf.tensor_names import to_disk
from growth.infer.prepare import prepare
from growth.plan.options import Options
from growth.plan.plan import Plan
from growth.training import own_models
from growth.training.rebuild import without_ties
from growth.training.wrappers import check_unwrapped, own_classes, uncompiled


def model_plan(
    model: nn.Module, options: Options, config: Any, build: Callable[[Any], nn.Module] | None, inputs: Any
) -> Plan:
    """What `widen` would do with a model; its arguments are those of `widen`. Raises what that does
    before it looks at a weight."""
    model = uncompiled(model)
    check_unwrapped(model)
    with own_classes(model):
        stock = as_stock(model, config, build, inputs)
        shapes = {name: hollow(value) for name, value in without_ties(stock)[0].items()}
        return plan_of(raw_of(stock), options, to_disk(stock, shapes))


def raw_of(stock: PreTrainedModel) -> Config:
    """The config of a model, which names its class."""
    return Config({**stock.config.to_dict(), "architectures": [type(stock).__name__]})


def plan_of(raw: Config, options: Options, state: Mapping[str, Tensor]) -> Plan:
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    return prepare(raw, options, shapes, {key: value.dtype for key, value in state.items()})


def as_stock(model: nn.Module, config: Any, build: Callable[[Any], nn.Module] | None, inputs: Any) -> PreTrainedModel:
    """The model as a transformers model: itself, or a module wrapped as one.

    Raises:
        UnsupportedModelError: a class that is neither transformers' own nor registered, and for which no
            declaration is found.
    """
    name = type(model).__name__
    stated = any(value is not None for value in (config, build, inputs))
    if own_models.is_own(model, stated):
        return own_models.own_model(model, config, build, inputs)
    stock = as_transformers(model) or model
    known = isinstance(stock, ModuleWrapper) or getattr(transformers, name, None) is type(stock)
    if not isinstance(stock, PreTrainedModel) or not known:
        raise UnsupportedModelError(
            f"{name} is neither a stock transformers model class nor a registered one. If it wraps one, widen what is "
            "inside; otherwise declare it with growth.register."
        )
    return stock
