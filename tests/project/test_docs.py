"""The README and the pages in ``docs/``: their code runs, their links lead somewhere, and they name
everything that the command line and the library offer."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from pathlib import Path

import click
import pytest

import growth
from growth import architectures
from growth.architectures import registry
from growth.cli.main import grow as command
from growth.hf.catalogue import families
from support.documents import RUN, SHOWN, BlockError, anchors, blocks, links, outside_blocks, run_page

ROOT = Path(__file__).parents[2]
SMALL = Path(growth.__file__).parent / "assets" / "austen-llama"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")] + DOCS
MOST_EXCUSES = 12
"""How many blocks of all pages may be marked as not run."""


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder but for ``small``, the checkpoint that the pages grow. Declarations that a page
    registers are forgotten."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    shutil.copytree(SMALL, tmp_path / "small")
    return tmp_path


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.language in RUN for b in blocks(text_of(page)))], ids=named
)
def test_the_code_of_a_page_runs(page: Path, folder: Path) -> None:
    if page.name == "README.md":
        shutil.rmtree(folder / "small")  # the README makes it
    wanted = [block for block in blocks(text_of(page)) if block.language in RUN and block.excuse is None]
    assert run_page(text_of(page), folder, named(page)) == len(wanted)


WRONG = {
    "Python that fails": ("python", "assert 1 == 2"),
    "a name of a later block": ("python", "print(later)\n```\n\n```python\nlater = 1"),
    "an option that does not exist": ("sh", "grow plan small --widht 2"),
    "a shape that is refused": ("sh", "grow plan small --heads 7"),
    "a refusal that does not come": ("sh", "grow plan small --width 2  # refused"),
    "a shell command that fails": ("sh", "test -d missing"),
}


@pytest.mark.parametrize("language, text", WRONG.values(), ids=WRONG)
def test_a_wrong_block_is_seen(language: str, text: str, folder: Path) -> None:
    good = "```sh\ntest -d small\n```\n\n```python\nx = 1\n```\n\n```python\nassert x == 1\n```\n"
    assert run_page(good, folder) == 3
    with pytest.raises(BlockError, match="line 13"):
        run_page(f"{good}\n```{language}\n{text}\n```\n", folder)


def test_every_block_says_what_it_is() -> None:
    for page in PAGES:
        for block in blocks(text_of(page)):
            drawing = not block.language and re.search("[┌└]", block.text)
            assert block.language in RUN + SHOWN or drawing, (
                f"{named(page)}:{block.line} has language '{block.language}'"
            )


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    excuses = [(named(page), b.excuse) for page in PAGES for b in blocks(text_of(page)) if b.excuse is not None]
    comments = sum(line.strip().startswith("<!-- not run") for page in PAGES for line in outside_blocks(text_of(page)))
    assert comments == len(excuses), "a mark must stand on the line above its block, as <!-- not run: reason -->"
    assert all(len(excuse) > 10 for _, excuse in excuses)
    assert len(excuses) <= MOST_EXCUSES, excuses


def test_relative_links_lead_somewhere() -> None:
    checked = 0
    for page in PAGES:
        for link in links(text_of(page)):
            if re.match(r"[a-z]+:", link):
                assert link.startswith("https://"), f"{named(page)}: {link}"
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists() and target.is_relative_to(ROOT), f"{named(page)}: {link}"
            assert not anchor or anchor in anchors(text_of(target)), f"{named(page)}: {link}"
            checked += 1
    assert checked > 50


def test_every_page_is_linked_from_the_readme() -> None:
    assert {named(page) for page in DOCS} <= {link.partition("#")[0] for link in links(text_of(ROOT / "README.md"))}


def test_the_readme_is_short() -> None:
    text = text_of(ROOT / "README.md")
    assert len(text.splitlines()) <= 200 and len(text.encode()) <= 16 * 1024


def test_the_readme_names_every_family_once_with_its_widths() -> None:
    table = text_of(ROOT / "README.md").split("## What works")[1].split("\n## ")[0]
    told: dict[str, str] = {}
    for row in re.findall(r"^\| [^|]+ \| ([^|]+) \| ([^|]+) \|$", table, re.M)[1:]:
        for names, widths in zip(*([part.strip() for part in cell.split(";")] for cell in row), strict=False):
            for name in re.findall(r"[\w-]+", names.partition(":")[0]):
                assert name not in told, f"{name} stands twice"
                told[name] = widths.split()[-1] if widths.startswith("bloom") else widths
    assert told == {row.model_type: row.widths for row in families()}
    assert set(told) == set(architectures.known())


def test_the_command_line_page_names_every_command_and_option() -> None:
    text = text_of(ROOT / "docs" / "cli.md")
    for name, found in command.commands.items():
        assert f"`grow {name}" in text, name
        for parameter in found.params:
            if isinstance(parameter, click.Option):
                assert all(f"`{option}" in text for option in parameter.opts), parameter.opts


def test_the_python_page_names_everything_public() -> None:
    text = text_of(ROOT / "docs" / "api.md")
    names = [*growth.__all__, *(f"training.{name}" for name in growth.training.__all__)]
    assert [name for name in names if f"`growth.{name}" not in text] == []


def entries() -> list[str]:
    """The words that the glossary explains, as ``**word**: ...`` at the start of a line."""
    lines = outside_blocks(text_of(ROOT / "docs" / "glossary.md"))
    found = [re.match(r"\*\*([^*]+)\*\*:", line.removeprefix("* ")) for line in lines]
    return [word.strip() for match in found if match for word in match[1].split(",")]


VOCABULARY = (
    *("space", "axis", "map", "law", "role", "rule", "architecture", "plan", "twin", "fold", "rounding floor"),
    *("silent", "undetermined", "kept equal", "dead unit", "ulp", "tied weights", "fan-in", "parameter group"),
    *("write", "read", "source", "choices", "residual stream", "null space"),
)


def test_the_glossary_explains_each_word_once() -> None:
    counts = Counter(entries())
    assert [word for word, count in counts.items() if count > 1] == []
    assert [word for word in VOCABULARY if word not in counts] == []


def test_the_glossary_explains_the_values_of_the_command_line() -> None:
    """Every value of an option that is a choice, data types aside."""
    values = {
        value
        for found in command.commands.values()
        for parameter in found.params
        if isinstance(parameter.type, click.Choice) and parameter.name != "dtype"
        for value in parameter.type.choices
    }
    assert values >= {"head-dim", "slots", "orthogonal", "fresh"}
    assert values - set(entries()) == set()
