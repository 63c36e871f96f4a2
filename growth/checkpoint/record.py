"""``growth.json``: the plan, the proofs, the versions and the hashes of the source's files."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy
import safetensors
import torch
import transformers

from growth.checkpoint.shards import Done
from growth.hf.reader import Checkpoint
from growth.plan.plan import Plan
from growth.proof.proof import Proof
from growth.version import __version__


class TrainingState(Protocol):
    """What is grown beside the weights."""

    def to_json(self) -> dict[str, Any]:
        """What the record says of it."""


def growth_record(
    plan: Plan,
    proof: Proof,
    source: Checkpoint,
    hashes: Mapping[str, str],
    done: Sequence[Done],
    dtype: str,
    training: TrainingState | None,
) -> dict[str, Any]:
    """What ``growth.json`` holds: all that is needed to grow the source again and to see that it is
    the source.

    Args:
        plan, proof: how it grew, and what was proved.
        source: the checkpoint.
        hashes: file name -> SHA-256, of the source's files that were read.
        done: the weight files of the result, where they were hashed as they were written.
        dtype: of the result, in words.
        training: its training state, if that grew.
    """
    packages = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    versions = {"growth": __version__, **packages, "safetensors": safetensors.__version__, "numpy": numpy.__version__}
    return {
        "source": {"name": source_name(source.folder), "sha256": dict(hashes)},
        **({"result": {"sha256": {one.file: one.sha256 for one in done}}} if done else {}),
        "dtype": dtype,
        **({"training": training.to_json()} if training else {}),
        "proof": proof.to_json(),
        "versions": versions,
        "plan": plan.to_json(),
    }


def source_name(folder: Path) -> str:
    """What a source is called: its hub id where it lies in the hub's cache, else the name of its
    folder.

    Example:
        >>> source_name(Path("hub/models--org--model/snapshots/0a1b"))
        'org/model'
    """
    cached = folder.absolute().parent.parent.name
    if cached.startswith("models--"):
        return cached.removeprefix("models--").replace("--", "/")
    return folder.resolve().name
