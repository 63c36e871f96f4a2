"""The dtypes weights come in, by the names torch and safetensors give them."""

from __future__ import annotations

import torch

from growth.errors import CheckpointError, shown
from growth.hf.dtype_names import ALIASES, FLOAT_NAMES

FLOATS: tuple[torch.dtype, ...] = tuple(getattr(torch, name) for name in FLOAT_NAMES)
"""Those that can hold shares of a weight."""


SAFETENSORS = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"I64": torch.int64, "U8": torch.uint8, "BOOL": torch.bool},
}
"""The format's names: floats, and what buffers come in."""


def dtype_name(dtype: torch.dtype) -> str:
    """``bfloat16``, as configs and options say it."""
    return str(dtype).removeprefix("torch.")


def float_dtype(wanted: str | torch.dtype) -> torch.dtype:
    """The float dtype of that name.

    Raises:
        CheckpointError: for any other.

    Example:
        >>> float_dtype("bf16")
        torch.bfloat16
    """
    name = wanted if isinstance(wanted, str) else dtype_name(wanted) if isinstance(wanted, torch.dtype) else ""
    for dtype in FLOATS:
        if ALIASES.get(name, name) == dtype_name(dtype):
            return dtype
    raise CheckpointError(f"dtype must be one of {', '.join(FLOAT_NAMES)}, not {shown(wanted)}.")
