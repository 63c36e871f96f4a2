"""``growth.json``: the plan, the proofs, the versions and the hashes of the source's files."""

from __future__ import annotations

import hashlib
import platform
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy
import safetensors
import torch
import transformers

from growth.checkpoint.trainer_state import TrainerState
from growth.hf.reader import Checkpoint
from growth.plan.plan import Plan
from growth.proof.twin import Proof
from growth.version import __version__


def growth_record(
    plan: Plan, proof: Proof, source: Checkpoint, hashes: Mapping[str, str], dtype: str, training: TrainerState | None
) -> dict[str, Any]:
    packages = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    versions = {"growth": __version__, **packages, "safetensors": safetensors.__version__, "numpy": numpy.__version__}
    return {
        "source": {"name": source_name(source.folder, source.config), "sha256": dict(hashes)},
        "dtype": dtype,
        **({"training": training.to_json()} if training else {}),
        "proof": proof.to_json(),
        "versions": versions,
        "plan": plan.to_json(),
    }


def source_name(folder: Path, config: Mapping[str, Any]) -> str:
    """What a source is called: its hub id where that is known, else the name of its folder.

    The id is in the path of the hub's cache (``models--org--model/snapshots/...``), or in
    ``_name_or_path``, where transformers noted it."""
    cached = folder.absolute().parent.parent.name
    if cached.startswith("models--"):
        return cached.removeprefix("models--").replace("--", "/")
    noted = config.get("_name_or_path")
    if isinstance(noted, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", noted):
        return noted
    return folder.resolve().name


@contextmanager
def hashing(paths: Sequence[Path]) -> Iterator[Future[dict[str, str]]]:
    """SHA-256 of each file by name, worked out beside whatever the block does, and given up if the
    block fails."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(lambda: {path.name: _sha256(path, stop) for path in paths})
        finally:
            stop.set()


def _sha256(path: Path, stop: threading.Event) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while not stop.is_set() and (part := file.read(1 << 24)):
            digest.update(part)
    return digest.hexdigest()
