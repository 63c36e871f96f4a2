"""Building the wider model in memory like the one that grew: same class, attention implementation,
ties, flags and modes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from growth.errors import UnsupportedModelError
from growth.hf.configs import Config, config_to_build
from growth.hf.custom_modules import MODULE, inner_module
from growth.hf.dtensors import whole
from growth.hf.inner_names import buffers_of, modules_of, parameters_of
from growth.hf.tensor_names import from_disk
from growth.plan.plan import Plan
from growth.proof.settings import GRADIENT_SETTINGS


def without_ties(model: PreTrainedModel) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The state dict of a model, with each tied weight once.

    Returns:
        Name -> tensor, and for each name left out, the name it is tied to.
    """
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


CHECKPOINTING = ("gradient_checkpointing", "_gradient_checkpointing_func")
"""Attributes of a module with gradient checkpointing: whether it is on, and the function."""


def rebuild(
    model: PreTrainedModel, plan: Plan, state: dict[str, Tensor], ties: dict[str, str], tables: torch.dtype
) -> PreTrainedModel:
    """A model of the class of ``model``, with the config of the plan and the grown weights.

    Args:
        model: the one that grew.
        plan: how it grew.
        state: tensor name on disk -> grown tensor.
        ties: parameter name -> the name it is tied to (`without_ties`).
        tables: the dtype in which its tables are worked out (`same_by_config`).

    Returns:
        The wider model, in the modes of ``model``: which parameters train, train or eval of every
        module, dropout, gradient checkpointing, generation config.
    """
    source: Callable[[str], str] = str if plan.extension is None else plan.extension.module_source
    new, pairs = _built(model, plan.new, tables, source)
    weights = from_disk(new, state)
    # a tied weight that has become one of its own is among the weights
    load(new, weights, {name: shared for name, shared in ties.items() if name not in weights})
    held = parameters_of(model, remove_duplicate=False)
    trained = {name: parameter.requires_grad for name, parameter in held.items()}
    for name, parameter in new.named_parameters():
        parameter.requires_grad_(trained.get(source(name), True))
    for old, made in ((model, new), (inner_module(model), inner_module(new))):
        if isinstance(old, PreTrainedModel) and old.can_generate():
            cast(PreTrainedModel, made).generation_config = copy.deepcopy(old.generation_config)
    if any(getattr(module, "gradient_checkpointing", False) for module in model.modules()):
        # renamed in transformers 5
        getattr(new, "activation_checkpointing_enable", new.gradient_checkpointing_enable)()
    _copy_modes(pairs)
    return new


def same_by_config(model: PreTrainedModel, config: Config) -> tuple[PreTrainedModel, torch.dtype]:
    """A model of the class of ``model``, built anew from its config; it has no weights yet
    (`share_weights`).

    Tables that are no weights (frequencies, sinusoids) depend on the dtype in which they are worked
    out: ``from_pretrained`` does that in the default dtype, a constructor under ``dtype=`` in that.
    A table does not tell which it was, so the one that gives the model's tables is found by trying.

    Returns:
        The model, and that dtype; the default dtype if neither gives them.
    """
    default, own = torch.get_default_dtype(), model.config.dtype
    own = getattr(torch, own) if isinstance(own, str) else own or default  # a string once it was saved
    stored = model.state_dict().keys()
    computed = {name: value for name, value in buffers_of(model).items() if name not in stored}
    found = []
    for tables in dict.fromkeys((default, own)):
        new, _ = _built(model, config, tables)
        found.append((new, tables))
        buffers = dict(new.named_buffers())
        if all(name not in buffers or torch.equal(whole(value), buffers[name]) for name, value in computed.items()):
            break
    else:
        new, tables = found[0]
    return new, tables


def share_weights(new: PreTrainedModel, model: PreTrainedModel) -> PreTrainedModel:
    """Give a class built anew the weights of a model, which the two share from then on."""
    load(new, *without_ties(model))
    return new


def check_parts(model: PreTrainedModel, same: PreTrainedModel) -> None:
    """Refuse a model in which a module with weights was replaced or wrapped.

    Args:
        model: the caller's.
        same: its class built anew.

    Raises:
        UnsupportedModelError: naming a weight that is missing, and one that is there instead.
    """
    held, wanted = model.state_dict().keys(), same.state_dict().keys()
    if lacking := next((name for name in wanted if name not in held), None):
        strange = next((name for name in held if name not in wanted), None)
        named = type(model).__name__
        raise UnsupportedModelError(
            f"this {named} has no '{lacking.removeprefix(f'{MODULE}.')}'"
            + (f", but has '{strange.removeprefix(f'{MODULE}.')}'" if strange else "")
            + ": a module was replaced or wrapped. A wider model would be built from the config, without that. Put "
            f"back the module of {named}, and merge or remove what was added (adapters, masks, parametrisations)."
        )


def load(new: PreTrainedModel, state: Mapping[str, Tensor], ties: Mapping[str, str]) -> None:
    """Give a model its weights, and tie them."""
    new.load_state_dict(state, strict=False, assign=True)
    for name, shared in ties.items():
        _set_parameter(new, name, new.get_parameter(shared))


def _built(
    model: PreTrainedModel, config: Config, tables: torch.dtype, source: Callable[[str], str] = str
) -> tuple[PreTrainedModel, Pairs]:
    """A model of the class of ``model`` with another config, with tables on its devices and weights
    that are not set; and the modules of the two in pairs: a path in the new model has that of
    ``source`` in the old one."""
    built = config_to_build(config)
    configs = [built, *(part for name in built.sub_configs if (part := getattr(built, name)) is not None)]
    dtypes = [each.dtype for each in configs]
    with torch.random.fork_rng(devices=[]), no_init_weights():
        new: PreTrainedModel = type(model)._from_config(
            built,
            attn_implementation=model.config._attn_implementation,
            experts_implementation=model.config._experts_implementation,
            dtype=tables,
        )
    for each, dtype in zip(configs, dtypes, strict=True):
        each.dtype = dtype
    parts = modules_of(model)
    # Modules that were added to the model by hand, such as a loss without weights, have no partner.
    pairs = [(parts[source(path)], module) for path, module in new.named_modules() if source(path) in parts]
    _remove_missing_parts(pairs)
    old_buffers = buffers_of(model)
    for name, buffer in new.named_buffers():
        if (held := old_buffers.get(source(name))) is not None:
            buffer.data = buffer.data.to(held.device, held.dtype)
    return new, pairs


Pairs = Sequence[tuple[nn.Module, Any]]
"""Modules of the old model and those of the new one under the same names."""


def _remove_missing_parts(pairs: Pairs) -> None:
    """Remove what the old model was made without, by an argument of its constructor (BERT's
    pooler)."""
    for module, same in pairs:
        for child in list(same._modules):
            if getattr(module, child, same) is None:
                setattr(same, child, None)


def _copy_modes(pairs: Pairs) -> None:
    """Give every module the mode of its partner: train or eval, dropout, gradient checkpointing,
    which gradient an embedding gets."""
    for module, same in pairs:
        same.training = module.training
        if isinstance(module, nn.Dropout):
            same.p = module.p
        if isinstance(module, nn.Embedding):
            for name in GRADIENT_SETTINGS:
                setattr(same, name, getattr(module, name))
        for name in CHECKPOINTING:
            if name in vars(module):
                setattr(same, name, vars(module)[name])


def _set_parameter(model: nn.Module, name: str, parameter: Any) -> None:
    """Put a parameter into a model under a dotted name."""
    owner, _, last = name.rpartition(".")
    setattr(model.get_submodule(owner), last, parameter)
