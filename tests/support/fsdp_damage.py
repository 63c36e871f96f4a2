"""Folders of FSDP with something wrong in them, and what must be said of it."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed.checkpoint as dcp

import growth
from support.refusals import check_message

MODEL, OPTIMIZER = "pytorch_model_fsdp_0", "optimizer_0"


def refused(
    folder: Path,
    config: str | Path | None,
    *says: str,
    optimizer: bool = True,
    step: str | None = None,
    **choices: Any,
) -> None:
    """Growth refuses a folder in one sentence, and nothing is left."""
    wide = folder.parent / "wide"
    with pytest.raises(growth.GrowthError) as caught:
        growth.widen_checkpoint(folder, wide, config=config, optimizer=optimizer, **{"width": 2, **choices})
    check_message(str(caught.value), says, step)
    assert not wide.exists() and not (folder.parent / ".wide.growing").exists()


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the metadata of a folder that the tests wrote."""
    metadata = pickle.loads((path / ".metadata").read_bytes())
    changed = change(metadata)
    (path / ".metadata").write_bytes(pickle.dumps(metadata if changed is None else changed))


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a folder as torch.distributed.checkpoint does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there is no process group
        dcp.save(state, checkpoint_id=path)


def properties(metadata: Any) -> Any:
    return next(one for one in metadata.state_dict_metadata.values() if hasattr(one, "properties"))
