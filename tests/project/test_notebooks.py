"""The notebooks run, and say what their kept outputs say. Cells tagged ``real`` need a model that
does not come along."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


NUMBER = re.compile(r"[-+]?\d[-+\d.e]*")


def printed(notebook: Any) -> list[str]:
    """What each cell printed; warnings of its environment are none of its own."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(output["text"] for output in cell.outputs if output.get("name") == "stdout") for cell in cells]


def run(name: str) -> str:
    """What a notebook prints when it runs; but for its numbers, that is what it holds."""
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if "real" not in cell.metadata.get("tags", [])]
    said = printed(notebook)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}
    ).execute()
    says = printed(notebook)
    assert [NUMBER.sub("#", text) for text in says] == [NUMBER.sub("#", text) for text in said]
    return "".join(says)


PROMISED = {
    "how_it_works": "largest |left + right - W| in bfloat16: 0.0\n",
    "verify_equivalence": "number 2: the second layer's output\n",
}


def kept(name: str, text: str) -> bool:
    """Whether outputs say what the texts around them promise."""
    small = [
        float(found)
        for found in re.findall(r"(?:the twin differs by|up to|differ from its by at most) (\S+?),?\s", text)
    ]
    return PROMISED[name] in text and max(small) < 1e-5 and "MORE THAN" not in text


@pytest.mark.parametrize("name", PROMISED)
def test_a_notebook_runs_and_says_what_it_said(name: str) -> None:
    text = run(name)
    assert kept(name, text)
    assert (
        not kept(name, text + "float32, x2: MORE THAN 10")
        and not kept(name, text + "up to 2e-3\n")
        and not kept(name, "up to 1e-9\n")
    )


def test_own_architecture() -> None:
    says = run("own_architecture")
    differences = [float(value) for value in re.findall(r"differ by at most (\S+)", says)]
    assert len(differences) == 11 and max(differences) <= 1e-12
    assert says.count("Correct the declaration") == 2


def taught(says: str) -> bool:
    """Whether the numbers show what the text says: equal copies stay one, kept settings alone move
    the loss, noise parts."""
    found = re.findall(
        r"^grown, (.*?) +(\S+) from the small one; copies of neurons are apart by +(\S+)$", says, flags=re.MULTILINE
    )
    gaps, apart = {name: abs(float(gap)) for name, gap, _ in found}, {name: float(copies) for name, _, copies in found}
    alone = gaps["no noise, settings preserved"] <= 1e-4 < gaps["no noise, settings kept"]
    one = apart["no noise, settings preserved"] == apart["no noise, settings kept"] == 0
    return (
        len(found) == 5
        and alone
        and one
        and apart["noise 0.1, settings preserved"] > 0.1
        and apart["noise 1, settings preserved"] > 0.5
    )


def test_progressive_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four steps of each phase: too few for the texts, enough for what they explain."""
    monkeypatch.setenv("GROWTH_NOTEBOOK_STEPS", "4")
    says = run("progressive_training")
    assert taught(says)
    for name in (
        "no noise, settings preserved",
        "no noise, settings kept",
        "noise 0.1, settings preserved",
        "noise 1, settings preserved",
    ):
        line = next(line for line in says.splitlines() if line.startswith(f"grown, {name}") and "apart" in line)
        for gap, apart in (("+0.0100", "1.0e-02"), ("+0.0000", "0.0e+00")):
            spoiled = f"grown, {name} {gap} from the small one; copies of neurons are apart by {apart}"
            assert not taught(says.replace(line, spoiled)) or (gap, name) == (
                "+0.0000",
                "no noise, settings preserved",
            )
