"""The wider model in memory: same class, same attention implementation, same ties, flags and modes
as the one that grew."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from growth.hf.configs import config_to_build
from growth.hf.tensor_names import from_disk
from growth.plan.plan import Plan


def without_ties(model: PreTrainedModel) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict with every shared parameter once, and {left-out name: name it shares with}."""
    first: dict[int, str] = {}
    state: dict[str, Tensor] = {}
    ties: dict[str, str] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if id(value) in first:
            ties[name] = first[id(value)]
        else:
            first[id(value)] = name
            state[name] = value.detach()
    return state, ties


def rebuild(model: PreTrainedModel, plan: Plan, state: dict[str, Tensor], ties: dict[str, str]) -> PreTrainedModel:
    config = config_to_build(plan.new_config)
    with torch.random.fork_rng(devices=[]), no_init_weights():
        new: PreTrainedModel = type(model)._from_config(
            config,
            attn_implementation=model.config._attn_implementation,
            experts_implementation=model.config._experts_implementation,
        )
    parts = dict(new.named_modules())
    both = [
        (module, parts[path]) for path, module in model.named_modules() if path in parts
    ]  # a loss hung on by hand has no weights
    for module, same in both:  # a part that a constructor argument left out, such as BERT's pooler, stays out
        for child in list(same._modules):
            if getattr(module, child) is None:
                setattr(same, child, None)
    old_buffers = dict(model.named_buffers())
    for name, buffer in new.named_buffers():
        if name in old_buffers:
            buffer.data = buffer.data.to(old_buffers[name].device, old_buffers[name].dtype)
    new.load_state_dict(from_disk(new, state), strict=False, assign=True)
    for name, shared in ties.items():
        _set_parameter(new, name, new.get_parameter(shared))
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    for name, parameter in new.named_parameters():
        parameter.requires_grad_(trained.get(name, True))
    if model.can_generate():
        new.generation_config = copy.deepcopy(model.generation_config)
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        getattr(
            new, "activation_checkpointing_enable", new.gradient_checkpointing_enable
        )()  # renamed in transformers 5
    for module, same in both:
        same.training = module.training
        if isinstance(module, nn.Dropout):
            same.p = module.p
        for name in CHECKPOINTING:
            if name in vars(module):
                setattr(same, name, vars(module)[name])
    return new


CHECKPOINTING = ("gradient_checkpointing", "_gradient_checkpointing_func")
"""What a module holds that recomputes its activations: whether, and how."""


def _set_parameter(model: nn.Module, name: str, parameter: Any) -> None:
    owner, _, last = name.rpartition(".")
    setattr(model.get_submodule(owner), last, parameter)
