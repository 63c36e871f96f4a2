"""Examples in docstrings are run, and a docstring of a public name of these rooms says
something."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("algebra", "rules", "architectures", "extension", "plan", "weights", "infer")
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for room in ROOMS
    for path in sorted((ROOT / "growth" / room).glob("*.py"))
    if path.stem != "__init__"
]
WITHOUT_EXAMPLE = {
    "growth.architectures.declaration_checks",
    *(f"growth.plan.{name}" for name in ("build", "candidate", "choices", "planned_tensor", "target_sizes", "text")),
    *(f"growth.extension.{name}" for name in ("alike", "extend", "kinds", "layers", "untied")),
    "growth.plan.requested_sizes",
    "growth.weights.model_weights",
    "growth.architectures.variant",
    *(f"growth.infer.{name}" for name in ("head", "lookalike", "movement")),
}
"""Modules that give no example."""


def failures(name: str) -> tuple[int, list[str]]:
    """(how many examples a module has, what went wrong in them)."""
    module = importlib.import_module(name)
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    for found in doctest.DocTestFinder().find(module):
        runner.run(found, out=said.append)
    return runner.summarize(verbose=False).attempted, said


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    attempted, said = failures(name)
    assert not said, "".join(said)
    assert bool(attempted) == (name not in WITHOUT_EXAMPLE)


def test_a_wrong_example_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("growth.algebra.maps")
    monkeypatch.setattr(module.Map.repeat.__func__, "__doc__", ">>> Map.repeat(2, 4).m\n5\n")
    attempted, said = failures("growth.algebra.maps")
    assert attempted and "Expected:\n    5\nGot:\n    4" in "".join(said)


def undocumented(body: list[ast.stmt]) -> list[str]:
    """Public classes, functions and methods without a docstring. Methods that do what the base
    class says need none."""
    inherited = {"map", "spaces", "grow", "follows", "constants", "resolve", "arriving"}
    missing = []
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
            if node.name not in inherited and not ast.get_docstring(node):
                missing.append(node.name)
            missing += undocumented(node.body) if isinstance(node, ast.ClassDef) else []
    return missing


def test_public_names_have_docstrings() -> None:
    missing = {
        path.name: names
        for room in ROOMS
        for path in sorted((ROOT / "growth" / room).glob("*.py"))
        if (names := undocumented(ast.parse(path.read_text()).body))
    }
    assert not missing
    assert undocumented(ast.parse("class Law:\n    def grow(self): ...\n    def ask(self): ...\n").body) == [
        "Law",
        "ask",
    ]
