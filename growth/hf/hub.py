"""What the hub answers when it gives no model, as one sentence each."""

from __future__ import annotations

import os

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from growth.errors import CheckpointError

HUB_ERRORS = (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError)
"""What a download raises."""


def hub_error(source: str | os.PathLike[str], error: Exception) -> CheckpointError:
    """The error for a model that is no folder here and that the hub did not give.

    Args:
        source: the hub id that was asked for.
        error: what `huggingface_hub` raised.
    """
    if isinstance(error, GatedRepoError):
        return CheckpointError(
            f"'{source}' is gated: its owners give access on request. Ask for it on the model's page, then set "
            "HF_TOKEN or run `hf auth login`."
        )
    if isinstance(error, RepositoryNotFoundError):
        return CheckpointError(
            f"'{source}' is no folder here, and the hub knows no such model or keeps it private. Check the spelling; "
            "for a private one, set HF_TOKEN or run `hf auth login`."
        )
    if isinstance(error, HFValidationError):
        return CheckpointError(
            f"'{source}' is neither a folder here nor a hub id such as 'org/model'. Check the spelling."
        )
    if isinstance(error, HfHubHTTPError):
        return CheckpointError(
            f"'{source}' is no folder here, and the hub answered: {_first(error)}. Check the spelling."
        )
    if not isinstance(error, (LocalEntryNotFoundError, ConnectionError)):
        return CheckpointError(f"'{source}' could not be downloaded: {_first(error)}. Check the disk and the network.")
    return CheckpointError(
        f"'{source}' is neither a folder here nor in the hub's cache, and the hub could not be asked. Check the "
        "spelling and the network."
    )


def _first(error: Exception) -> str:
    """The first sentence of what an error says."""
    return " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__
