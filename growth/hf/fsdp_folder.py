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

from growth.hf.paths import local_path

SHARDED, SHARDED_OPTIMIZER = "pytorch_model_fsdp_0", "optimizer_0"
FULL, FULL_OPTIMIZER = "pytorch_model_fsdp.bin", "optimizer.bin"
FSDP = (SHARDED, SHARDED_OPTIMIZER, FULL, FULL_OPTIMIZER)

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


SAVE_SHARDED = (
    "Load it as it was saved, and save it with fsdp_state_dict_type SHARDED_STATE_DICT (one model, one optimizer, "
    "use_dcp left out), which grows."
)


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


def fsdp_folder(source: str | os.PathLike[str]) -> FsdpFolder | None:
    """What a folder holds of a model under FSDP; None where it holds none.

    Example:
        >>> fsdp_folder("out/checkpoint-500").weights
        PosixPath('out/checkpoint-500/pytorch_model_fsdp_0')
    """
    folder = local_path(source)
    if os.path.isdir(folder / SHARDED):
        return FsdpFolder(folder, sharded=True)
    return FsdpFolder(folder, sharded=False) if os.path.isfile(folder / FULL) else None


def unread_fsdp(folder: Path) -> str:
    """The sentence for a folder of FSDP files in a layout that is not read; empty for others.

    Example:
        >>> unread_fsdp(Path("out"))[:50]
        "out holds 'pytorch_model_fsdp_0_rank0.bin': a file"
    """
    for patterns, what in _REFUSED:
        for pattern in patterns:
            if there := sorted(path.name for path in folder.glob(pattern)):
                return f"{folder} holds '{there[0]}': {what}. {SAVE_SHARDED}"
    return ""
