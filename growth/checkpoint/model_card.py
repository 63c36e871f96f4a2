"""The model card of a widened checkpoint: the source's own, under a section that says what was
done."""

from __future__ import annotations

import re
from pathlib import Path

from growth.checkpoint.record import source_name
from growth.errors import printable
from growth.hf.source_files import SourceFiles, leaves
from growth.plan.plan import Plan
from growth.plan.text import new_layers
from growth.proof.proof import Proof
from growth.version import __version__


def write_card(source: SourceFiles, folder: Path, name: str, plan: Plan, proof: Proof) -> None:
    """Write ``README.md`` into ``folder``, keeping the front matter (licence, language, tags) of
    the source's.

    Args:
        source: the source's files. A card behind a link that leaves the folder is not read.
        folder: where to write.
        name: of the result.
        plan, proof: how it grew, and what was proved.
    """
    matter, body = _split(_card(source))
    sizes = [
        f"| {size} | {old:,} | {plan.new_sizes[size]:,} |"
        for size, old in plan.old_sizes.items()
        if plan.new_sizes[size] != old
    ]
    exactness = "it computes the same function; the largest difference is"
    if plan.lossy:
        exactness = "it computes another function, which was accepted; the largest difference is"
    back = "bit for bit" if proof.fold.exact else "within one rounding of each weight"
    text = f"""# {printable(name)}

Widened from {_source(source.folder, plan)} by growth {__version__}: {exactness} \
{proof.twin.difference:.1e} in float64, on a miniature of this very config.

| size | before | after |
|---|---:|---:|
{chr(10).join(sizes)}
| parameters | {plan.parameters(new=False):,} | {plan.parameters(new=True):,} |

{chr(10).join([*(f"{line[0].upper()}{line[1:]}." for line in new_layers(plan)), f"Choices: {plan.choices}."])}
{proof.fold.tensors} tensors were read back to the source's {back}.
The whole plan, the proofs and the hashes of the source's files are in `growth.json`.

It has learned nothing new yet: it is a starting point for further training.
"""
    if body.strip():
        text += (
            "\n---\n\nThe card of the source follows. Where it names sizes, they are the source's; those of this "
            f"model are in the table above.\n\n{body.lstrip()}"
        )
    (folder / "README.md").write_text(matter + text, encoding="utf-8")


def _card(source: SourceFiles) -> str:
    """The source's own card; empty where there is none that may be read."""
    path = source.folder / "README.md"
    if not path.is_file() or leaves(path, source.folder) is not None:
        return ""
    return b"".join(source.parts(path)).decode("utf-8-sig", errors="replace").replace("\r\n", "\n")


def _source(folder: Path, plan: Plan) -> str:
    """The source by name, and the hub id that its config notes, which is that of the model it was
    loaded or fine-tuned from."""
    name, noted = printable(source_name(folder)), plan.old.get("_name_or_path")
    if isinstance(noted, str) and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", noted) and noted != name:
        return f"`{name}`, whose config names `{noted}`,"
    return f"`{name}`"


def _split(card: str) -> tuple[str, str]:
    """Front matter with its fences, and the rest."""
    found = re.match(r"---[ \t]*\n.*?\n---[ \t]*(?:\n|$)", card, re.DOTALL)
    if found is None:
        return "", card
    return found[0].rstrip("\n") + "\n\n", card[found.end() :]
