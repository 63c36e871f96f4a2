"""What must hold of the README and the pages in ``docs/`` beside that their code runs. Each check
takes texts and returns complaints, so that a wrong text can be shown to it."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import click

from support.documents import RUN, SHOWN, anchors, blocks, links, outside_blocks

MARK = "<!-- not run"


def languages(page: str) -> list[str]:
    """Blocks in a language that is neither run nor shown; a drawing needs none."""
    wrong = []
    for block in blocks(page):
        drawing = not block.language and re.search("[┌└]", block.text)
        if block.language not in RUN + SHOWN and not drawing:
            wrong.append(f"the block at line {block.line} has language '{block.language}'")
    return wrong


def excuses(pages: Iterable[str], most: int) -> list[str]:
    """Marks that stand above no block or say too little, and too many of them."""
    found: list[str] = []
    wrong: list[str] = []
    for page in pages:
        here = [block.excuse for block in blocks(page) if block.excuse is not None]
        marks = [line for line in outside_blocks(page) if line.strip().startswith(MARK)]
        if len(marks) != len(here):
            wrong.append(f"{len(marks)} marks for {len(here)} blocks: put `{MARK}: reason -->` right above the block")
        wrong += [f"'{excuse}' is no reason" for excuse in here if len(excuse) <= 10]
        found += here
    return wrong + ([f"{len(found)} blocks are not run, more than {most}"] if len(found) > most else [])


def dead_links(page: str, where: Path, root: Path) -> list[str]:
    """Links that lead nowhere: a missing file or heading, out of the tree, or not by https."""
    wrong = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            wrong += [] if link.startswith("https://") else [link]
            continue
        path, _, anchor = link.partition("#")
        target = (where.parent / path).resolve() if path else where
        text = page if not path else target.read_text(encoding="utf-8") if target.is_file() else ""
        if not target.exists() or not target.is_relative_to(root) or (anchor and anchor not in anchors(text)):
            wrong.append(link)
    return wrong


def missing_paths(page: str, root: Path) -> list[str]:
    """Files and modules of this project that a page names in code and that do not exist."""
    text = "\n".join(outside_blocks(page))
    paths = re.findall(r"`((?:growth|cli|tests|benchmarks|notebooks|docs)/[\w./-]*)`", text)
    return [path for path in paths if "FAMILY" not in path and not (root / path).exists()]


def missing_targets(page: str, makefile: str) -> list[str]:
    """Targets of ``make`` that a page names and the Makefile does not have."""
    named = re.findall(r"(?:`|^)make ([a-z][a-z-]*)", page, re.M)
    return [target for target in named if not re.search(rf"^{target}:", makefile, re.M)]


def missing_modules(changelog: str, root: Path) -> list[str]:
    """New names in the table of moved modules that are no modules."""
    table = changelog.split("### Moved modules")[1].split("\n## ")[0]
    new = [name for row in re.findall(r"^\| `.*\| (.*) \|$", table, re.M) for name in re.findall(r"`([\w.]+)`", row)]
    there = {name: root.joinpath(*name.split(".")) for name in new if "FAMILY" not in name}
    return [name for name, path in there.items() if not (path.is_dir() or path.with_suffix(".py").is_file())]


def ragged_tables(page: str) -> list[str]:
    """Rows of tables with another number of cells than the row above. A bar in code splits a cell too,
    as it does on GitHub."""
    rows = [line.replace(r"\|", "") if line.startswith("|") else "" for line in outside_blocks(page)]
    pairs = itertools.pairwise(rows)
    return [below for above, below in pairs if above and below and above.count("|") != below.count("|")]


def families_told(readme: str) -> dict[str, str]:
    """Model type -> widths, as the table under "What works" says it.

    What follows a colon among the names, or a semicolon after the widths, is a remark. A row of what is
    not declared names examples.
    """
    table = readme.split("## What works")[1].split("\n## ")[0]
    told: dict[str, str] = {}
    for names, widths in re.findall(r"^\| (?!not declared)[^|]+ \| ([^|]+) \| ([^|]+) \|$", table, re.M)[1:]:
        for name in re.findall(r"[\w-]+", names.partition(":")[0]):
            assert name not in told, f"{name} stands twice"
            told[name] = widths.partition(";")[0].strip()
    return told


def missing_options(page: str, commands: Mapping[str, click.Command]) -> list[str]:
    """Commands and options that the page does not name, or names without their default."""
    wrong = [f"grow {name}" for name in commands if f"`grow {name}" not in page]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name, command in commands.items():
        for parameter in command.params:
            if not isinstance(parameter, click.Option):
                continue
            wrong += [f"{name} {option}" for option in parameter.opts if f"`{option}" not in page]
            told = [
                row.split("|")[2]
                for row in rows
                if any(f"`{option}" in row.split("|")[1] for option in parameter.opts)
            ]
            default = parameter.default
            if isinstance(default, (str, int, float)) and not isinstance(default, bool):
                shown = f"{default:g}" if isinstance(default, float) else str(default)
                wrong += (
                    [] if any(shown in cell for cell in told) else [f"{name} {parameter.opts[0]}: default {shown}"]
                )
    return wrong


def entries(glossary: str) -> list[str]:
    """The words that a glossary explains, as ``* **word**: ...``; two for one thing have a comma."""
    found = [re.match(r"\* \*\*([^*]+)\*\*:", line) for line in outside_blocks(glossary)]
    return [word.strip() for match in found if match for word in match[1].split(",")]


def glossary_faults(glossary: str, wanted: Collection[str]) -> list[str]:
    """Words that are explained twice, and words that are missing."""
    counts = Counter(entries(glossary))
    twice = [f"{word} is explained twice" for word, count in counts.items() if count > 1]
    return twice + [f"{word} is not explained" for word in sorted(set(wanted) - set(counts))]
