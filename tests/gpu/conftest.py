from __future__ import annotations

import pytest
import torch

NO_GPU = (
    "no GPU was found (torch.cuda.is_available() is False), so nothing was checked: run `make test-gpu` on a machine "
    "with one"
)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Tests that need a GPU neither pass nor are skipped without one: the run ends, and fails."""
    needed = any(item.get_closest_marker("gpu") for item in session.items)
    if needed and not session.config.option.collectonly and not torch.cuda.is_available():
        pytest.exit(NO_GPU, returncode=1)
