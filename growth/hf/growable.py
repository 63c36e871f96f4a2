"""Whether a path holds a model that can be grown: told before torch is imported. Besides what
`growth.hf.folders` knows, that is a folder that was saved under FSDP (`growth.hf.fsdp_folder`)."""

from __future__ import annotations

import os

from growth.errors import CheckpointError
from growth.hf.folders import WEIGHTS, check_source
from growth.hf.fsdp_folder import FULL, SHARDED, FsdpFolder, fsdp_folder, unread_fsdp


def grown_as_fsdp(source: str | os.PathLike[str], optimizer: bool = False) -> FsdpFolder | None:
    """What `fsdp_folder` finds, where that is what grows. Beside whole weights, which Trainer writes too with
    FULL_STATE_DICT, it is only with the state of the optimizer.

    Args:
        source: as the caller names it.
        optimizer: whether that state is to grow.
    """
    written = os.fspath(source) if isinstance(source, (str, os.PathLike)) else b""
    found = fsdp_folder(source) if written and isinstance(written, str) else None
    if found is None:
        return None
    whole = (found.folder / "config.json").is_file() and any((found.folder / name).is_file() for name in WEIGHTS)
    return None if whole and not optimizer else found


def check_growable(
    source: str | os.PathLike[str], config: str | os.PathLike[str] | None = None, optimizer: bool = False
) -> None:
    """Refuse a path that holds no model that grows, as `growth.hf.folders.check_source` does. A folder of FSDP
    holds one, if its config is named or lies in it.

    Args:
        source, optimizer: as in `grown_as_fsdp`.
        config: as the caller names it; None where there is none named.

    Raises:
        CheckpointError: naming what is there instead, or what is missing.
    """
    found = grown_as_fsdp(source, optimizer)
    if found is None:
        check_source(source)
        if config is not None:
            raise CheckpointError(
                f"--config (config=) names the config of a folder that was saved under FSDP, with '{SHARDED}' or "
                f"'{FULL}' in it, and {source} is none. Remove it: the model's own config.json is read."
            )
        return
    if said := unread_fsdp(found.folder):
        raise CheckpointError(said)
    if config is None and not (found.folder / "config.json").is_file():
        raise CheckpointError(
            f"{found.folder} holds a model as FSDP saves it ('{found.weights.name}'), without its config. Name the "
            "model's config.json, a folder that has one, or a hub id, with --config (config=)."
        )
