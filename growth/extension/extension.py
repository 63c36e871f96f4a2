"""Extensions: a model with more parts that computes the same function, as a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from growth.extension.part import Part
from growth.hf.configs import Config

Shapes = Mapping[str, tuple[int, ...]]
Reader = Callable[[str], Tensor]


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


@dataclass(frozen=True)
class Copies:
    """Lists of modules that were repeated as a whole: module i is a copy of i mod ``count``.

    Args:
        lists: their names, as the declaration spells them, with ``*`` for the numbers in them.
        count: how many modules each had.
        alike: how many copies of a module have the same features.

    Example:
        >>> Copies(("layers.*.mlp.experts",), 4).source("model.layers.11.mlp.experts.6.up_proj")
        'model.layers.11.mlp.experts.2.up_proj'
    """

    lists: tuple[str, ...]
    count: int
    alike: int = 1

    def source(self, path: str) -> str:
        """The path that a module, or a parameter, has in the model."""
        for name in self.lists:
            pattern = re.escape(name).replace(r"\*", r"\d+")
            if found := re.fullmatch(rf"((?:.*\.)?{pattern}\.)(\d+)((?:\..*)?)", path):
                return f"{found[1]}{int(found[2]) % self.count}{found[3]}"
        return path


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
        copies: the lists of experts that were repeated.
        silent: whether new layers add nothing at first.
        untied: whether the head has become a matrix of its own.
        noise, seed: of copies that are made to differ.
        notes: what the caller should know, a sentence each.
    """

    old: Config
    new: Config
    shapes: Shapes
    parts: Mapping[str, Part]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    stacks: tuple[Stack, ...] = ()
    copies: tuple[Copies, ...] = ()
    silent: bool = True
    untied: bool = False
    noise: float = 0.0
    seed: int = 0
    notes: tuple[str, ...] = ()

    @property
    def copies_experts(self) -> bool:
        """Whether there are copies of an expert with the same features, equal but for noise."""
        return any(copies.alike > 1 for copies in self.copies)

    @property
    def equal_experts(self) -> bool:
        """Whether there are copies of an expert that are equal and train as one."""
        return self.copies_experts and not self.noise

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

    def state(self, state: Mapping[str, Tensor], degree: int, first_only: bool = False) -> dict[str, Tensor]:
        """What an optimizer holds of the extended model's tensors, where the model determines it.

        Args:
            state: name on disk -> what it holds of the model's tensor.
            degree: of that in the gradient: 1 for Adam's ``exp_avg``, 2 for its ``exp_avg_sq``.
            first_only: whether only the first copy of each entry has it, and the others have 0.
        """
        return {
            name: part.state(state[part.source], degree, first_only)
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
        for copies in self.copies:
            path = copies.source(path)
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
            "copies": [{"lists": list(copies.lists), "count": copies.count} for copies in self.copies],
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
            copies=(*self.copies, *later.copies),
            silent=self.silent and later.silent,
            untied=self.untied or later.untied,
            noise=self.noise or later.noise,
            seed=self.seed or later.seed,
            notes=(*self.notes, *later.notes),
        )


def unextended(config: Config, shapes: Shapes) -> Extension:
    """The extension that adds nothing, to begin with."""
    return Extension(config, config, shapes, {name: Part(name) for name in shapes})
