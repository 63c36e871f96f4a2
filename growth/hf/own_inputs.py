"""What a module of the caller's is run on: token ids or features made to fit it, or inputs that the
caller gives.

Inputs are a dictionary of keyword arguments of the module's ``forward``. Those that it takes by
position only, or as ``*args``, are named ``input_0``, ``input_1``, ...
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from growth.errors import FOREIGN_ERRORS, UnsupportedModelError, shown
from growth.hf.own_configs import COUNTS_OF_INPUTS

GIVE = (
    "Give inputs: growth.widen(module, inputs=...), a tensor, a tuple or dictionary of tensors, or a function that "
    "makes one, of the config or of nothing."
)
"""What to do where nothing is known of a module's inputs."""

LENGTHS = (11, 5, 2)
"""Tokens in a row, the first that the module takes."""


class OwnInputs(ABC):
    """How inputs of a module are made."""

    kept_counts: frozenset[str] = frozenset()
    """Config fields that a miniature must keep, since the inputs fit them."""

    @abstractmethod
    def draw(self, module: nn.Module, config: Any, *, batch: int, length: int, seed: int) -> dict[str, Any]:
        """Inputs, on the CPU, with floats in the default dtype.

        Args:
            module: to run on them.
            config: its config object.
            batch, length: rows, and tokens in a row, where that is free.
            seed: of the random numbers.
        """


@dataclass(frozen=True)
class Tokens(OwnInputs):
    """Random token ids ``[batch, length]`` of a module that begins with an embedding; and an
    attention mask if it takes one, by which the first row ends before the others.

    Args:
        name: of the argument.
        most: the largest length.
        masked: whether there is an ``attention_mask``.
    """

    name: str
    most: int
    masked: bool = False

    def draw(self, module: nn.Module, config: Any, *, batch: int, length: int, seed: int) -> dict[str, Any]:
        first = first_layer(module)
        entries = first.num_embeddings if isinstance(first, (nn.Embedding, nn.EmbeddingBag)) else 2
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(entries, (batch, min(length, self.most)), generator=generator)
        mask = torch.ones_like(ids)
        mask[0, -(ids.shape[1] // 3) :] = 0
        return {self.name: ids, **({"attention_mask": mask} if self.masked and ids.shape[1] > 2 else {})}


@dataclass(frozen=True)
class Features(OwnInputs):
    """Random floats ``[batch, length, width]`` or ``[batch, width]`` of a module that begins with a
    linear layer.

    Args:
        name: of the argument.
        sequence: whether there is a length.
    """

    name: str
    sequence: bool

    def draw(self, module: nn.Module, config: Any, *, batch: int, length: int, seed: int) -> dict[str, Any]:
        first = first_layer(module)
        width = first.in_features if isinstance(first, nn.Linear) else 1
        shape = (batch, length, width) if self.sequence else (batch + length, width)
        generator = torch.Generator().manual_seed(seed)
        return {self.name: torch.randn(shape, generator=generator, dtype=torch.get_default_dtype())}


@dataclass(frozen=True, eq=False)
class Given(OwnInputs):
    """Inputs that the caller gives.

    Floats of one value throughout are replaced by random ones, which show more. For other lengths
    than the first of `LENGTHS` the entries of float tensors change places, so that two draws differ.

    Args:
        values: name -> tensor, or anything else that the module takes.
    """

    values: Mapping[str, Any]
    kept_counts = COUNTS_OF_INPUTS

    def draw(self, module: nn.Module, config: Any, *, batch: int, length: int, seed: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed + length)

        def drawn(value: Tensor) -> Tensor:
            if not value.is_floating_point():
                return value.clone()
            wide = value.to(torch.get_default_dtype())
            if bool((wide == wide.flatten()[:1]).all()):
                return torch.randn(value.shape, generator=generator, dtype=wide.dtype)
            if length == LENGTHS[0]:
                return wide.clone()
            return wide.flatten()[torch.randperm(value.numel(), generator=generator)].reshape(value.shape)

        return {name: each_tensor(value, drawn) for name, value in self.values.items()}


@dataclass(frozen=True)
class Made(OwnInputs):
    """Inputs from a function of the caller's.

    Args:
        make: config object -> a tensor, a tuple or a dictionary; or a function without arguments that
            makes one. It is called for miniatures too.
        parameters: names of the positional arguments of ``forward``.
    """

    make: Callable[[Any], Any]
    parameters: tuple[str, ...]
    kept_counts = COUNTS_OF_INPUTS

    def draw(self, module: nn.Module, config: Any, *, batch: int, length: int, seed: int) -> dict[str, Any]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + length)
            made = self.make(config) if _takes_config(self.make) else self.make()  # type: ignore[call-arg,misc]
        found: dict[str, Any] = each_tensor(_named(made, self.parameters), _as_default)
        return found


def _takes_config(make: Callable[..., Any]) -> bool:
    """Whether a function takes an argument by position; one whose signature is not known is said to."""
    try:
        inspect.signature(make).bind(None)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def given_inputs(inputs: Any, module: nn.Module) -> OwnInputs:
    """The inputs that a caller gives: a tensor, a tuple, a dictionary or a function.

    Raises:
        UnsupportedModelError: for anything else.
    """
    parameters = _positional(module)
    if callable(inputs) and not isinstance(inputs, (Tensor, Mapping, nn.Module)):
        return Made(inputs, parameters)

    def kept(value: Tensor) -> Tensor:
        return value.detach().cpu().clone()

    return Given(each_tensor(_named(inputs, parameters), kept))


def found_inputs(module: nn.Module) -> Iterator[OwnInputs]:
    """What a module may take, by its first layer: to be tried in this order.

    Raises:
        UnsupportedModelError: if nothing can be said, or it takes several inputs.
    """
    name, first = type(module).__name__, first_layer(module)
    needed = [
        parameter.name
        for parameter in inspect.signature(module.forward).parameters.values()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len([each for each in needed if each != "attention_mask"]) > 1:
        raise UnsupportedModelError(f"{name} takes several inputs ({', '.join(needed)}). {GIVE}")
    parameters = _positional(module)
    argument = "input_ids" if "input_ids" in parameters else (*parameters, "input_0")[0]
    if isinstance(first, (nn.Embedding, nn.EmbeddingBag)):
        masked = "attention_mask" in inspect.signature(module.forward).parameters
        yield from (Tokens(argument, most, masked) for most in LENGTHS)
    elif isinstance(first, nn.Linear):
        yield from (Features(argument, sequence) for sequence in (True, False))
    else:
        what = "has no layer of torch" if first is None else f"begins with {type(first).__name__}"
        raise UnsupportedModelError(
            f"{name} {what}, which does not say what inputs it takes; an embedding or a linear layer would. {GIVE}"
        )


def first_layer(module: nn.Module) -> nn.Module | None:
    """The first layer with a matrix, in the order in which they were registered: norms and bare
    parameters before it do not say what goes in."""
    for part in module.modules():
        innermost = part is not module and next(part.children(), None) is None
        if is_parametrized(part):  # a weight norm: its matrices lie in parts of its own
            return part
        if innermost and any(weight.ndim > 1 for weight in part.parameters(recurse=False)):
            return part
    return None


def each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A value with every tensor in it changed: in dictionaries, tuples and lists too."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {name: each_tensor(entry, change) for name, entry in value.items()}
    if type(value) in (tuple, list):
        return type(value)(each_tensor(entry, change) for entry in value)
    return value


def moved(value: Any, device: str | torch.device, dtype: torch.dtype | None = None) -> Any:
    """A value with its tensors on a device, and its floats in a dtype."""
    return each_tensor(value, lambda each: each.to(device, dtype if each.is_floating_point() else None))


def _as_default(value: Tensor) -> Tensor:
    return value.detach().cpu().to(torch.get_default_dtype() if value.is_floating_point() else value.dtype)


def _positional(module: nn.Module) -> tuple[str, ...]:
    """The names of the arguments of ``forward`` that may be given by position and by name."""
    parameters = inspect.signature(module.forward).parameters.values()
    return tuple(each.name for each in parameters if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _named(inputs: Any, parameters: tuple[str, ...]) -> dict[str, Any]:
    """Inputs by the names of ``forward``'s arguments."""
    if isinstance(inputs, Mapping):
        return {str(name): value for name, value in inputs.items()}
    if isinstance(inputs, Tensor):
        inputs = (inputs,)
    if not isinstance(inputs, (tuple, list)):
        raise UnsupportedModelError(
            f"inputs must be a tensor, a tuple, a dictionary by the names of forward's arguments, or a function of "
            f"the config that makes one, not {shown(inputs)}. Give one of them."
        )
    return {
        parameters[number] if number < len(parameters) else f"input_{number}": value
        for number, value in enumerate(inputs)
    }


def call(module: nn.Module, inputs: Mapping[str, Any]) -> Any:
    """What a module returns for inputs by name; ``input_0``, ... go by position."""
    positions = sorted((name for name in inputs if _is_position(name)), key=lambda name: int(name[6:]))
    if positions and int(positions[0][6:]) > 0:  # those before them have names: give them by position too
        positions = [*_positional(module)[: int(positions[0][6:])], *positions]
    named = {name: value for name, value in inputs.items() if name not in positions}
    return module(*(inputs[name] for name in positions), **named)


def _is_position(name: str) -> bool:
    return name.startswith("input_") and name[6:].isdigit()


def runs(module: nn.Module, inputs: Mapping[str, Any]) -> Exception | None:
    """Why a module cannot be run on inputs; None if it can."""
    try:
        with torch.no_grad():
            call(module, inputs)
    except FOREIGN_ERRORS as error:
        return error
    return None
