"""What stops an inference."""

from __future__ import annotations


class Unexplained(Exception):
    """Something in the model's code that the inference has no explanation for, in a few words. It is caught where the
    module and the operation are known, and becomes part of a refusal."""


class Differs(Unexplained):
    """The two runs do not do the same operations.

    Example:
        >>> issubclass(Differs, Unexplained)
        True
    """


class Unsized(Unexplained):
    """A dimension grows, and no config field says how large it is: other small sizes may tell."""
