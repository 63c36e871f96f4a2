"""The names of dtypes, without importing torch."""

from __future__ import annotations

FLOAT_NAMES = ("float64", "float32", "float16", "bfloat16")
"""Those that can hold shares of a weight."""

ALIASES = {
    **{"fp64": "float64", "f64": "float64", "double": "float64"},
    **{"fp32": "float32", "f32": "float32", "float": "float32"},
    **{"fp16": "float16", "f16": "float16", "half": "float16"},
    "bf16": "bfloat16",
}
"""What else they are called."""
