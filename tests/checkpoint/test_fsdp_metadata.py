"""No ``.metadata`` ends the process, keeps it busy or fills its memory, and none writes to what it names."""

from __future__ import annotations

import multiprocessing
import pickle
import time
from itertools import product
from pathlib import Path

import pytest

import growth
from growth.errors import SHOWN, shown
from growth.hf import dcp_metadata, dcp_pickle
from growth.hf.dcp_metadata import read_metadata
from support.ranks import needs_fork

START, STOP = b"\x80\x04", b"."
DOUBLED = b")\x94" + b"".join(b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86\x94" for k in range(60))
"""A tuple that holds another twice, 60 times over: 2**60 of them written out."""

SIZE = b"\x8c\x05torch\x8c\x04Size\x93"

HOSTILE = {
    "a deep key": b"})" + b"\x85" * 250_000 + b"Ns",
    "a deep value": b")" + b"\x85" * 250_000,
    "a doubled value": DOUBLED,
    "a doubled key": DOUBLED + b"}h\x3cNs",
    "a doubled layout": DOUBLED + b"\x8c\x13torch.serialization\x8c\x0b_get_layout\x93h\x3c\x85R",
    "a list in itself": b"]\x94h\x00a",
    "a number as a key": b"}K\x01Ns",
    "keys of one hash": b"}("
    + b"".join(b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(9)),
    "a large size again and again": SIZE + b"\x94](" + b"K\x01" * 20_000 + b"e\x85\x94" + b"h\x00h\x01R" * 20_000,
    "a function's defaults": SIZE + b"N}\x8c\x0c__defaults__Ns\x86b",
    "a function's fields": SIZE + b"}\x8c\x07planted\x88sb",
    "nothing on the stack": b"",
    "no such memo": b"h\x09",
    "a value below a mark": b"N(a",
    "no mark": b"NNt",
}


def _read(content: bytes) -> None:
    try:
        read_metadata(Path(".metadata"), content)
    except growth.CheckpointError as error:
        assert len(str(error)) < 2000 and "is not whole metadata" in str(error) and "Fetch" in str(error)
        raise SystemExit(7) from None


@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("how", HOSTILE)
def test_it_is_refused_at_once(how: str) -> None:
    process = multiprocessing.get_context("fork").Process(target=_read, args=(START + HOSTILE[how] + STOP,))
    process.start()
    process.join(30)
    process.kill()
    assert process.exitcode == 7


def test_nothing_is_written_to_what_it_names() -> None:
    before = [(dict(vars(one)), one.__defaults__) for one in (dcp_pickle.numbers, dcp_pickle._size)]
    for how in ("a function's defaults", "a function's fields"):
        with pytest.raises(growth.CheckpointError):
            read_metadata(Path(".metadata"), START + HOSTILE[how] + STOP)
    assert before == [(dict(vars(one)), one.__defaults__) for one in (dcp_pickle.numbers, dcp_pickle._size)]


def test_the_record_of_a_pickle_is_what_it_says() -> None:
    said = {"a": [(1, -1, 2**40, None, True), ("x" * 300, [], {})], "b": (), "c": {"d": tuple(range(9))}}
    assert dcp_pickle.read_pickle(pickle.dumps(said, 4)) == said


def test_a_value_that_holds_another_many_times_is_shown_in_part() -> None:
    doubled: tuple[object, ...] = ()
    wide: object = "x"
    for _ in range(60):
        doubled, wide = (doubled, doubled), [wide] * 1000
    for value in (doubled, wide, {"a": wide}):
        assert shown(value).endswith("...") and len(shown(value)) <= SHOWN + 4


@pytest.mark.parametrize("value", [{"b": 1, "a": [1.5, None]}, (1,), b"\x00", "it's", [{}, (), []], {1: "x" * 500}])
def test_other_values_are_shown_as_python_writes_them(value: object) -> None:
    text = repr(value)
    assert shown(value) == (text if len(text) <= SHOWN else f"{text[:SHOWN]} ...")


def test_chunks_cut_along_several_axes() -> None:
    rows, columns = 256, 64
    chunks = [((3 * i, 5 * j), (3, 5)) for i, j in product(range(rows), range(columns))]
    began = time.process_time()
    assert dcp_metadata._fill((3 * rows, 5 * columns), chunks)
    assert time.process_time() - began < 5  # all pairs take minutes
    moved = [((0, 5), (3, 5)), *chunks[1:]]  # over the second, and the first is left out
    assert not dcp_metadata._fill((3 * rows, 5 * columns), moved)


def test_chunks_that_are_no_grid() -> None:
    bricks = [((0, 0), (2, 3)), ((0, 3), (1, 3)), ((1, 3), (2, 3)), ((2, 0), (1, 3))]
    assert dcp_metadata._fill((3, 6), bricks)
    assert not dcp_metadata._fill((3, 6), [((0, 0), (2, 3)), ((1, 0), (1, 3)), *bricks[2:]])
