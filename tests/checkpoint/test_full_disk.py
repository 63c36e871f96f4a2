"""A growth whose writes fail, at every size. The system refuses what goes beyond a limit on the size
of a file, which it also does for writers in C. ``benchmarks/disk_faults.py`` lets each call fail."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from growth.checkpoint import workspace

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import disk_faults
from disk_faults import PLACES, Stage
from forked import remembered_twin


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = disk_faults.set_stage(tmp_path_factory.mktemp("faults"))
    with remembered_twin(made.small):
        yield made


def at_most(size: int) -> Callable[[], None]:
    """No file may get larger, in this process."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_cannot_be_written_leaves_all_as_it_was(place: str, stage: Stage) -> None:
    largest = max(path.stat().st_size for path in (stage.home / "old").iterdir())
    codes = []
    for size in (1000, 5000, largest, 10 * largest):  # the sentence goes into a file, too
        code, said = stage.grow(place, at_most(size))
        assert stage.faults(place, code, said) == []
        assert code == 0 or ("File too large" in said and len(said.splitlines()) == 1)
        codes.append(code)
    assert codes[0] == 1 and codes[-1] == 0


def test_a_growth_that_leaves_what_it_wrote_is_found(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless() -> None:
        workspace._settle = lambda folder, target, keep=False: ""
        at_most(5000)()

    code, said = stage.grow("fresh", careless)
    wrong = stage.faults("fresh", code, said.replace(".wide.growing", ""))
    assert any(one.startswith("not named: [") and "'new'" in one for one in wrong), wrong
