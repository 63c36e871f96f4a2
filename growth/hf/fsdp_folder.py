"""Folders that accelerate, and `transformers.Trainer` through it, save a model under FSDP to: which they
are, and what else in them is not read. Without torch, since it is told before that is imported.

    pytorch_model_fsdp_0/{.metadata, __0_0.distcp, ...}   weights, SHARDED_STATE_DICT
    optimizer_0/{.metadata, __0_0.distcp, ...}            state of the optimizer
    pytorch_model_fsdp.bin, optimizer.bin                 the same, FULL_STATE_DICT

References:
    accelerate/utils/fsdp_utils.py, `save_fsdp_model` and `save_fsdp_optimizer`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from growth.errors import CheckpointError
from growth.hf.folders import WEIGHTS, check_source
from growth.hf.paths import local_path

SHARDED, SHARDED_OPTIMIZER = "pytorch_model_fsdp_0", "optimizer_0"
FULL, FULL_OPTIMIZER = "pytorch_model_fsdp.bin", "optimizer.bin"

_REFUSED = (
    (
        ("pytorch_model_fsdp_rank*.bin",),
        "weights in FSDP's own flat pieces (LOCAL_STATE_DICT), which say neither names nor shapes",
    ),
    (
        ("pytorch_model_fsdp_[0-9]*_rank*.bin", "optimizer_[0-9]*_rank*.bin"),
        "a file for each rank (use_dcp=False of accelerate), which only as many ranks can read",
    ),
    (
        ("pytorch_model_fsdp_[1-9]*", "optimizer_[1-9]*", "pytorch_model_fsdp_[1-9]*.bin", "optimizer_[1-9]*.bin"),
        "several models or optimizers, where one is grown",
    ),
)
"""Patterns of what is not read -> what it is."""


@dataclass(frozen=True)
class FsdpFolder:
    """What a folder holds of a model that was saved under FSDP.

    Args:
        folder: it.
        sharded: whether in one folder for weights and one for the optimizer (SHARDED_STATE_DICT), rather
            than in one file each (FULL_STATE_DICT).
    """

    folder: Path
    sharded: bool

    @property
    def weights(self) -> Path:
        """The folder, or the file, of the weights."""
        return self.folder / (SHARDED if self.sharded else FULL)

    @property
    def optimizer(self) -> Path:
        """The folder, or the file, of the optimizer's state; it need not be there."""
        return self.folder / (SHARDED_OPTIMIZER if self.sharded else FULL_OPTIMIZER)

    @property
    def covered(self) -> list[str]:
        """The names in the folder that are read or refused here."""
        return [self.weights.name, self.optimizer.name]


def fsdp_folder(source: str | os.PathLike[str]) -> FsdpFolder | None:
    """What a folder holds of a model under FSDP; None where it holds none.

    Example:
        >>> fsdp_folder("out/checkpoint-500").weights
        PosixPath('out/checkpoint-500/pytorch_model_fsdp_0')
    """
    folder = local_path(source)
    if (folder / SHARDED).is_dir():
        return FsdpFolder(folder, sharded=True)
    return FsdpFolder(folder, sharded=False) if (folder / FULL).is_file() else None


def grown_as_fsdp(source: str | os.PathLike[str], optimizer: bool = False) -> FsdpFolder | None:
    """What `fsdp_folder` finds, where that is what grows: beside whole weights, which Trainer writes too
    with FULL_STATE_DICT, only with the state of the optimizer."""
    found = fsdp_folder(source)
    if found is None:
        return None
    whole = (found.folder / "config.json").is_file() and any((found.folder / name).is_file() for name in WEIGHTS)
    return None if whole and not optimizer else found


def check_growable(source: str | os.PathLike[str], config: str | os.PathLike[str] | None = None) -> None:
    """Refuse a path that holds no model that grows, as `growth.hf.folders.check_source` does; a folder of
    FSDP holds one, if its config is named or lies in it.

    Args:
        source: as the caller names it.
        config: likewise; None where the caller names none.

    Raises:
        CheckpointError: naming what is there instead, or what is missing.
    """
    found = fsdp_folder(source) if isinstance(source, (str, os.PathLike)) and os.fspath(source) else None
    if found is None:
        check_source(source)
        if config is not None:
            raise CheckpointError(
                f"--config (config=) names the config of a folder that was saved under FSDP, and {source} is none: it "
                f"has neither {SHARDED} nor {FULL}. Leave it out: the model's own config.json is read."
            )
        return
    check_one_model(found)
    if config is None and not (found.folder / "config.json").is_file():
        raise CheckpointError(
            f"{found.folder} holds a model as FSDP saves it ('{found.weights.name}'), without its config. Name that with "
            "--config (config=): a config.json, a folder that has one, or a hub id."
        )


def check_one_model(found: FsdpFolder) -> None:
    """Refuse a folder with files of FSDP that are not read.

    Raises:
        CheckpointError: naming the file, and what it is.
    """
    for patterns, what in _REFUSED:
        for pattern in patterns:
            if there := sorted(path.name for path in found.folder.glob(pattern)):
                raise CheckpointError(f"{found.folder} holds '{there[0]}': {what}. {SAVE_SHARDED}")


SAVE_SHARDED = (
    "Load it as it was saved, and save it with fsdp_state_dict_type SHARDED_STATE_DICT (one model, one optimizer, "
    "use_dcp left out), which grows."
)


def beside_fsdp(folder: Path) -> str:
    """The sentence for a folder of FSDP files none of which is read here; empty for others."""
    for patterns, what in _REFUSED:
        for pattern in patterns:
            if there := sorted(path.name for path in folder.glob(pattern)):
                return f"{folder} holds '{there[0]}': {what}. {SAVE_SHARDED}"
    return ""
