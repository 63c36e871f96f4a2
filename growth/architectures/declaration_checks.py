"""Whether a declaration is complete: every space has a law and a size, every law has what it
needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from growth.algebra.axes import Axis, Space
from growth.algebra.laws import Law
from growth.architectures.sizes import Size
from growth.errors import UnsupportedModelError, shown

_ENTRIES: dict[str, tuple[Any, str]] = {
    "modules": (Mapping, "a rule"),
    "laws": (Law, "a law"),
    "outputs": (Axis, "an axis"),
    "sizes": (Size, "a Size"),
    "constants": (Callable, "a function of config and sizes"),
    "vouched": ((Collection, type(None)), "a collection of values, or None for any"),
}
"""Table of a declaration -> the type of its entries, and what they are called."""


def check_tables(declared: Mapping[str, Any], variant: type) -> None:
    """Raise UnsupportedModelError for a declaration without a name, for a table of it that is no
    dictionary, and for an entry of the wrong kind (a law's class, where a law belongs).

    Args:
        declared: the arguments of the declaration, by name.
        variant: the type of the entries of its ``variants``.
    """
    model_type = declared["model_type"]
    if not isinstance(model_type, str) or not model_type:
        raise UnsupportedModelError(f"a declaration's model_type must be a name, not {shown(model_type)}. Name it.")
    for what, (kind, called) in {**_ENTRIES, "variants": (variant, "a Variant")}.items():
        if not isinstance(declared[what], Mapping):
            raise UnsupportedModelError(
                f"the {what} of '{model_type}' must be a dictionary, not {shown(declared[what])}. Use one of them by "
                "name."
            )
        for name, entry in declared[what].items():
            if not isinstance(entry, kind) or isinstance(entry, str):  # text is a collection of letters
                made = f", or call it: {entry.__name__}(...)" if isinstance(entry, type) else ""
                raise UnsupportedModelError(
                    f"entry '{name}' in the {what} of '{model_type}' must be {called}, not {shown(entry)}. Give "
                    f"one{made}."
                )


def check_complete(
    model_type: str,
    used: Collection[Space],
    laws: Mapping[Space, Law],
    sizes: Collection[str],
    constants: Collection[str],
) -> None:
    """Raise UnsupportedModelError for a declaration that lacks something, naming what it lacks.

    Args:
        model_type: of the declaration.
        used: every space that a parameter or an output ranges over.
        laws: the declared laws, in order.
        sizes: the names of the declared sizes.
        constants: the names of the declared constants.
    """
    if missing := sorted(str(space) for space in used if space not in laws):
        raise UnsupportedModelError(
            f"'{model_type}' uses spaces without a law: {', '.join(missing)}. Declare one for each."
        )
    if missing := sorted({space.size for space in laws if space.size not in sizes}):
        raise UnsupportedModelError(
            f"'{model_type}' has spaces of sizes it does not declare: {', '.join(missing)}. Add them."
        )
    for space, needed in _missing(laws, constants):
        raise UnsupportedModelError(
            f"the law of '{space}' in '{model_type}' needs '{needed}'. Declare that space before it, or that constant."
        )


def _missing(laws: Mapping[Space, Law], constants: Collection[str]) -> list[tuple[Space, str]]:
    """(space, what its law needs) for every need that is not declared, or is declared too late."""
    spaces = list(laws)
    return [
        (space, needed)
        for position, (space, law) in enumerate(laws.items())
        for needed in (
            *(str(other) for other in law.follows() if other not in spaces[:position]),
            *(constant for constant in law.constants() if constant not in constants),
        )
    ]
