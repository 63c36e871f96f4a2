"""What every operation of torch says of ranges and scales: one file per kind of operation.

Importing this fills `growth.infer.values.RULES`."""

from growth.infer.operations import indexing, norms, pieces, pointwise, products, reductions, shapes, windows

__all__ = ["indexing", "norms", "pieces", "pointwise", "products", "reductions", "shapes", "windows"]
