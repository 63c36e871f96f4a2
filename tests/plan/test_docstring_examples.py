"""The examples in the docstrings of this room run, and print what they say."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import growth.plan

MODULES = [module.name for module in pkgutil.iter_modules(growth.plan.__path__)]


def failures(text: str | None, module: str) -> doctest.TestResults:
    """Of the examples of a module, or of a text that stands for its docstring."""
    loaded = import_module(f"growth.plan.{module}")
    if text is None:
        return doctest.testmod(loaded, optionflags=doctest.ELLIPSIS)
    test = doctest.DocTestParser().get_doctest(text, dict(vars(loaded)), module, None, 0)
    return doctest.DocTestRunner(verbose=False).run(test, out=lambda said: None)


@pytest.mark.parametrize("module", MODULES)
def test_examples(module: str) -> None:
    assert failures(None, module).failed == 0


def test_there_are_examples_and_a_wrong_one_is_seen() -> None:
    assert sum(failures(None, module).attempted for module in ("plan", "size_search", "nearby_sizes")) > 8
    assert failures(">>> step(96, Size())\n8\n", "nearby_sizes") == (0, 1)
    assert failures(">>> step(96, Size())\n16\n", "nearby_sizes") == (1, 1)
