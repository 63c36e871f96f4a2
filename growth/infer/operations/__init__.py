"""What every operation of torch says of ranges and scales: one file per kind of operation.

Importing this fills `growth.infer.values.RULES`."""

from growth.infer.operations import (
    drawn,
    indexing,
    masks,
    norms,
    pieces,
    pointwise,
    products,
    reductions,
    shapes,
    windows,
)

__all__ = [
    "drawn",
    "indexing",
    "masks",
    "norms",
    "pieces",
    "pointwise",
    "products",
    "reductions",
    "shapes",
    "windows",
]
