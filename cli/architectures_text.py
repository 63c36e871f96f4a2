"""How the lists of ``grow architectures`` look on a terminal. Everything else that a command shows
is the text of a result (`growth.text`)."""

from __future__ import annotations

from collections.abc import Sequence

from growth.hf.catalogue import Description, Family
from growth.text import Part, Table, as_text, wrapped


def families_text(rows: Sequence[Family]) -> str:
    listed = Table(
        ("model_type", "classes", "widths", "wider heads", "positions"),
        [(row.model_type, _classes(row), row.widths, row.wider_heads, row.positions) for row in rows],
    )
    refused: dict[str, list[str]] = {}
    for row in rows:
        if row.refuses:
            refused.setdefault(row.refuses, []).append(row.model_type)
    notes = [wrapped(f"refused: {what} ({', '.join(who)})", indent="  ") for what, who in refused.items()]
    return "\n".join([str(listed), "", *notes, "", "`grow architectures NAME` spells one out."])


def _classes(row: Family) -> str:
    first, others = (
        next((name for name in row.heads if name.endswith(("LM", "Generation"))), (*row.heads, "-")[0]),
        len(row.heads) - 1,
    )
    return f"{first} and {others} more" if others > 0 else first


def families_markdown(rows: Sequence[Family]) -> str:
    """The README's table."""
    body = [
        f"| `{row.model_type}` | {', '.join(row.heads) or '-'} | {row.widths} | {row.positions} | "
        f"{row.refuses or '-'} |"
        for row in rows
    ]
    return "\n".join(
        ["| model type | classes | widths | positions | refused, and why |", "|---|---|---|---|---|", *body]
    )


def description_text(description: Description) -> str:
    family = description.family
    how = ", inferred on a miniature (nobody declared it)" if description.inferred else ""
    parts: list[Part] = [
        f"{family.model_type}: {', '.join(family.classes) or 'no class can be grown'}{how}",
        Table(("size", "config field", "grows with"), description.sizes),
        Table(("space", "size", "law"), description.spaces),
        Table(("parameter", "roles, dimension by dimension"), description.parameters),
    ]
    return as_text([*parts, f"refused: {family.refuses}"] if family.refuses else parts)
