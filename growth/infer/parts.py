"""What a dimension of a parameter does: it keeps, writes or reads."""

from __future__ import annotations

from dataclasses import dataclass

from growth.infer.ranges import Range


@dataclass(frozen=True)
class Part:
    """What one dimension of a parameter does.

    Args:
        kind: ``keeps``, ``writes`` or ``reads``.
        parts: the range.
        scale: logarithm of the factor by which copies of the activation scale.
        before_head: of what the matrix before the logits reads, the logarithm of the factor that still comes between
            here and there; None elsewhere.

    Example:
        >>> from growth.infer.ranges import fresh
        >>> Part("writes", fresh((4, 8))).kind
        'writes'
    """

    kind: str
    parts: Range
    scale: float = 0.0
    before_head: float | None = None
