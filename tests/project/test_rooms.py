"""The rooms of the house: imports point down, the algebra is numpy alone, a plan reads no weight."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = [
    "errors",
    "version",
    "text",
    "arguments",
    "algebra",
    "rules",
    "architectures",
    "hf",
    "extension",
    "plan",
    "weights",
    "proof",
    "infer",
    "planner",
    "training",
    "checkpoint",
]
"""From the bottom up: a room imports from those before it, and from itself."""
FORBIDDEN = {
    "algebra": ("torch", "transformers"),
    "rules": ("torch", "transformers"),
    "architectures": ("transformers",),
    "plan": ("safetensors", "growth.hf.reader", "growth.hf.computed_tables"),
}
"""Room -> what no file in it may import."""
ALIASES = {"growth/__init__.py", "growth/__main__.py", "growth/by_group.py"}
"""The public names, ``python -m growth``, and where old pickles look for their classes."""


def imported(source: str) -> list[str]:
    """The modules a file imports, those below ``if TYPE_CHECKING`` aside; ``from a import b`` as ``a.b``."""
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.extend(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


def complaints(path: str, source: str) -> list[str]:
    """What is wrong with the imports of one file of ``growth/``."""
    room = path.split("/")[1].removesuffix(".py")
    wrong = []
    for module in imported(source):
        first, _, rest = module.partition(".")
        if first == "growth":
            below = rest.split(".")[0]
            if below not in ROOMS:
                wrong.append(f"{path} imports {module}, which is in no room")
            elif ROOMS.index(below) > ROOMS.index(room):
                wrong.append(f"{path} imports {module}, which is above it")
        if any(module == name or module.startswith(f"{name}.") for name in FORBIDDEN.get(room, ())):
            wrong.append(f"{path} imports {module}")
    return wrong


def files() -> list[Path]:
    return [path for path in sorted((ROOT / "growth").rglob("*.py")) if str(path.relative_to(ROOT)) not in ALIASES]


def test_imports_point_down() -> None:
    found = [complaint for path in files() for complaint in complaints(str(path.relative_to(ROOT)), path.read_text())]
    assert not found, "\n".join(found)
    assert {path.relative_to(ROOT / "growth").parts[0].removesuffix(".py") for path in files()} == set(ROOMS)


@pytest.mark.parametrize(
    ("path", "line", "wrong"),
    [
        ("growth/algebra/maps.py", "from growth.plan.plan import Plan", "which is above it"),
        ("growth/algebra/maps.py", "import torch.nn", "imports torch.nn"),
        ("growth/plan/build.py", "from growth.hf.reader import open_checkpoint", "imports growth.hf.reader"),
        ("growth/hf/names.py", "def f():\n    from growth.training import resume", "which is above it"),
        ("growth/hf/names.py", "from growth.model import widen", "which is in no room"),
        ("growth/rules/norm.py", "from growth import architectures", "which is above it"),
    ],
)
def test_a_wrong_import_is_seen(path: str, line: str, wrong: str) -> None:
    (complaint,) = complaints(path, line)
    assert wrong in complaint


def test_every_room_says_what_it_is_for() -> None:
    for room in [name for name in ROOMS if (ROOT / "growth" / name).is_dir()]:
        said = ast.get_docstring(ast.parse((ROOT / "growth" / room / "__init__.py").read_text())) or ""
        assert "May import:" in said and "Imported by:" in said and "ead in this order:" in said, room


def test_files_are_short() -> None:
    long = {str(path.relative_to(ROOT)): n for path in files() if (n := len(path.read_text().splitlines())) > 300}
    assert not long
