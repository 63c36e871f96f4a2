"""What every operation of torch says of ranges and scales: one file per kind of operation.

Importing this fills `growth.infer.walk.RULES`."""

from growth.infer.operations import indexing, norms, pointwise, products, reductions, shapes, windows

__all__ = ["indexing", "norms", "pointwise", "products", "reductions", "shapes", "windows"]
