"""The state of an optimizer as FSDP saves it: by the names of parameters in memory, read entry by entry.

{"optimizer": {"state": {name: {"step": ..., "exp_avg": ..., "exp_avg_sq": ...}},
               "param_groups": [{"lr": ..., "params": [name, ...]}, ...]}}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel

from growth.checkpoint.optimizer_file import COUNTERS, writer_of
from growth.errors import CheckpointError, UnsupportedModelError, shown
from growth.hf.dcp_reader import ShardedFolder
from growth.hf.fsdp_folder import FsdpFolder
from growth.hf.reader import is_dense, unpickle
from growth.hf.source_files import SourceFiles
from growth.training.optimizer_kinds import KINDS

ALONE = "leave --optimizer out to grow the weights alone"


@dataclass(frozen=True)
class FsdpOptimizer:
    """What a folder of FSDP holds of an optimizer.

    Args:
        path: the folder, or the file.
        state: parameter -> state name -> its value; for a tensor one of its shape and dtype, whose values
            are not read yet.
        groups: the parameter groups, with the names of their parameters.
        read: parameter and state name -> the tensor.
        files: what is read.
        writer: the class of the optimizer.
        called: its name.
    """

    path: Path
    state: Mapping[str, Mapping[str, Any]]
    groups: list[dict[str, Any]]
    read: Callable[[str, str], Tensor]
    files: list[Path]
    writer: type[Optimizer]
    called: str

    @property
    def steps(self) -> int | None:
        """The number of steps that it has taken; None where it does not count them."""
        counted = [float(self.value(name, "step")) for name, held in self.state.items() if "step" in held]
        return int(max(counted)) if counted else None

    def value(self, name: str, key: str) -> Any:
        """One state of a parameter, read if it is a tensor."""
        held = self.state[name][key]
        return self.read(name, key) if isinstance(held, Tensor) else held


def open_optimizer(found: FsdpFolder, files: SourceFiles, model: PreTrainedModel) -> FsdpOptimizer:
    """Open the state of the optimizer of a folder.

    Args:
        found: the folder.
        files: its files.
        model: the one that was trained, on the meta device.

    Raises:
        CheckpointError: no such state, or one that is damaged, unsafe or of other parameters.
        UnsupportedModelError: an optimizer whose state has no growth rule.
    """
    if not found.optimizer.exists():
        raise CheckpointError(
            f"{found.folder} has no '{found.optimizer.name}', in which accelerate saves the state of the optimizer. "
            f"Save it with accelerator.save_state or save_only_model=False, or {ALONE}."
        )
    state, groups, read, paths = (_sharded if found.sharded else _whole)(found.optimizer, files)
    _check(found.optimizer, state, groups, model)
    writer, called = writer_of({"state": state, "param_groups": groups})
    start = KINDS[writer].start if writer else None
    if start and not all(isinstance(group[start], Real) for group in groups):
        raise CheckpointError(f"{found.optimizer} has no number as '{start}'. Fetch it again, or {ALONE}.")
    for name, held in state.items():
        for key in KINDS[writer].state if writer else ():
            if held.get(key) is not None and not isinstance(held[key], Tensor):  # a momentum may be None so far
                raise CheckpointError(
                    f"{found.optimizer} has {shown(held[key])} as '{key}' of '{name}', which has an entry for each "
                    f"weight. Fetch it again, or {ALONE}."
                )
    if writer is None:
        raise UnsupportedModelError(
            f"the optimizer in {found.optimizer} ({called}) is not supported: its state has no growth rule, and "
            f"accelerate loads a state only whole. Those of Adam, SGD, Adagrad and RMSprop have one; {ALONE}."
        )
    return FsdpOptimizer(found.optimizer, state, groups, read, paths, writer, called)


_Opened = tuple[dict[str, dict[str, Any]], list[dict[str, Any]], Callable[[str, str], Tensor], list[Path]]


def _sharded(path: Path, files: SourceFiles) -> _Opened:
    folder = ShardedFolder(path, files)
    state: dict[str, dict[str, Any]] = {}
    groups: dict[int, dict[str, Any]] = {}
    for place in folder.keys:
        about = folder.tensor(place)
        match place:
            case ("optimizer", "state", str(name), str(key)):
                if about is None or not about.size:  # a count, which is checked
                    held: Any = folder.read(place)
                else:
                    held = torch.zeros((), dtype=about.properties.dtype).expand(about.size)
                state.setdefault(name, {})[key] = held
            case ("optimizer", "param_groups", int(number), str(key)):
                groups.setdefault(number, {})[key] = folder.read(place)
            case _:
                raise CheckpointError(
                    f"{path} holds '{'.'.join(map(str, place))}', which is not where accelerate saves the state of an "
                    f"optimizer. Save it with accelerator.save_state, or {ALONE}."
                )

    def read(name: str, key: str) -> Tensor:
        value = folder.read(("optimizer", "state", name, key))
        assert isinstance(value, Tensor)
        return value

    return state, [groups[number] for number in sorted(groups)], read, folder.files


def _whole(path: Path, files: SourceFiles) -> _Opened:
    files.note(path)
    loaded = unpickle(path)
    state, groups = (loaded.get("state"), loaded.get("param_groups")) if isinstance(loaded, dict) else (None, None)
    if not isinstance(state, dict) or not isinstance(groups, list) or not all(isinstance(g, dict) for g in groups):
        raise CheckpointError(f"{path} does not hold the state of an optimizer. Fetch the file again.")
    return state, groups, lambda name, key: state[name][key].detach(), [path]


def _check(path: Path, state: Mapping[Any, Any], groups: list[dict[str, Any]], model: PreTrainedModel) -> None:
    """Refuse a state that is not by the names of the model's parameters, in their shapes."""
    shapes = {name: tuple(one.shape) for name, one in model.named_parameters(remove_duplicate=False)}
    lists = [group.get("params") for group in groups]
    if not groups or not all(isinstance(names, list) for names in lists):
        raise CheckpointError(f"{path} does not list the parameters of each group. Fetch it again.")
    listed = [name for names in lists for name in names or []]
    strange = [name for name in (*listed, *state) if not isinstance(name, str) or name not in shapes]
    if strange:
        raise CheckpointError(
            f"{path} holds the state of {shown(strange[0])}, which is no parameter of {type(model).__name__}. Name "
            f"the config of the model that was trained, or {ALONE}."
        )
    if len({*listed}) != len(listed) or state.keys() - {*listed}:
        raise CheckpointError(
            f"{path} holds the state of parameters that are in none of its groups, or in several. Fetch it again, or "
            f"{ALONE}."
        )
    for name, held in state.items():
        if not isinstance(held, Mapping):
            raise CheckpointError(f"{path} does not hold a state of '{name}'. Fetch it again, or {ALONE}.")
        for key, value in held.items():
            if key in COUNTERS and not _counts(value):
                raise CheckpointError(f"{path} counts no steps in '{key}' of '{name}'. Fetch it again, or {ALONE}.")
            if isinstance(value, Tensor) and key not in COUNTERS and tuple(value.shape) != shapes[name]:
                raise CheckpointError(
                    f"state '{key}' of '{name}' in {path} has shape {list(value.shape)}, and its parameter "
                    f"{list(shapes[name])}. Fetch it again, or {ALONE}."
                )


def _counts(value: Any) -> bool:
    """Whether a value is a count, or a product of factors: real, finite and not negative."""
    if isinstance(value, Tensor):
        if value.ndim or not is_dense(value):
            return False
        value = value.item()
    try:
        return isinstance(value, Real) and 0 <= float(value) < math.inf
    except OverflowError:
        return False


def spelled_names(model: PreTrainedModel, optimizer: FsdpOptimizer) -> dict[str, str]:
    """Parameter of the model -> the name that the groups have for it: of a tied one that with a state.

    Raises:
        CheckpointError: two states of one tied parameter.
    """
    listed = {name for group in optimizer.groups for name in group["params"]}
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    spelled = {}
    for tied in names.values():
        there = [name for name in tied if name in listed]
        held = [name for name in there if optimizer.state.get(name)]
        if len(held) > 1:
            raise CheckpointError(
                f"{optimizer.path} holds a state of '{held[0]}' and one of '{held[1]}', which are one weight by the "
                f"config. Set tie_word_embeddings in it to what the training had, or {ALONE}."
            )
        if there:
            spelled[tied[0]] = (held or there)[-1]
    return spelled
