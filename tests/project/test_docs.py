"""The README and the pages in ``docs/``: their code runs, their links lead somewhere, and they name
everything that the command line and the library offer."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path

import click
import pytest
from transformers import LlamaForCausalLM

import growth
from growth.architectures import registry
from growth.cli.main import grow as command
from growth.hf.catalogue import families
from growth.hf.configs import Config
from support import page_checks
from support.documents import RUN, BlockError, blocks, links, run_page

ROOT = Path(__file__).parents[2]
SMALL = Path(growth.__file__).parent / "assets" / "austen-llama"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = {
    str(page.relative_to(ROOT)): page.read_text(encoding="utf-8")
    for page in [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "SECURITY")), *DOCS]
}
README = PAGES["README.md"]
MOST_EXCUSES = 12
"""How many blocks of all pages may be marked as not run."""


def to_run(page: str) -> int:
    return sum(block.language in RUN and block.excuse is None for block in blocks(page))


def smollm2(folder: Path) -> None:
    """What the pages name by its hub id, as folders: the published configs, a sixteenth as wide."""
    for size, layers in (("135m", 3), ("360m", 4)):
        published = json.loads((ROOT / f"tests/support/configs/smollm2-{size}.json").read_text(encoding="utf-8"))
        narrow = {name: published[name] // 16 for name in ("hidden_size", "intermediate_size")}
        config = Config({**published, **narrow, "num_hidden_layers": layers, "vocab_size": 97})
        model = LlamaForCausalLM(config.parsed)
        model.save_pretrained(folder / "HuggingFaceTB" / f"SmolLM2-{size.upper()}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder but for ``small``, the checkpoint that the pages grow, and SmolLM2. Declarations
    that a page registers are forgotten."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    shutil.copytree(SMALL, tmp_path / "small")
    smollm2(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [name for name, page in PAGES.items() if to_run(page)])
def test_the_code_of_a_page_runs(name: str, folder: Path) -> None:
    if name == "README.md":
        shutil.rmtree(folder / "small")  # the README makes it
    assert run_page(PAGES[name], folder, name) == to_run(PAGES[name])


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
    assert {name: wrong for name, page in PAGES.items() if (wrong := page_checks.languages(page))} == {}
    assert page_checks.languages("```pyhton\nx\n```") and page_checks.languages("```\nx\n```")


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    assert page_checks.excuses(PAGES.values(), MOST_EXCUSES) == []
    block = "```python\nx\n```\n"
    good = f"<!-- not run: needs the hub -->\n{block}"
    assert page_checks.excuses([good], 1) == []
    for wrong in (good * 2, f"<!-- not run: needs the hub -->\n\n{block}", f"<!-- not run: slow -->\n{block}"):
        assert page_checks.excuses([wrong], 1)


def test_links_lead_somewhere() -> None:
    assert {name: d for name, page in PAGES.items() if (d := page_checks.dead_links(page, ROOT / name, ROOT))} == {}
    assert sum(not link.startswith("https:") for page in PAGES.values() for link in links(page)) > 80
    for wrong in ("docs/missing.md", "#no-such-heading", "docs/cli.md#missing", "../outside", "http://example.org"):
        assert page_checks.dead_links(f"[x]({wrong})", ROOT / "README.md", ROOT) == [wrong]


def test_files_and_modules_that_are_named_exist() -> None:
    assert {name: wrong for name, page in PAGES.items() if (wrong := page_checks.missing_paths(page, ROOT))} == {}
    assert page_checks.missing_paths("see `growth/axis.py` and `growth/algebra/`", ROOT) == ["growth/axis.py"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {
        name: wrong for name, page in PAGES.items() if (wrong := page_checks.missing_targets(page, makefile))
    } == {}
    assert page_checks.missing_targets("run `make check`, then\nmake chekc", makefile) == ["chekc"]
    changes = PAGES["CHANGELOG.md"]
    assert page_checks.missing_modules(changes, ROOT) == []
    assert page_checks.missing_modules(changes.replace("| `growth.hf.reader` |", "| `growth.hf.gone` |"), ROOT) == [
        "growth.hf.gone"
    ]


def test_every_page_is_linked_from_the_readme() -> None:
    assert {str(page.relative_to(ROOT)) for page in DOCS} <= {link.partition("#")[0] for link in links(README)}


def test_tables_are_even() -> None:
    assert {name: wrong for name, page in PAGES.items() if (wrong := page_checks.ragged_tables(page))} == {}
    assert page_checks.ragged_tables("| a | b |\n|---|---|\n| `x\\|y` | 1 |\n| 1 |\n") == ["| 1 |"]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200 and len(README.encode()) <= 16 * 1024


def test_the_readme_says_what_to_install() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {"Python": project["requires-python"].removeprefix(">=")}
    for requirement in project["dependencies"]:
        name, _, version = requirement.partition(">=")
        wanted |= {name: version} if name in ("torch", "transformers") else {}
    assert f"pip install {project['name']}\n" in README
    assert ", ".join(f"{name} ≥ {version}" for name, version in wanted.items()) in README
    for page in (README, (ROOT / "CITATION.cff").read_text(encoding="utf-8")):
        assert f"version{':' if page is not README else ''} {project['version']}" in page


def test_the_readme_names_every_family_once_with_its_widths() -> None:
    told = page_checks.families_told(README)
    known = {row.model_type: row.widths for row in families()}
    assert told == known
    assert f"{sum(widths != '-' for widths in known.values())} model types can be grown by a declaration" in " ".join(
        README.split()
    )
    assert page_checks.families_told(README.replace("bert, ", "", 1)) != known
    assert page_checks.families_told(README.replace("| bloom | multiples |", "| bloom | any |")) != known


def test_the_command_line_page_names_every_option_and_default() -> None:
    page = PAGES["docs/cli.md"]
    assert page_checks.missing_options(page, command.commands) == []
    assert page_checks.missing_options(page.replace("`--seed`", "`--sed`"), command.commands)
    assert page_checks.missing_options(
        page.replace("| `5GB` |", "| `50GB` |").replace("50GB", "6GB"), command.commands
    )
    assert page_checks.missing_options(page.replace("`grow demo`", "`grow dem`"), command.commands)


def test_the_python_page_names_everything_public() -> None:
    names = [*growth.__all__, *(f"training.{name}" for name in growth.training.__all__)]
    assert [name for name in names if f"`growth.{name}" not in PAGES["docs/api.md"]] == []


VOCABULARY = (
    *("space", "axis", "map", "law", "role", "rule", "architecture", "plan", "twin", "fold", "rounding floor"),
    *("silent", "undetermined", "kept equal", "dead unit", "ulp", "tied weights", "fan-in", "parameter group"),
    *("write", "read", "source", "choices", "residual stream", "null space"),
)


def test_the_glossary_explains_each_word_once() -> None:
    """The project's words, and every value of an option that is a choice, data types aside."""
    values = {
        value
        for found in command.commands.values()
        for parameter in found.params
        if isinstance(parameter.type, click.Choice) and parameter.name != "dtype"
        for value in parameter.type.choices
    }
    assert values >= {"head-dim", "slots", "orthogonal", "fresh"}
    page, wanted = PAGES["docs/glossary.md"], values | {*VOCABULARY}
    assert page_checks.glossary_faults(page, wanted) == []
    assert page_checks.glossary_faults(f"{page}\n* **ulp**: again.\n", wanted) == ["ulp is explained twice"]
    assert page_checks.glossary_faults(page.replace("* **slots**:", "* **slot**:"), wanted) == [
        "slots is not explained"
    ]
