"""Shards: the tests cut into equal parts, so that the slow ones can be run one part at a time."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable

import pytest


def parsed(shard: str) -> tuple[int, int]:
    """``"2/8"`` -> (2, 8).

    Raises:
        pytest.UsageError: unless 1 <= 2 <= 8.
    """
    part, slash, parts = shard.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise pytest.UsageError(f"--shard must be like 1/8, the first of eight parts, not {shard!r}.")
    return int(part), int(parts)


def shards(names: Iterable[str], parts: int) -> list[int]:
    """Which of the ``parts`` each test belongs to, from 1 on. The cases of one test function are dealt
    out in turn, since they cost about the same; each function begins at another part.

    Args:
        names: node ids of pytest, ``file.py::function[case]``, in any fixed order.
        parts: how many.

    Example:
        >>> sorted(shards([f"test.py::test[{case}]" for case in range(4)], 2))
        [1, 1, 2, 2]
    """
    dealt: Counter[str] = Counter()
    result = []
    for name in names:
        function = name.partition("[")[0]
        result.append((zlib.crc32(function.encode()) + dealt[function]) % parts + 1)
        dealt[function] += 1
    return result
