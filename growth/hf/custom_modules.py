"""Registered modules: an ``nn.Module`` that is not part of transformers, in the form its models
have.

The library works with transformers models: it parses a ``PreTrainedConfig``, builds a
``PreTrainedModel`` without weights, loads one with ``from_pretrained``. A module that is declared
with `register` therefore gets a thin wrapper, a pair of classes made once per ``model_type``:

    ConfigWrapper(PreTrainedConfig)   has the fields of the module's config dataclass
    ModuleWrapper(PreTrainedModel)    holds the module as ``.module``; its forward calls it

The wrapper adds no weight. Its parameters are those of the module under the prefix ``module.``,
which `growth.hf.tensor_names` removes again, so that files have the module's own names.
`as_transformers` puts a module into its wrapper, `inner_module` takes it out:

    MyModel  -- as_transformers -->  ModuleWrapper(.module = MyModel)  -- inner_module -->  MyModel
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
import transformers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from growth.architectures.architecture import Architecture
from growth.architectures.registry import add
from growth.errors import FOREIGN_ERRORS, CheckpointError, UnsupportedModelError, shown
from growth.hf.custom_configs import ConfigWrapper, config_to_json, wrapper_of
from growth.hf.reader import open_checkpoint

WRAPPERS: dict[str, type[ModuleWrapper]] = {}
"""model_type -> the wrapper class of its modules."""


MODULE = "module"
"""The attribute that holds the module, and so the prefix of its parameters in memory."""


class ModuleWrapper(PreTrainedModel):
    """A transformers model whose whole computation is a registered module. Each registered class
    gets a subclass, made by `register`.

    Args:
        config: the wrapped config.
        module: the module to hold; by default a new one built from ``config``.
    """

    config_class = ConfigWrapper
    module_class: ClassVar[type[nn.Module]]
    declared_outputs: ClassVar[frozenset[str]]
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True  # the module chooses its attention itself

    def __init__(self, config: ConfigWrapper, module: nn.Module | None = None) -> None:
        super().__init__(config)
        self.module = module if module is not None else self.made(config)
        first: dict[int, str] = {}
        self.all_tied_weights_keys: dict[str, str] = {}
        for name, value in self.state_dict(keep_vars=True).items():
            if first.setdefault(id(value), name) != name:
                self.all_tied_weights_keys[name] = first[id(value)]

    @classmethod
    def made(cls, config: ConfigWrapper) -> nn.Module:
        """A new module of the class."""
        return cls.module_class(config.to_dataclass())

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **ignored: Any) -> ModelOutput:
        """The module's outputs, by name (`named_outputs`).

        Args:
            input_ids: ``[batch, length]``.
            attention_mask: ``[batch, length]``; passed on if the module's ``forward`` takes it.
            ignored: what transformers passes to every model (``output_hidden_states``, ...).

        Raises:
            UnsupportedModelError: if the module fails or returns no tensor to compare.
        """
        takes_mask = "attention_mask" in inspect.signature(self.module.forward).parameters
        mask = {"attention_mask": attention_mask} if takes_mask else {}
        try:
            outputs = named_outputs(self.module(input_ids, **mask), self.declared_outputs)
        except FOREIGN_ERRORS as error:
            raise UnsupportedModelError(
                f"{type(self).__name__} failed on token ids of shape {list(input_ids.shape)} below "
                f"{int(input_ids.max()) + 1} ({type(error).__name__}: {str(error)[:200]}). Use fewer tokens, and call "
                "the config's fields vocab_size and max_position_embeddings, or set those it has in the declaration's "
                "'twin'."
            ) from error
        if not any(value.is_floating_point() and value.ndim for value in outputs.values()):
            raise UnsupportedModelError(
                f"{type(self).__name__} returns no floating-point tensor, so there is nothing to compare. Return "
                "logits: a tensor, or a tuple or mapping of tensors."
            )
        return ModelOutput(**outputs)

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Set ``gradient_checkpointing`` on the submodules that have such a flag; the module itself
        decides what it does."""
        for part in self.modules():
            if "gradient_checkpointing" in vars(part):
                vars(part)["gradient_checkpointing"] = True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Read a checkpoint folder.

        The module is built on its real device, not on the meta device as transformers does, so
        that tables its constructor computes have values.

        Raises:
            CheckpointError: if the tensors do not fit the config.
        """
        checkpoint = open_checkpoint(pretrained_model_name_or_path)
        config = cls.config_class.from_dict(dict(checkpoint.config))
        model: ModuleWrapper = cls._from_config(config, dtype=kwargs.get("dtype") or torch.get_default_dtype())  # type: ignore[no-untyped-call]
        state = {f"{MODULE}.{name}": checkpoint.read(name) for name in checkpoint.shapes}
        try:
            missing, unexpected = model.load_state_dict(state, strict=False)
        except RuntimeError as error:
            raise CheckpointError(
                f"the tensors in {checkpoint.folder} do not fit its config: {str(error)[:200]}. Check config.json."
            ) from error
        if not kwargs.get("output_loading_info"):
            return model
        tied = {name for pair in model.all_tied_weights_keys.items() if state.keys() & set(pair) for name in pair}
        lacking = [name.removeprefix(f"{MODULE}.") for name in missing if name not in tied]
        return model, {"missing_keys": lacking, "unexpected_keys": unexpected}


def named_outputs(result: Any, declared: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors a module returns, by name; anything else it returns is dropped.

    Args:
        result: what ``forward`` returned: a tensor (named ``logits``), a tuple or list (entry i is
            named ``output_i``, or by its field in a named tuple), a mapping or a dataclass.
        declared: fields of the declaration's ``outputs``. A list of tensors is taken apart into
            ``name.0``, ``name.1``, ... only if it is declared: any other may hold attention maps or
            caches, whose shapes grow in other ways.

    Example:
        >>> named_outputs({"logits": x, "hidden_states": [y, z]}, {"hidden_states"}).keys()
        dict_keys(['logits', 'hidden_states.0', 'hidden_states.1'])
    """
    if isinstance(result, Tensor):
        return {"logits": result}
    entries: dict[str, Any] = {}
    if isinstance(result, Mapping):
        entries.update(result)
    elif dataclasses.is_dataclass(result):
        entries.update((field.name, getattr(result, field.name)) for field in dataclasses.fields(result))
    elif isinstance(result, Sequence):
        names = getattr(result, "_fields", None) or [f"output_{i}" for i in range(len(result))]
        entries.update(zip(names, result, strict=True))
    for name in entries.keys() & set(declared):
        if isinstance(entries[name], Sequence):
            entries.update((f"{name}.{i}", part) for i, part in enumerate(entries[name]))
    return {name: value for name, value in entries.items() if isinstance(value, Tensor)}


def register(architecture: Architecture) -> Architecture:
    """Make a declaration known under its ``model_type``. A later one replaces an earlier one.

    Args:
        architecture: the declaration. For a module that transformers does not know it names
            ``module_class``, built from its config alone and keeping it as ``self.config``, and
            ``config_class``, a dataclass with a default for every field.

    Returns:
        The declaration itself.

    Raises:
        UnsupportedModelError: if the module class or config class cannot be used.

    Example:
        >>> growth.register(
        ...     Architecture(
        ...         model_type="my_model",
        ...         module_class=MyModel,
        ...         config_class=MyConfig,
        ...         modules={"tokens": embedding(RESIDUAL), ..., "head": linear(FINAL)},
        ...         laws={RESIDUAL: RMSNorm(), FINAL: Linear(), **FFN_LAWS, **attention_laws()},
        ...         epsilon="norm_eps",
        ...     )
        ... )
        >>> grown = growth.widen(MyModel(MyConfig()), width=2)
    """
    if not isinstance(architecture, Architecture):
        raise UnsupportedModelError(f"register takes an Architecture, not {shown(architecture)}. Make one.")
    _make_wrapper(architecture)
    add(architecture)
    return architecture


def _make_wrapper(architecture: Architecture) -> None:
    """Make the wrapper classes of a declaration that names a module class; nothing for others."""
    module_class, config_class, model_type = (
        architecture.module_class,
        architecture.config_class,
        architecture.model_type,
    )
    if module_class is None and config_class is None:
        return
    if module_class is None or config_class is None or not dataclasses.is_dataclass(config_class):
        given = [getattr(kind, "__name__", "missing") for kind in (module_class, config_class)]
        raise UnsupportedModelError(
            f"the declaration of '{model_type}' must name a module_class (it is {given[0]}) and a config_class that "
            f"is a dataclass (it is {given[1]}). Name both."
        )
    name = module_class.__name__
    if getattr(transformers, name, None) is not None:
        raise UnsupportedModelError(f"module_class {name} has the name of a transformers class. Rename yours.")
    if model_type in CONFIG_MAPPING and model_type not in WRAPPERS:
        raise UnsupportedModelError(f"model_type '{model_type}' is one of transformers' own. Use another name.")
    others = [known for known, kind in WRAPPERS.items() if kind.module_class is module_class and known != model_type]
    if others:
        raise UnsupportedModelError(f"{name} is already registered as '{others[0]}'. Use that model_type.")
    config: Any = wrapper_of(config_class, model_type)
    AutoConfig.register(model_type, config, exist_ok=True)
    outputs = frozenset(architecture.outputs)
    members = {"config_class": config, "module_class": module_class, "declared_outputs": outputs}
    WRAPPERS[model_type] = type(name, (ModuleWrapper,), members)


def custom_class(model_type: str, names: Sequence[str]) -> type[PreTrainedModel] | None:
    """The wrapper class of a registered ``model_type``, None for any other.

    Args:
        model_type: as in ``config.json``.
        names: its ``architectures``; may be empty.

    Raises:
        UnsupportedModelError: if ``names`` has another class.
    """
    kind = WRAPPERS.get(model_type)
    if kind is not None and names and names[0] != kind.__name__:
        raise UnsupportedModelError(
            f"the config names {names[0]} in 'architectures', but '{model_type}' is registered with {kind.__name__}. "
            "Correct config.json."
        )
    return kind


def as_transformers(module: nn.Module) -> ModuleWrapper | None:
    """A module of a registered class in its wrapper, sharing its parameters; None for any other.

    Raises:
        UnsupportedModelError: if its class or config is not the one that was registered.
    """
    name = type(module).__name__
    kind = next((kind for kind in WRAPPERS.values() if kind.module_class is type(module)), None)
    if kind is None:
        if any(kind.__name__ == name for kind in WRAPPERS.values()):
            raise UnsupportedModelError(
                f"the class of this {name} is not the class {name} that was registered, as happens when its "
                "definition runs again. Register the new class."
            )
        return None
    config, wanted = getattr(module, "config", None), kind.config_class.dataclass_type
    if type(config) is not wanted:
        given = type(config).__name__ if config is not None else "missing"
        raise UnsupportedModelError(
            f"{name}.config is {given}, but must be the {wanted.__name__} that was registered. Set self.config in the "
            "constructor."
        )
    wrapper = kind(kind.config_class(**config_to_json(config)), module)
    wrapper.training = module.training
    return wrapper


def raw_config(config: Any) -> dict[str, Any] | None:
    """The ``config.json`` of a registered module's config object; None for what is no dataclass.

    Raises:
        UnsupportedModelError: if the dataclass was registered for no module, or for several.
    """
    kinds = [kind for kind in WRAPPERS.values() if kind.config_class.dataclass_type is type(config)]
    name = type(config).__name__
    if not kinds and dataclasses.is_dataclass(config):
        raise UnsupportedModelError(f"{name} is the config of no registered module. Use growth.register.")
    if len(kinds) > 1:
        listed = ", ".join(kind.__name__ for kind in kinds)
        raise UnsupportedModelError(f"{name} is the config of several modules ({listed}). Pass a folder or a model.")
    return (
        {**kinds[0].config_class(**config_to_json(config)).to_dict(), "architectures": [kinds[0].__name__]}
        if kinds
        else None
    )


def inner_module(model: PreTrainedModel) -> nn.Module:
    """The module inside a wrapper, or the model itself if it is none."""
    return model.module if isinstance(model, ModuleWrapper) else model
