"""Your own ``nn.Module``, under the laws that stock models live by.

An `Architecture` may name a module class and its config class. Everything else in the library deals
with transformers models, so the module is held by a thin one: same weights, same names on disk, its
config the fields of yours."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import torch
import transformers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from growth.architectures.architecture import Architecture
from growth.architectures.registry import add
from growth.errors import FOREIGN_ERRORS, CheckpointError, UnsupportedModelError
from growth.hf.reader import open_checkpoint

_CLASSES: dict[str, type[CustomModel]] = {}
"""model_type -> the class that holds its modules."""


MODULE = "module"


_TAKEN = frozenset(dir(PreTrainedConfig())) - {"model_type", "architectures"}
"""Names that transformers gives a meaning of its own on every config."""


class CustomConfig(PreTrainedConfig):
    """The fields of your config beside what transformers wants of one."""

    config_class: ClassVar[type]

    def __init__(self, **fields: Any) -> None:
        own = plain(self.config_class())
        computed = {field.name for field in dataclasses.fields(self.config_class) if not field.init}
        super().__init__(**{name: value for name, value in fields.items() if name not in own.keys() | computed})
        for name, default in own.items():  # past transformers, which swallows max_length, top_k, ...
            setattr(self, name, fields.get(name, default))

    def original(self) -> Any:
        """Your config."""
        fields = [field for field in dataclasses.fields(self.config_class) if field.init]
        return self.config_class(**{field.name: _back(field, getattr(self, field.name)) for field in fields})


class CustomModel(PreTrainedModel):
    """A module of yours, held."""

    config_class = CustomConfig
    module_class: ClassVar[type[nn.Module]]
    declared_outputs: ClassVar[frozenset[str]]
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True  # whatever it computes, it computes by itself

    def __init__(self, config: CustomConfig, module: nn.Module | None = None) -> None:
        super().__init__(config)
        self.module = module if module is not None else self.module_class(config.original())
        first: dict[int, str] = {}
        self.all_tied_weights_keys: dict[str, str] = {}
        for name, value in self.state_dict(keep_vars=True).items():
            if first.setdefault(id(value), name) != name:
                self.all_tied_weights_keys[name] = first[id(value)]

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **ignored: Any) -> ModelOutput:
        masked = (
            {"attention_mask": attention_mask}
            if "attention_mask" in inspect.signature(self.module.forward).parameters
            else {}
        )
        try:
            outputs = named_outputs(self.module(input_ids, **masked), self.declared_outputs)
        except FOREIGN_ERRORS as error:
            raise UnsupportedModelError(
                f"{type(self).__name__} cannot read token ids of shape {list(input_ids.shape)} below "
                f"{int(input_ids.max()) + 1} "
                f"({type(error).__name__}: {str(error)[:200]}). Use fewer tokens, and the names vocab_size and "
                "max_position_embeddings in "
                "its config, or set others in the declaration's 'twin'."
            ) from error
        if not any(value.is_floating_point() and value.ndim for value in outputs.values()):
            raise UnsupportedModelError(
                f"{type(self).__name__} returns nothing that can be compared. Return logits: a tensor, or a tuple or "
                "mapping of tensors."
            )
        return ModelOutput(**outputs)

    def activation_checkpointing_enable(self, *args: Any, **kwargs: Any) -> None:
        """Set the flag, where parts of the module have one: what follows from it is theirs."""
        for part in self.modules():
            if "gradient_checkpointing" in vars(part):
                vars(part)["gradient_checkpointing"] = True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Read a checkpoint folder. The module is built where it will run, so that tables its
        constructor makes are right."""
        checkpoint = open_checkpoint(pretrained_model_name_or_path)
        config = cls.config_class.from_dict(dict(checkpoint.config))
        model: CustomModel = cls._from_config(config, dtype=kwargs.get("dtype") or torch.get_default_dtype())  # type: ignore[no-untyped-call]
        state = {f"{MODULE}.{name}": checkpoint.read(name) for name in checkpoint.shapes}
        try:
            missing, unexpected = model.load_state_dict(state, strict=False)
        except RuntimeError as error:
            raise CheckpointError(
                f"{checkpoint.folder} does not fit its config: {str(error)[:200]}. Check config.json."
            ) from error
        shared = {tied for pair in model.all_tied_weights_keys.items() if state.keys() & set(pair) for tied in pair}
        lacking = [name.removeprefix(f"{MODULE}.") for name in missing if name not in shared]
        return (
            (model, {"missing_keys": lacking, "unexpected_keys": unexpected})
            if kwargs.get("output_loading_info")
            else model
        )


def named_outputs(result: Any, declared: Collection[str] = ()) -> dict[str, Tensor]:
    """The tensors a module returns: one alone is ``logits``, entry i of a tuple ``output_i``. Those
    of a list inside, such as ``hidden_states``, are ``name.i``, if ``name`` is declared: others may
    be attention maps or caches, whose shapes grow otherwise."""
    if isinstance(result, Tensor):
        return {"logits": result}
    entries: dict[str, Any] = {}
    if isinstance(result, Mapping):
        entries.update(result)
    elif dataclasses.is_dataclass(result):
        entries.update((field.name, getattr(result, field.name)) for field in dataclasses.fields(result))
    elif isinstance(result, Sequence):
        names = getattr(result, "_fields", None) or [
            f"output_{i}" for i in range(len(result))
        ]  # named tuples have fields
        entries.update(zip(names, result, strict=True))
    for name in entries.keys() & set(declared):
        if isinstance(entries[name], Sequence):
            entries.update((f"{name}.{i}", part) for i, part in enumerate(entries[name]))
    return {name: value for name, value in entries.items() if isinstance(value, Tensor)}


def plain(config: Any) -> dict[str, Any]:
    """The fields of your config, those it does not compute, as JSON values.

    Raises:
        UnsupportedModelError: for one that does not come back from JSON as it was.
    """
    values: dict[str, Any] = {}
    for field in (field for field in dataclasses.fields(config) if field.init):
        value = getattr(config, field.name)
        try:
            written = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            written = None
        back, values[field.name] = _back(field, written), written
        if type(back) is not type(value) or back != value:
            raise UnsupportedModelError(
                f"field '{field.name}' of {type(config).__name__} is {value!r}, which does not come back from "
                "config.json as it was. "
                "Use numbers, strings, lists and dictionaries of them, or a tuple by default."
            )
    return values


def _back(field: dataclasses.Field[Any], written: Any) -> Any:
    """A JSON value as the constructor wants it: JSON has no tuples."""
    return tuple(written) if isinstance(field.default, tuple) and isinstance(written, list) else written


def adopt(architecture: Architecture) -> None:
    """Make an architecture's own module and config classes known.

    Raises:
        UnsupportedModelError: if they or their names cannot be used.
    """
    module_class, config_class, model_type = (
        architecture.module_class,
        architecture.config_class,
        architecture.model_type,
    )
    if module_class is None and config_class is None:
        return
    if module_class is None or config_class is None or not dataclasses.is_dataclass(config_class):
        raise UnsupportedModelError(
            f"'{model_type}' needs both module_class and config_class, the latter a dataclass. Name both."
        )
    if getattr(transformers, module_class.__name__, None) is not None:
        raise UnsupportedModelError(
            f"transformers has a class {module_class.__name__} of its own. Use another name for yours."
        )
    if model_type in CONFIG_MAPPING and model_type not in _CLASSES:
        raise UnsupportedModelError(
            f"transformers knows model_type '{model_type}' already. Use another name for yours."
        )
    if other := [name for name, kind in _CLASSES.items() if kind.module_class is module_class and name != model_type]:
        raise UnsupportedModelError(
            f"{module_class.__name__} is registered as '{other[0]}' already. Use that model_type."
        )
    _check_config(config_class)
    named = {"model_type": model_type, "config_class": config_class, "__init__": CustomConfig.__init__}
    config: Any = type(f"{config_class.__name__}Held", (CustomConfig,), named)
    AutoConfig.register(model_type, config, exist_ok=True)
    outputs = frozenset(architecture.outputs)
    members = {"config_class": config, "module_class": module_class, "declared_outputs": outputs}
    _CLASSES[model_type] = type(module_class.__name__, (CustomModel,), members)


def register(architecture: Architecture) -> Architecture:
    """Make a declaration known under its ``model_type``; a later one replaces an earlier one.

    Raises:
        UnsupportedModelError: if it has a module class of its own that cannot be used.
    """
    adopt(architecture)
    add(architecture)
    return architecture


def _check_config(config_class: type) -> None:
    name = config_class.__name__
    if taken := sorted(_TAKEN.intersection(field.name for field in dataclasses.fields(config_class))):
        raise UnsupportedModelError(
            f"{name} has a field '{taken[0]}', which transformers gives a meaning of its own. Use another name."
        )
    try:
        plain(config_class())
    except TypeError as error:
        raise UnsupportedModelError(
            f"{name} has fields without a default ({error}), so nothing says what a field that is left out means. Add "
            "one to each."
        ) from error


def custom_class(model_type: str, names: Sequence[str]) -> type[PreTrainedModel] | None:
    """The class that holds modules of this ``model_type``, None if there is none. ``names``:
    ``architectures`` in the config."""
    kind = _CLASSES.get(model_type)
    if kind is not None and names and names[0] != kind.__name__:
        raise UnsupportedModelError(
            f"the config names {names[0]} in 'architectures', but '{model_type}' is registered with {kind.__name__}. "
            "Correct config.json."
        )
    return kind


def as_transformers(module: nn.Module) -> PreTrainedModel | None:
    """A module of a registered class, held; None for any other.

    Raises:
        UnsupportedModelError: if its config is not what was registered.
    """
    name = type(module).__name__
    kind = next((kind for kind in _CLASSES.values() if kind.module_class is type(module)), None)
    if kind is None:
        if any(kind.__name__ == name for kind in _CLASSES.values()):
            raise UnsupportedModelError(
                f"this {name} is of another class than the {name} that was registered. Register its class (again)."
            )
        return None
    config, wanted = getattr(module, "config", None), kind.config_class.config_class
    if type(config) is not wanted:
        raise UnsupportedModelError(
            f"{name}.config is {type(config).__name__ if config is not None else 'missing'}, but must be the "
            f"{wanted.__name__} that was "
            "registered. Set it in the constructor."
        )
    held = kind(kind.config_class(**plain(config)), module)
    held.training = module.training
    return held


def raw_config(config: Any) -> dict[str, Any] | None:
    """The JSON config of a registered config object, None for any other."""
    kinds = [kind for kind in _CLASSES.values() if kind.config_class.config_class is type(config)]
    if not kinds and dataclasses.is_dataclass(config):
        raise UnsupportedModelError(
            f"{type(config).__name__} is the config of nothing that was registered. Use growth.register."
        )
    if len(kinds) > 1:
        listed = ", ".join(kind.__name__ for kind in kinds)
        raise UnsupportedModelError(
            f"{type(config).__name__} is the config of {listed}. Name a folder or pass a model."
        )
    return (
        {**kinds[0].config_class(**plain(config)).to_dict(), "architectures": [kinds[0].__name__]} if kinds else None
    )


def inner_module(model: PreTrainedModel) -> nn.Module:
    """The module that is held, or the model itself."""
    return model.module if isinstance(model, CustomModel) else model
