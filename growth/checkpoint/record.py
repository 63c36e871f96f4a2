"""``growth.json``: the plan, the proofs, the versions and the hashes of the source's files."""

from __future__ import annotations

import hashlib
import platform
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy
import safetensors
import torch
import transformers

from growth.hf.reader import Checkpoint
from growth.hf.source_files import SourceFiles
from growth.plan.plan import Plan
from growth.proof.twin import Proof
from growth.version import __version__


class TrainingState(Protocol):
    """What is grown beside the weights."""

    def to_json(self) -> dict[str, Any]:
        """What the record says of it."""


def growth_record(
    plan: Plan, proof: Proof, source: Checkpoint, hashes: Mapping[str, str], dtype: str, training: TrainingState | None
) -> dict[str, Any]:
    """What ``growth.json`` holds: all that is needed to grow the source again and to see that it is
    the source.

    Args:
        plan, proof: how it grew, and what was proved.
        source: the checkpoint.
        hashes: file name -> SHA-256, of the source's files that were read.
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


@contextmanager
def hashing(paths: Sequence[Path], files: SourceFiles) -> Iterator[Future[dict[str, str]]]:
    """SHA-256 of each file by its name in the folder, worked out beside whatever the block does, and given up if the
    block fails.

    Args:
        paths: what to hash.
        files: of the source; a file that is no longer what was read is refused.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(
                lambda: {str(path.relative_to(files.folder)): _sha256(path, files, stop) for path in paths}
            )
        finally:
            stop.set()


def _sha256(path: Path, files: SourceFiles, stop: threading.Event) -> str:
    digest = hashlib.sha256()
    for part in files.parts(path):
        if stop.is_set():
            break
        digest.update(part)
    return digest.hexdigest()
