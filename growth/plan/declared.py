"""Which declaration a plan is made by."""

from __future__ import annotations

from dataclasses import dataclass

from growth.architectures.architecture import Architecture


@dataclass(frozen=True)
class Declared:
    """The declaration that a plan is made by.

    Args:
        base: the declaration, not yet adapted to a config.
        looks_like: the ``model_type`` it was declared for, if the model's own is not declared and
            this one fits (`growth.infer.lookalike`); else None.
        inferred: whether it was found on the model's miniature (`growth.infer.infer`).

    Example:
        >>> from growth.architectures import find
        >>> Declared(find("llama"), looks_like="llama")
        Declared(base=Architecture(llama: ...), looks_like='llama', inferred=False)
    """

    base: Architecture
    looks_like: str | None = None
    inferred: bool = False
