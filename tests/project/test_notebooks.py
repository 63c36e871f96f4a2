"""The notebooks run from top to bottom and show what their stored outputs show.

All run in one kernel, one after the other, since starting a kernel costs more than a notebook;
between two of them every name is deleted. Cells tagged ``real`` need a model that does not come
with the library and are left out. After a change to what the library prints, store new outputs:
``jupyter execute --inplace notebooks/how_it_works.ipynb``."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = ("how_it_works", "verify_equivalence", "progressive_training", "own_architecture")
NUMBER = re.compile(r"[-+]?\d[-+\d.e]*")
PATH = re.compile(r"/(?:home|root|tmp|usr|opt|work|mnt)/|site-packages|[A-Z]:\\\\")


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def always(notebook: Any) -> list[Any]:
    """The code cells that need nothing but the library."""
    return [cell for cell in code(notebook) if "real" not in cell.metadata.get("tags", [])]


def printed(cell: Any) -> str:
    return "".join(output["text"] for output in cell.outputs if output.get("name") == "stdout")


def shown(cell: Any) -> tuple[str, list[str]]:
    """What one cell prints, every number made "#" and every run of spaces one; and the kinds of its
    other outputs: pictures, warnings, errors."""
    kinds = [
        output.get("name") or ("image/png" if "image/png" in output.get("data", ()) else output.output_type)
        for output in cell.outputs
    ]
    return re.sub(" +", " ", NUMBER.sub("#", printed(cell))), [kind for kind in kinds if kind != "stdout"]


def faults(notebook: Any) -> list[str]:
    """What is wrong with the stored outputs: warnings, errors, paths of a machine, cells that were
    run in another order."""
    cells = code(notebook)
    found = [kind for cell in cells for kind in shown(cell)[1] if kind != "image/png"]
    texts = [output.get("text", "") for cell in cells for output in cell.outputs]
    found += [
        match.group() for text in (*texts, *(cell.source for cell in notebook.cells)) for match in PATH.finditer(text)
    ]
    return found + ["order"] * ([cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)))


@pytest.mark.parametrize("name", NAMES)
def test_stored_outputs_are_whole_and_clean(name: str) -> None:
    assert faults(read(name)) == []
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < 3e6
    output = nbformat.v4.new_output
    for spoil, fault in (
        (output("stream", name="stderr", text="TqdmWarning: IProgress not found"), "stderr"),
        (output("error", ename="ValueError", evalue="", traceback=[]), "error"),
        (output("stream", name="stdout", text="saved to /tmp/wide"), "/tmp/"),
    ):
        spoiled = read(name)
        code(spoiled)[0].outputs.append(spoil)
        assert faults(spoiled) == [fault]
    spoiled = read(name)
    code(spoiled)[-1].execution_count = 1
    assert faults(spoiled) == ["order"]


def drawn(text: str) -> bool:
    """how_it_works: copies with noise add up exactly, and everything else up to rounding."""
    small = [float(found) for found in re.findall(r"(?:up to|the twin differs by) (\S+?),?\s", text)]
    return "largest |left + right - W| in bfloat16: 0.0\n" in text and len(small) == 4 and max(small) < 1e-10


def verified(text: str) -> bool:
    """verify_equivalence: right growths at the floor, the wrong one found in its layer."""
    small = [float(found) for found in re.findall(r"(?:by up to|by at most) (\S+)", text)]
    return (
        "the first hidden state that is off: the output of layer 2\n" in text
        and text.count("at most 10\n") == 4
        and len(small) == 2
        and max(small) < 1e-4
    )


def declared(text: str) -> bool:
    """own_architecture: right declarations grow exactly, both wrong ones are refused."""
    differences = [float(value) for value in re.findall(r"differ by at most (\S+)", text)]
    return len(differences) == 11 and max(differences) <= 1e-12 and text.count("Correct the declaration") == 2


def taught(text: str) -> bool:
    """progressive_training: equal copies stay equal, kept settings alone move the loss, noise lets
    copies part. True after four steps of each phase as well as after 800."""
    found = re.findall(
        r"^(.*?) +(\S+) from the small one; copies of neurons are apart by +(\S+)$", text, flags=re.MULTILINE
    )
    gaps, apart = {name: abs(float(gap)) for name, gap, _ in found}, {name: float(copies) for name, _, copies in found}
    return (
        len(found) == 5
        and gaps["equal copies, settings preserved"] <= 1e-4 < gaps["equal copies, settings kept"]
        and apart["equal copies, settings preserved"] == apart["equal copies, settings kept"] == 0
        and apart["grown, noise 0.1, settings preserved"] > 0.1
        and apart["grown, settings preserved"] > 0.5
        and apart["grown, settings kept"] > 0.5
    )


CLAIMS: dict[str, Callable[[str], bool]] = {
    "how_it_works": drawn,
    "verify_equivalence": verified,
    "progressive_training": taught,
    "own_architecture": declared,
}
SPOILED = [
    ("how_it_works", r"in bfloat16: 0\.0", "in bfloat16: 0.001"),
    ("how_it_works", r"the twin differs by \S+,", "the twin differs by 2e-3,"),
    ("verify_equivalence", r"output of layer 2", "output of layer 3"),
    ("verify_equivalence", r"floor; at most 10", "floor; MORE THAN 10"),
    ("verify_equivalence", r"by at most \S+", "by at most 2e-3"),
    ("own_architecture", r"differ by at most \S+", "differ by at most 2e-11"),
    ("own_architecture", r"Correct the declaration", "Nothing was found"),
    ("progressive_training", r"(equal copies, settings preserved) +\S+ from", r"\1 +0.0100 from"),
    ("progressive_training", r"(equal copies, settings kept) +\S+ from", r"\1 +0.0000 from"),
    ("progressive_training", r"(equal copies, settings kept .* apart by) +\S+", r"\1 1.0e-02"),
    ("progressive_training", r"(noise 0.1, settings preserved .* apart by) +\S+", r"\1 0.0e+00"),
    ("progressive_training", r"(grown, settings preserved .* apart by) +\S+", r"\1 1.0e-02"),
    ("progressive_training", r"(grown, settings kept .* apart by) +\S+", r"\1 1.0e-02"),
]


@pytest.mark.parametrize(("name", "pattern", "replacement"), SPOILED)
def test_a_wrong_output_is_seen(name: str, pattern: str, replacement: str) -> None:
    text = "".join(map(printed, always(read(name))))
    spoiled = re.sub(pattern, replacement, text, count=1)
    assert spoiled != text
    assert CLAIMS[name](text) and not CLAIMS[name](spoiled)


def test_they_run_and_show_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progressive training with four steps for each phase, which is enough for what it explains."""
    monkeypatch.setenv("GROWTH_NOTEBOOK_STEPS", "4")
    monkeypatch.delenv("GROWTH_NOTEBOOK_TEXT", raising=False)
    stored = {name: always(read(name)) for name in NAMES}
    ran = copy.deepcopy(stored)
    cells = [cell for name in NAMES for cell in (nbformat.v4.new_code_cell("%reset -f"), *ran[name])]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    NotebookClient(
        nbformat.v4.new_notebook(cells=cells),
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    ).execute()
    for name in NAMES:
        assert list(map(shown, ran[name])) == list(map(shown, stored[name])), name
        assert CLAIMS[name]("".join(map(printed, ran[name]))), name
