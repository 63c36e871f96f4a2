"""A module of the caller's that nobody registered, in the form of a transformers model.

Like a registered module (`growth.hf.custom_modules`) it gets a pair of wrapper classes, here made on
the fly from the module's own class and its own config object:

    OwnConfigWrapper(PreTrainedConfig)   has the fields of the config object
    OwnWrapper(ModuleWrapper)            holds the module as ``.module``; its forward calls it

A pair belongs to one class, one way to build it, one config and one kind of inputs, whatever the
class is called, and has a ``model_type`` of its own (``own/GPT``, ``own/GPT/2``). So two classes of one
name are never mixed. Modules that were wrapped are remembered as long as they live, so that a grown
module grows again without being told how it is built.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import AutoConfig
from transformers.utils.generic import ModelOutput

from growth.architectures.architecture import Architecture
from growth.architectures.registry import UNLISTED, add
from growth.errors import FOREIGN_ERRORS, UnsupportedModelError
from growth.hf.custom_modules import WRAPPERS, ModuleWrapper, as_transformers, named_outputs
from growth.hf.own_configs import OwnConfigWrapper, all_fields, config_fields, own_wrapper_of
from growth.hf.own_inputs import OwnInputs, call

ASKED = frozenset({"output_hidden_states", "return_dict", "use_cache", "output_router_logits", "output_attentions"})
"""What transformers models are asked, and a module of the caller's is not."""


@dataclass(frozen=True)
class OwnModule:
    """What is known of a module of the caller's.

    Args:
        config: its config object.
        build: config object -> module.
        inputs: what it is run on.
    """

    config: Any
    build: Callable[[Any], nn.Module]
    inputs: OwnInputs


class OwnWrapper(ModuleWrapper):
    """A transformers model whose whole computation is a module of the caller's. Its ``forward``
    takes the inputs of the module by name; ``input_0``, ... go by position."""

    config_class = OwnConfigWrapper
    build: ClassVar[Callable[[Any], nn.Module]]
    inputs: ClassVar[OwnInputs]

    @classmethod
    def made(cls, config: Any) -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a constructor at sizes that the caller did not choose
            return cls.build(config.to_own())

    def forward(self, **given: Any) -> ModelOutput:  # type: ignore[override]
        """The module's outputs, by name (`growth.hf.custom_modules.named_outputs`).

        Raises:
            UnsupportedModelError: if the module fails or returns no tensor to compare.
        """
        name, inputs = type(self).__name__, {key: value for key, value in given.items() if key not in ASKED}
        try:
            outputs = named_outputs(call(self.module, inputs), self.declared_outputs)
        except FOREIGN_ERRORS as error:
            said = ", ".join(
                f"{key} {list(value.shape) if isinstance(value, Tensor) else type(value).__name__}"
                for key, value in inputs.items()
            )
            raise UnsupportedModelError(
                f"{name} failed on {said} ({type(error).__name__}: {str(error)[:200]}). Give inputs that it takes "
                "(growth.widen(module, inputs=...)); where an input has a dimension that grows, the module is a part "
                "of a model: grow the whole, or name a size that no input has."
            ) from error
        if not any(value.is_floating_point() and value.ndim for value in outputs.values()):
            raise UnsupportedModelError(
                f"{name} returns no floating-point tensor, so there is nothing to compare. Return a tensor, or a "
                "tuple or mapping of tensors."
            )
        return ModelOutput(**outputs)

    def draw(self, *, batch: int, length: int, seed: int) -> dict[str, Any]:
        """Inputs that fit this model, on the CPU (`growth.hf.own_inputs.OwnInputs.draw`)."""
        return self.inputs.draw(self.module, self.config.to_own(), batch=batch, length=length, seed=seed)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedModelError(
            f"{cls.__name__} is a module of your own, which only your code can read from a file. Register its class "
            "to keep it in checkpoint folders (growth.register)."
        )


_OWN: dict[str, type[OwnWrapper]] = {}
"""model_type -> the wrapper class."""

_REMEMBERED: WeakKeyDictionary[nn.Module, tuple[type[OwnWrapper], OwnModule]] = WeakKeyDictionary()
"""A module that was wrapped -> its wrapper class, and what is known of it."""


def own_wrapper(module: nn.Module, own: OwnModule) -> OwnWrapper:
    """A module in a wrapper, sharing its parameters. It has no declaration yet (`declare_own`).

    Args:
        module: the caller's.
        own: what is known of it.
    """
    kind = next((kind for kind in _OWN.values() if _is_of(kind, type(module), own)), None)
    return wrapped(module, kind or _new_kind(module, own), own)


def wrapped(module: nn.Module, kind: type[OwnWrapper], own: OwnModule) -> OwnWrapper:
    """A module in a wrapper of this class, which is remembered.

    Args:
        module: to wrap.
        kind: of its class.
        own: what is known of it; its config may be that of a grown module.
    """
    wrapper = kind(kind.config_class(**config_fields(own.config)), module)
    wrapper.training = module.training
    _REMEMBERED[module] = kind, own
    return wrapper


def remember(wrapper: OwnWrapper) -> None:
    """Remember the module in a wrapper, so that it can be wrapped again."""
    kind = type(wrapper)
    _REMEMBERED[wrapper.module] = kind, OwnModule(wrapper.config.to_own(), kind.build, kind.inputs)


def remembered(module: nn.Module) -> OwnModule | None:
    """What is known of a module that was wrapped; None for any other."""
    found = _REMEMBERED.get(module)
    return None if found is None else found[1]


def own_config(module: nn.Module) -> Any:
    """The config object of a model: that of a module that was wrapped, or ``module.config``."""
    found, held = remembered(module), getattr(module, "config", None)
    return held if found is None or type(held) is type(found.config) else found.config


def wrapped_again(module: nn.Module) -> OwnWrapper | None:
    """A module that was wrapped before in its wrapper; None for any other."""
    found = _REMEMBERED.get(module)
    return None if found is None else wrapped(module, *found)


def _is_of(kind: type[OwnWrapper], module_class: type[nn.Module], own: OwnModule) -> bool:
    """Whether a wrapper class is that of a module."""
    original = kind.config_class.original
    if kind.module_class is not module_class or type(original) is not type(own.config):
        return False
    if kind.build != own.build or kind.inputs != own.inputs:
        return False
    fields, others = all_fields(original), all_fields(own.config)
    return (
        fields.keys() == others.keys()
        and config_fields(original) == config_fields(own.config)
        and all(_same(value, others[name]) for name, value in fields.items())
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two values of a field are the same; an object that does not compare as one is not."""
    try:
        return one is other or bool(one == other)
    except FOREIGN_ERRORS:
        return False


def _kept_counts(module: nn.Module, own: OwnModule) -> frozenset[str]:
    """Config fields that a miniature keeps: those that the inputs fit, and the layers of a recurrence of
    torch, whose parameters have a name for each layer."""
    layers = {part.num_layers for part in module.modules() if isinstance(part, nn.RNNBase)}
    counts = {name for name, value in all_fields(own.config).items() if type(value) is int and value in layers}
    return own.inputs.kept_counts | counts


def _new_kind(module: nn.Module, own: OwnModule) -> type[OwnWrapper]:
    module_class, name = type(module), type(module).__name__
    model_type = next(
        each
        for number in range(1, 10**6)
        if (each := f"{UNLISTED}{name}" + (f"/{number}" if number > 1 else "")) not in {*_OWN, *WRAPPERS}
    )
    config = own_wrapper_of(own.config, model_type, _kept_counts(module, own))
    AutoConfig.register(model_type, config, exist_ok=True)
    members = {
        "config_class": config,
        "module_class": module_class,
        "declared_outputs": frozenset(),
        "build": staticmethod(own.build),
        "inputs": own.inputs,
    }
    _OWN[model_type] = type(name, (OwnWrapper,), members)
    return _OWN[model_type]


def in_wrapper(module: nn.Module) -> ModuleWrapper | None:
    """A module that was wrapped before, or whose class is registered, in its wrapper; None for any
    other."""
    again = wrapped_again(module)
    return as_transformers(module) if again is None else again


def registered(kind: type[nn.Module] | str) -> bool:
    """Whether a class, or one of that name, is registered."""
    return any(kind in (wrapper.module_class, wrapper.__name__) for wrapper in WRAPPERS.values())


def own_class(model_type: str) -> type[OwnWrapper] | None:
    """The wrapper class of a ``model_type`` that was made here; None for any other."""
    return _OWN.get(model_type)


def declare_own(kind: type[OwnWrapper], architecture: Architecture) -> Architecture:
    """Make a declaration known for a wrapper class, under its ``model_type``. It is for one config, so
    that only the twin has other values in fields that are no sizes, which are vouched for."""
    small = architecture.twin(kind.config_class(), 1)
    declared = replace(
        architecture,
        model_type=kind.config_class.model_type,
        module_class=kind.module_class,
        config_class=type(kind.config_class.original),
        vouched={**dict.fromkeys(small), **architecture.vouched},
    )
    kind.declared_outputs = frozenset(declared.outputs)
    add(declared, listed=False)
    return declared
