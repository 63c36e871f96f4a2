"""Whether a declaration is complete: every space has a law and a size, every law has what it
needs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from growth.algebra.axes import Space
from growth.algebra.laws import Law
from growth.errors import UnsupportedModelError, shown


def check_named(model_type: object, modules: object, laws: object) -> None:
    """Raise UnsupportedModelError for a declaration without a name, rules or laws."""
    if not isinstance(model_type, str) or not model_type:
        raise UnsupportedModelError(f"a declaration's model_type must be a name, not {shown(model_type)}. Name it.")
    for what, table in (("modules", modules), ("laws", laws)):
        if not isinstance(table, Mapping):
            raise UnsupportedModelError(
                f"the {what} of '{model_type}' must be a dictionary, not {shown(table)}. Use one of them by name."
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
