"""The parameters of a solution under the names and in the shapes that a checkpoint has.

transformers renames, fuses and splits tensors on the way to a file. What it does is read off the numbers: every entry
of every parameter gets a number of its own, the state dict is converted as for a file, and the numbers say where each
entry of a tensor on disk comes from."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers import PreTrainedModel

from growth.hf.tensor_names import to_disk
from growth.infer.cuts import between
from growth.infer.errors import Unexplained
from growth.infer.parts import Part
from growth.infer.ranges import Range, count_of, join
from growth.infer.solution import Solution


def on_disk(
    small: PreTrainedModel, wide: PreTrainedModel, solution: Solution
) -> dict[str, tuple[tuple[Part, ...], str]]:
    """Name on disk -> (one part per dimension, the parameter it is made of).

    Raises:
        Unexplained: if a tensor on disk is made of parameters in a way that is no selection of rows.

    Example:
        >>> from growth.infer.infer import explained
        >>> from transformers import LlamaConfig, LlamaModel
        >>> size = {"intermediate_size": 8, "head_dim": 4, "num_hidden_layers": 1, "vocab_size": 48}
        >>> heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
        >>> models = [LlamaModel(LlamaConfig(hidden_size=width, **size, **heads)).eval() for width in (8, 16)]
        >>> solution = explained(*models, {"input_ids": torch.ones(1, 3, dtype=torch.long)})
        >>> [part.kind for part in on_disk(*models, solution)["layers.0.mlp.up_proj.weight"][0]]
        ['keeps', 'reads']
    """
    first, second = _Numbered(small), _Numbered(wide)
    return {name: _tensor(name, first, second, solution) for name in first.tensors}


class _Numbered:
    """A model's state dict on disk, in which every entry holds its number."""

    def __init__(self, model: PreTrainedModel) -> None:
        state = model.state_dict()
        first: dict[int, str] = {}
        self.owners = {name: first.setdefault(value.data_ptr() or id(value), name) for name, value in state.items()}
        self.shapes = {name: tuple(value.shape) for name, value in state.items()}
        self.starts: dict[str, int] = {}
        numbered, at = {}, 0
        for name, value in state.items():
            self.starts[name] = at
            numbered[name] = torch.arange(at, at + value.numel(), dtype=torch.float64).reshape(value.shape)
            at += value.numel()
        self.tensors: dict[str, Tensor] = to_disk(model, numbered)
        self._bounds = [(start, name) for name, start in self.starts.items() if math.prod(self.shapes[name])]

    def place(self, number: float) -> tuple[str, tuple[int, ...]]:
        """The parameter and the index of an entry."""
        import bisect

        start, name = self._bounds[bisect.bisect_right(self._bounds, (int(number), "\uffff")) - 1]
        rest, index = int(number) - start, []
        for size in reversed(self.shapes[name]):
            index.append(rest % size)
            rest //= size
        return name, tuple(reversed(index))

    def parts(self, name: str, solution: Solution) -> tuple[Part, ...] | None:
        """The parts of a parameter; of the second of two names, as the head that it is."""
        owner = self.owners[name]
        return (solution.parts if owner == name else solution.as_reader).get(owner)

    def line(self, name: str, dim: int) -> list[tuple[str, tuple[int, ...]]]:
        """Where the entries along one dimension come from, at 0 in the others."""
        value = self.tensors[name]
        for d in reversed(range(value.dim())):
            if d != dim:
                value = value.select(d, 0)
        return [self.place(number) for number in value.tolist()]


def _tensor(name: str, first: _Numbered, second: _Numbered, solution: Solution) -> tuple[tuple[Part, ...], str]:
    shape = first.tensors[name].shape
    if 0 in shape or name not in second.tensors:
        raise Unexplained(f"tensor '{name}' is not the same in a wider model")
    if not shape:
        owner = first.place(float(first.tensors[name]))[0]
        return (), owner
    parts, owner = [], ""
    for dim in range(len(shape)):
        runs, wider = _runs(first.line(name, dim)), _runs(second.line(name, dim))
        owner = runs[0][0]
        if [run[:2] for run in runs] != [run[:2] for run in wider]:
            raise Unexplained(f"tensor '{name}' is made in another way in a wider model")
        if len(runs) == 1 and runs[0][1] < 0:  # one entry
            parts.append(Part("keeps", []))
            continue
        parts.append(_joined(runs, wider, first, second, solution))
    return tuple(parts), owner


Run = tuple[str, int, int, int]
"""(parameter, its dimension, first index, length); the dimension is -1 for a single entry."""


def _runs(line: list[tuple[str, tuple[int, ...]]]) -> list[Run]:
    """The entries along one dimension, in runs of one parameter along one of its dimensions. Entries that change
    places within one parameter's dimension are one run."""
    runs: list[Run] = []
    at = 0
    while at < len(line):
        name, index = line[at]
        end = at + 1
        varies: set[int] = set()
        while end < len(line) and line[end][0] == name:
            new = {d for d, (i, j) in enumerate(zip(index, line[end][1], strict=True)) if i != j}
            if len(varies | new) > 1:
                break
            varies |= new
            end += 1
        dim = varies.pop() if varies else -1
        places = [line[k][1][dim] for k in range(at, end)] if dim >= 0 else [0]
        runs.append((name, dim, min(places), end - at))
        at = end
    return runs


def _joined(runs: list[Run], wider: list[Run], first: _Numbered, second: _Numbered, solution: Solution) -> Part:
    pieces: list[Range] = []
    kind, scale = "keeps", 0.0
    before_head: float | None = None
    for (name, dim, start, length), (_, _, other, other_length) in zip(runs, wider, strict=True):
        if dim < 0 or (known := first.parts(name, solution)) is None:
            continue
        part = known[dim]
        if part.kind == "keeps":
            continue
        if kind not in ("keeps", part.kind) or (kind == part.kind and abs(scale - part.scale) > 1e-9):
            raise Unexplained(f"'{name}' shares a tensor on disk with a parameter of another role")
        kind, scale, before_head = part.kind, part.scale, part.before_head
        whole = (length, other_length) == count_of(part.parts)
        pieces.append(
            part.parts if whole else between(part.parts, (start, other), (start + length, other + other_length))
        )
    return Part(kind, join(pieces) if pieces else [], scale, before_head)
