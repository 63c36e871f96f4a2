"""Extensions: a model with more parts that computes the same function, as a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from growth.algebra.maps import Integers
from growth.hf.configs import Config

Shapes = Mapping[str, tuple[int, ...]]
Reader = Callable[[str], Tensor]


@dataclass(frozen=True, eq=False)
class Part:
    """Where one tensor of an extended model comes from: entries of one tensor of the model.

    Args:
        source: the name of that tensor.
        take: for each dimension, which entries, in order; -1 for an entry that is 0. None for all.
            Empty: all of every dimension.
        fill: the value of every entry instead of the source's; None to take the source's.
        gradient: the gradient of an entry over that of the source's; None where the model does not
            determine it, as in a new layer, whose optimizer state starts at zero.
        new: whether the model has no such tensor: one of a new layer, a head that was tied.

    Example:
        Each of two rows twice:

        >>> part = Part("weight", (np.array([0, 0, 1, 1]), None), gradient=0.5)
        >>> part.shape((2, 3)), part.of(torch.eye(2, 3))[:, 0].tolist()
        ((4, 3), [1.0, 1.0, 0.0, 0.0])
    """

    source: str
    take: tuple[Integers | None, ...] = ()
    fill: float | None = None
    gradient: float | None = 1.0
    new: bool = False

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the new tensor, if the source has ``shape``."""
        taken = self.take or (None,) * len(shape)
        return tuple(size if one is None else len(one) for size, one in zip(shape, taken, strict=True))

    def of(self, value: Tensor) -> Tensor:
        """The new tensor, from the source's values or from what is stored for each of them. A
        dimension of size 1 that stands for all (a mean over rows) stays."""
        for axis, taken in enumerate(self.take):
            if taken is not None and value.shape[axis] != 1:
                value = value.index_select(axis, torch.from_numpy(np.maximum(taken, 0)).to(value.device))
                if (taken < 0).any():
                    value.index_fill_(axis, torch.from_numpy(np.flatnonzero(taken < 0)).to(value.device), 0)
        return value if self.fill is None else torch.full_like(value, self.fill)

    def after(self, first: Part) -> Part:
        """Where the tensor comes from if its source is itself a part: ``first``, then this."""
        axes = range(max(len(self.take), len(first.take)))
        take = tuple(_after(_at(self.take, axis), _at(first.take, axis)) for axis in axes)
        gradient = None if self.gradient is None or first.gradient is None else self.gradient * first.gradient
        return Part(
            first.source, take, first.fill if self.fill is None else self.fill, gradient, self.new or first.new
        )


def _at(take: tuple[Integers | None, ...], axis: int) -> Integers | None:
    return take[axis] if take else None


def _after(later: Integers | None, first: Integers | None) -> Integers | None:
    if later is None or first is None:
        return first if later is None else later
    taken: Integers = np.where(later < 0, -1, first[later])
    return taken


@dataclass(frozen=True)
class Stack:
    """The layers of one numbered list of modules, before and after.

    Args:
        name: of the list, as the declaration spells it: ``layers``, ``encoder.block``.
        path: of the list in memory: ``model.layers``.
        origins: for each layer of the extended model, the number of the layer that it is, or is
            copied from.
        kept: for each layer of the model, its number in the extended one.

    Example:
        A copy of each of two layers behind it:

        >>> Stack("layers", "model.layers", (0, 0, 1, 1), (0, 2)).added
        frozenset({1, 3})
    """

    name: str
    path: str
    origins: tuple[int, ...]
    kept: tuple[int, ...]

    def place(self, path: str) -> tuple[int, str] | None:
        """The number of the layer and the rest of a path in memory; None for one outside of the
        list.

        Example:
            >>> Stack("layers", "model.layers", (0, 0), (0,)).place("model.layers.1.mlp")
            (1, '.mlp')
        """
        found = re.fullmatch(rf"{re.escape(self.path)}\.(\d+)(|\..*)", path)
        return None if found is None else (int(found[1]), found[2])

    @property
    def added(self) -> frozenset[int]:
        """The numbers of the new layers."""
        return frozenset(range(len(self.origins))) - frozenset(self.kept)


@dataclass(frozen=True, eq=False)
class Extension:
    """A model with more parts that computes the same function.

    Args:
        old, new: the config before and after.
        shapes: name -> shape, of the model's tensors.
        parts: name -> where it comes from, of the extended model's tensors.
        sizes: name -> the number before and after, of what there is more of.
        why: name -> why it becomes that, in a few words.
        stacks: the lists of layers that became longer.
        silent: whether new layers add nothing at first.
        untied: whether the head has become a matrix of its own.
        notes: what the caller should know, a sentence each.
    """

    old: Config
    new: Config
    shapes: Shapes
    parts: Mapping[str, Part]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    stacks: tuple[Stack, ...] = ()
    silent: bool = True
    untied: bool = False
    notes: tuple[str, ...] = ()

    @property
    def new_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, of the extended model's tensors."""
        return {name: part.shape(self.shapes[part.source]) for name, part in self.parts.items()}

    def new_dtypes(self, dtypes: Mapping[str, torch.dtype]) -> dict[str, torch.dtype]:
        """Name -> dtype, of the extended model's tensors; those of the model are given."""
        return {name: dtypes[part.source] for name, part in self.parts.items() if part.source in dtypes}

    def reading(self, read: Reader) -> Reader:
        """A reader of the extended model's tensors, from one of the model's."""
        return lambda name: self.parts[name].of(read(self.parts[name].source))

    def state(self, state: Mapping[str, Tensor], degree: int) -> dict[str, Tensor]:
        """What an optimizer holds of the extended model's tensors, where the model determines it.

        Args:
            state: name on disk -> what it holds of the model's tensor.
            degree: of that in the gradient: 1 for Adam's ``exp_avg``, 2 for its ``exp_avg_sq``.
        """
        return {
            name: part.of(state[part.source]) * part.gradient**degree
            for name, part in self.parts.items()
            if part.source in state and part.gradient is not None
        }

    def module_source(self, path: str) -> str:
        """The path that a module or parameter of the extended model has in the model: that of the
        layer it is, or is copied from.

        Args:
            path: in memory, such as ``model.layers.3.mlp``.
        """
        for stack in self.stacks:
            if (place := stack.place(path)) is not None and place[0] < len(stack.origins):
                path = f"{stack.path}.{stack.origins[place[0]]}{place[1]}"
        return path

    def adds(self, path: str) -> bool:
        """Whether a module or parameter of the extended model is of a new layer."""
        places = ((stack, stack.place(path)) for stack in self.stacks)
        return any(place is not None and place[0] in stack.added for stack, place in places)

    def to_json(self) -> dict[str, Any]:
        """What there is more of, as JSON values; the sizes aside, which the plan has."""
        return {
            "layers": [
                {"list": stack.name, "origins": list(stack.origins), "kept": list(stack.kept)} for stack in self.stacks
            ],
            "silent": self.silent,
            "untied": self.untied,
        }

    def then(self, later: Extension) -> Extension:
        """This extension and one of what it makes, as one."""
        parts = {name: part.after(self.parts[part.source]) for name, part in later.parts.items()}
        return replace(
            later,
            old=self.old,
            shapes=self.shapes,
            parts=parts,
            sizes={**self.sizes, **later.sizes},
            why={**self.why, **later.why},
            stacks=(*self.stacks, *later.stacks),
            silent=self.silent and later.silent,
            untied=self.untied or later.untied,
            notes=(*self.notes, *later.notes),
        )


def unextended(config: Config, shapes: Shapes) -> Extension:
    """The extension that adds nothing, to begin with."""
    return Extension(config, config, shapes, {name: Part(name) for name in shapes})


def positions(taken: list[int]) -> Integers:
    """Numbers of entries as an array, for `Part`."""
    return np.array(taken, dtype=np.int64)
