"""One module behind the transformer of a sentence-transformers model: what it reads, and how it
grows (`growth.checkpoint.pipeline`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from growth.algebra.roles import Keeps, Reads, Role
from growth.checkpoint.first_module import ALONE, MODULES, SENTENCE, TOKENS, Feature, widened
from growth.errors import CheckpointError, UnsupportedModelError
from growth.hf.companion_names import MODULE_FILES, MODULE_WEIGHTS
from growth.hf.config_json import read_json
from growth.hf.reader import open_weights
from growth.hf.source_files import SourceFiles
from growth.plan.plan import Plan
from growth.plan.symmetry import UNBROKEN
from growth.plan.tensor_plan import TensorPlan

_NO_WIDTH = frozenset({"Dropout", "WordWeights", "LogitScore", "SpladePooling"})
"""Modules that pass a feature on coordinate by coordinate, or read logits."""

_OTHERS = ("Pooling", "Dense", "Normalize", "LayerNorm", "LSTM", "CNN", "WeightedLayerPooling", "SparseAutoEncoder")
_OF_KNOWN_FILES = frozenset({*_NO_WIDTH, *_OTHERS})
"""Modules of which `MODULE_FILES` are all the files; a Router keeps others in folders of its own."""

_FLAGS = "pooling_mode_"


@dataclass(frozen=True)
class Weights:
    """The weights of a module that grow.

    Args:
        file: where they are.
        tensors: name -> how it grows. A matrix that reads the hidden state several times over is
            taken as so many, one below the other: ``[out, times * n]`` as ``[out * times, n]``.
        shapes: name -> shape of the result.
        dtypes: name -> dtype.
        read: name -> the tensor, in the shape that it is taken as.
    """

    file: Path
    tensors: Mapping[str, TensorPlan]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, torch.dtype]
    read: Callable[[str], Tensor]


@dataclass(frozen=True)
class Module:
    """One module behind the transformer.

    Args:
        path: its folder.
        config: the content of its ``config.json`` for the new width; None if that is copied.
        weights: how its weights grow; None if they are copied.
    """

    path: Path
    config: Mapping[str, Any] | None = None
    weights: Weights | None = None

    @property
    def files(self) -> list[str]:
        """The names of its files, without those that somebody else put there."""
        return [name for name in MODULE_FILES if (self.path / name).is_file()]


class Wide:
    """Which features are copies of what the transformer writes, and how many times over; updated
    module by module.

    Args:
        written: what it writes.
        plan: of the transformer.
    """

    def __init__(self, written: Feature, plan: Plan) -> None:
        self.space, self.plan = written.space, plan
        self.hidden = hidden = None if written.space is None else plan.maps[written.space]
        self.times = {written.name: 1} if hidden is not None and widened(hidden) else {}
        self.normalised: set[str] = set()

    def note(self) -> str:
        """What becomes of the embedding."""
        if SENTENCE not in self.times or self.hidden is None:
            return ""
        times = self.times[SENTENCE]
        energy = None if self.hidden.averages else self.hidden.energy  # of a coordinate, on average
        stay = (
            "cosines stay" if energy is not None else "not even cosines stay, since some have more copies than others"
        )
        known = SENTENCE in self.normalised or energy in (None, self.hidden.n / self.hidden.m)
        scale = "" if known else ", dot products and distances do not"
        return (
            f"the sentence embedding has {times * self.hidden.m} coordinates instead of {times * self.hidden.n}; "
            f"{stay}{scale}"
        )


def read_module(source: SourceFiles, path: Path, kind: str, wide: Wide) -> Module:
    """One module, and what it makes of the features that are wide.

    Args:
        source: the files of the checkpoint.
        path: the module's folder.
        kind: the name of its class.
        wide: which features are wide; updated to what they are behind the module.

    Raises:
        CheckpointError: a module whose files are not there, or do not fit.
        UnsupportedModelError: a module that reads a wide feature in a way that is not known.
    """
    config: Mapping[str, Any] = {}
    if (path / "config.json").is_file():
        source.note(path / "config.json")
        config = read_json(path / "config.json")
    if not isinstance(config, dict) or (not config and kind not in ("Normalize", "Dropout")):
        raise CheckpointError(f"{MODULES} names '{path.name}' ({kind}), whose config.json is not there. Fetch it.")
    copied = Module(path)
    if (
        kind not in _OF_KNOWN_FILES
        and path.is_dir()
        and (more := {each.name for each in path.iterdir()} - {*copied.files})
    ):
        raise UnsupportedModelError(
            f"{MODULES} names '{path.name}' ({kind}), and whether it needs '{min(more)}' in that folder is not known. "
            f"{ALONE}"
        )
    reads = config.get("module_input_name") or SENTENCE
    writes = config.get("module_output_name") or reads
    if not wide.times or kind in _NO_WIDTH:
        return copied
    if kind == "Pooling":
        return replace(copied, config=_pooled(config, path, wide))
    if reads not in wide.times and kind in ("Dense", "Normalize", "LayerNorm"):
        wide.times.pop(writes, None)
        return copied
    if kind == "Normalize":
        wide.times[writes] = wide.times[reads]
        wide.normalised.add(writes)
        return copied
    if kind != "Dense" or reads in wide.normalised or _adds_its_input(config):
        raise UnsupportedModelError(
            f"{MODULES} names '{path.name}' ({kind}), and how it reads the hidden state, which becomes wider, is not "
            f"known. {ALONE}"
        )
    dense = _dense(source, path, config, reads, wide)
    wide.times.pop(writes, None)
    return dense


def _pooled(config: Mapping[str, Any], path: Path, wide: Wide) -> Mapping[str, Any] | None:
    """The config of a pooling of wide token embeddings; None where they are not wide."""
    assert wide.hidden is not None
    if TOKENS not in wide.times:
        wide.times.pop(SENTENCE, None)
        return None
    modes = config.get("pooling_mode", [name for name, on in config.items() if name.startswith(_FLAGS) and on is True])
    modes = [modes] if isinstance(modes, str) else list(modes)
    if any("max" in str(mode) for mode in modes) and ((wide.hidden.write <= 0).any() or wide.hidden.means.any()):
        raise UnsupportedModelError(
            f"'{path.name}' takes the largest value over tokens, which copies of another sign do not keep. {ALONE}"
        )
    wide.times[SENTENCE] = max(1, len(modes))
    widths = {name: wide.hidden.m for name in ("word_embedding_dimension", "embedding_dimension") if name in config}
    if any(config[name] != wide.hidden.n for name in widths):
        raise CheckpointError(
            f"{path / 'config.json'} pools {config[next(iter(widths))]} coordinates, but the hidden state has "
            f"{wide.hidden.n}. Fetch the folder again."
        )
    return {**config, **widths}


def _adds_its_input(config: Mapping[str, Any]) -> bool:
    """Whether a Dense adds what it reads to what it writes, without a matrix between."""
    return bool(config.get("use_residual")) and config.get("in_features") == config.get("out_features")


def _dense(source: SourceFiles, path: Path, config: Mapping[str, Any], reads: str, wide: Wide) -> Module:
    """A Dense that reads the hidden state, some times over."""
    assert wide.hidden is not None
    times, file = wide.times[reads], next((path / name for name in MODULE_WEIGHTS if (path / name).is_file()), None)
    width = times * wide.hidden.n
    if file is None:
        raise CheckpointError(f"{MODULES} names '{path.name}' (Dense), whose weights are not there. Fetch them.")
    read, shapes, dtypes = open_weights(file, source)
    odd = {
        name: shape
        for name, shape in shapes.items()
        if len(shape) != (1 if name == "linear.bias" else 2) or (len(shape) == 2 and shape[1] != width)
    }
    if config.get("in_features") != width or odd or "linear.weight" not in shapes:
        raise CheckpointError(
            f"'{path.name}' reads {config.get('in_features')} coordinates"
            + "".join(f", '{name}' has shape {list(shape)}" for name, shape in odd.items())
            + f", but what arrives there has {width}. Fetch the folder again."
        )
    tensors = {name: _tensor(name, shape, times, wide) for name, shape in shapes.items()}

    def stacked(name: str) -> Tensor:
        held: Tensor = read(name)
        return held.reshape(tensors[name].shape)

    new = times * wide.hidden.m
    grown = {name: shape if len(shape) == 1 else (shape[0], new) for name, shape in shapes.items()}
    return Module(path, {**config, "in_features": new}, Weights(file, tensors, grown, dtypes, stacked))


def _tensor(name: str, shape: tuple[int, ...], times: int, wide: Wide) -> TensorPlan:
    """How a tensor of a Dense grows: a bias stays, a matrix reads the hidden state."""
    assert wide.space is not None and wide.hidden is not None
    roles: tuple[Role, ...] = (Keeps(),) if len(shape) == 1 else (Keeps(), Reads(wide.space))
    seen = shape if len(shape) == 1 else (shape[0] * times, wide.hidden.n)
    dimensions = tuple(role.resolve(size, wide.plan.maps) for role, size in zip(roles, seen, strict=True))
    may_differ = len(shape) == 2 and wide.hidden.m > wide.hidden.n
    return TensorPlan(name, name, seen, roles, dimensions, wide.plan.options.breaking if may_differ else UNBROKEN)
