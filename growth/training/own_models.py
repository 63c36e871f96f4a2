"""A module of the caller's that nobody registered, made ready to grow: its config, how it is built, what
it is run on, and a declaration for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import nn

from growth.architectures.registry import is_declared
from growth.errors import FOREIGN_ERRORS, UnsupportedModelError
from growth.hf.own_build import builder, difference, without_values
from growth.hf.own_inputs import GIVE, OwnInputs, found_inputs, given_inputs, moved, runs
from growth.hf.own_modules import OwnModule, OwnWrapper, declare_own, own_wrapper, registered, remembered
from growth.infer.infer import infer
from growth.proof.undisturbed import undisturbed, weights_kept


def is_own(model: nn.Module, stated: bool) -> bool:
    """Whether a model is a module that nobody registered.

    Args:
        model: the caller's.
        stated: whether the caller says how it is built or what it is run on.

    Raises:
        UnsupportedModelError: if that is said of a model that needs no such thing.
    """
    name = type(model).__name__
    known = getattr(transformers, name, None) is type(model)
    if stated and (known or registered(type(model))):
        raise UnsupportedModelError(
            f"config=, build= and inputs= are for a module of your own that is not registered, and {name} is "
            f"{'a class of transformers' if known else 'registered'}. Leave them out; verify_inputs= is a batch to "
            "run it on."
        )
    if known or registered(type(model)):
        return False
    # A class of the name of a registered one is most often that class, defined again.
    return stated or remembered(model) is not None or not registered(name)


def own_model(
    module: nn.Module, config: Any = None, build: Callable[[Any], nn.Module] | None = None, inputs: Any = None
) -> OwnWrapper:
    """A module of the caller's as a transformers model that has a declaration.

    Args:
        module: it is run on a few inputs, and left as it was.
        config: its config object; by default ``module.config``.
        build: config object -> module; by default ``type(module)(config)``, or with its fields.
        inputs: what it is run on (`growth.hf.own_inputs.given_inputs`); by default token ids or
            features, by its first layer.

    Raises:
        UnsupportedModelError: if one of these is missing or does not fit, or no declaration is found.
    """
    known, name = remembered(module), type(module).__name__
    _check_parametrized(module)
    if config is None:
        config = getattr(module, "config", None)
    if config is None and known is not None:
        config = known.config
    if config is None:
        raise UnsupportedModelError(
            f"{name} has no config (module.config), from which a wider one could be built. If it wraps a model, widen "
            "what is inside; else give it: growth.widen(module, config=..., build=lambda config: ...); or declare the "
            "class with growth.register."
        )
    if build is None and known is not None:
        build = known.build
    made_by = builder(module, config) if build is None else _checked(build, module, config)
    if inputs is None:
        drawn = _found(module, config) if known is None else known.inputs
    else:
        drawn = given_inputs(inputs, module)
        _check_inputs(drawn, module, config)
    model = own_wrapper(module, OwnModule(config, made_by, drawn))
    kind = type(model)
    if not is_declared(kind.config_class.model_type):
        raw = {**model.config.to_dict(), "model_type": kind.config_class.model_type, "architectures": [name]}
        declare_own(kind, infer(raw, kind))
    return model


def _check_parametrized(module: nn.Module) -> None:
    """Refuse a spectral norm: it divides by a length that two vectors estimate, which change with every step of
    training."""
    for name, part in module.named_modules():
        kinds = [type(each).__name__ for each in (*part._forward_pre_hooks.values(), part)]
        if "_SpectralNorm" in kinds or "SpectralNorm" in kinds:
            where = name.partition(".parametrizations")[0]
            raise UnsupportedModelError(
                f"'{where}' has a spectral norm: it divides a matrix by an estimate that goes on changing in "
                "training, so that a wider model would not stay the same. Take it off, grow, and put it on again "
                "(torch.nn.utils.parametrize.remove_parametrizations, torch.nn.utils.remove_spectral_norm)."
            )


def _checked(build: Callable[[Any], nn.Module], module: nn.Module, config: Any) -> Callable[[Any], nn.Module]:
    """The caller's ``build``, if it makes a module like this one."""
    try:
        wrong = difference(module, without_values(build, config))
    except FOREIGN_ERRORS as error:
        wrong = f"it fails ({type(error).__name__}: {str(error)[:200]})"
    if wrong:
        raise UnsupportedModelError(
            f"build(config) does not make this {type(module).__name__}: {wrong}. Correct build=, or the config."
        )
    return build


def _found(module: nn.Module, config: Any) -> OwnInputs:
    """Inputs that a module takes, by its first layer."""
    why: Exception | None = None
    for inputs in found_inputs(module):
        why = _failure(inputs, module, config)
        if why is None:
            return inputs
    raise UnsupportedModelError(
        f"{type(module).__name__} takes neither of the inputs that its first layer suggests ({type(why).__name__}: "
        f"{str(why)[:200]}). {GIVE}"
    )


def _check_inputs(inputs: OwnInputs, module: nn.Module, config: Any) -> None:
    if (why := _failure(inputs, module, config)) is not None:
        raise UnsupportedModelError(
            f"{type(module).__name__} cannot be run on these inputs ({type(why).__name__}: {str(why)[:200]}). Correct "
            "inputs=."
        ) from why


def _failure(inputs: OwnInputs, module: nn.Module, config: Any) -> Exception | None:
    """Why a module cannot be run on inputs; None if it can."""
    weights = [weight for weight in module.parameters() if weight.is_floating_point()]
    device, dtype = (weights[0].device, weights[0].dtype) if weights else ("cpu", torch.get_default_dtype())
    with undisturbed(module), weights_kept(module, copies=True):
        try:
            drawn = inputs.draw(module, config, batch=2, length=11, seed=0)
        except FOREIGN_ERRORS as error:
            return error
        return runs(module, moved(drawn, device, dtype))
