"""What a dimension ranges over, against index maps in numpy.

Each check is a function of the operation that it checks, and runs on random cases. It passes for the real one, and
fails for a wrong version."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from growth.infer import cuts, ranges, unification
from growth.infer.errors import Unexplained
from growth.infer.ranges import Count, Range, count_of, fresh, kept, sources

CASES = 40
Tree = int | tuple[int, int] | list[Any]
"""A range by its structure: a kept count, ``(small, wide)`` of a free one, ``["x", a, b]`` or ``["+", a, b]``."""


def tree(rng: random.Random, depth: int = 2) -> Tree:
    """A random structure with at least one growing part in every concatenation."""
    kind = rng.choice(["kept", "free", "x", "+"]) if depth else rng.choice(["kept", "free"])
    if kind == "kept":
        return rng.randint(2, 4)
    if kind == "free":
        small = rng.randint(1, 4)
        return small, small * rng.randint(2, 3)
    parts = [tree(rng, depth - 1) for _ in range(rng.randint(2, 3))]
    if kind == "+" and all(counts(part)[0] == counts(part)[1] for part in parts):
        parts[0] = (2, 6)
    return [kind, *parts]


def counts(structure: Tree) -> Count:
    """(small, wide) coordinates of a structure."""
    if isinstance(structure, int):
        return structure, structure
    if isinstance(structure, tuple):
        return structure
    each = np.array([counts(part) for part in structure[1:]])
    total = each.prod(0) if structure[0] == "x" else each.sum(0)
    return int(total[0]), int(total[1])


def index_map(structure: Tree) -> np.ndarray[Any, Any]:
    """Which small coordinate each wide one copies: every free part is repeated as a whole."""
    small, wide = counts(structure)
    if not isinstance(structure, list):
        return np.arange(wide) % small
    parts = [(index_map(part), counts(part)[0]) for part in structure[1:]]
    out, before = parts[0]
    for more, after in parts[1:]:
        out = np.concatenate([out, before + more]) if structure[0] == "+" else np.add.outer(out * after, more).ravel()
        before = before + after if structure[0] == "+" else before * after
    return out


def built(structure: Tree) -> Range:
    """A range of that structure."""
    if isinstance(structure, int):
        return kept(structure)
    if isinstance(structure, tuple):
        return fresh(structure)
    parts = [built(part) for part in structure[1:]]
    return [factor for part in parts for factor in part] if structure[0] == "x" else ranges.join(parts)


def cases() -> list[random.Random]:
    return [random.Random(seed) for seed in range(CASES)]


def check_sources(of: Callable[[Range], Sequence[int]]) -> None:
    for rng in cases():
        structure = tree(rng)
        assert np.array_equal(of(built(structure)), index_map(structure))


def check_join(join: Callable[[list[Range]], Range]) -> None:
    for rng in cases():
        first, second = ["x", (2, 4), rng.randint(1, 3)], tree(rng)
        whole = join([built(first), built(second)])
        assert np.array_equal(sources(whole), index_map(["+", first, second]))


def check_divide(divide: Callable[[Any, Count], tuple[Range, Range]]) -> None:
    for rng in cases():
        outer, inner = (rng.randint(1, 4), rng.randint(5, 8)), rng.choice([(3, 3), (2, 6)])
        whole = fresh((outer[0] * inner[0], outer[1] * inner[1]))
        first, second = divide(whole[0], outer)
        assert (count_of(first), count_of(second)) == (outer, inner)
        assert np.array_equal(sources(whole), index_map(["x", outer, inner]))


def check_split(split: Callable[[Range, Sequence[Count]], list[Range]]) -> None:
    for rng in cases():
        wanted = [(rng.randint(2, 3), rng.randint(4, 6)), (rng.randint(2, 3),) * 2, (2, rng.choice([2, 4]))]
        whole = fresh((int(np.prod([n for n, _ in wanted])), int(np.prod([m for _, m in wanted]))))
        parts = split(whole, wanted)
        assert [count_of(part) for part in parts] == wanted
        expected = index_map(["x", *(n if n == m else (n, m) for n, m in wanted)])
        assert np.array_equal(sources(whole), expected)
        assert np.array_equal(sources([factor for part in parts for factor in part]), expected)


def check_cut(cut: Callable[[Range, Count], None]) -> None:
    for rng in cases():
        at, rest = ((rng.randint(1, 3), rng.randint(4, 6)) for _ in range(2))
        inner = rng.randint(1, 3)
        whole = [*fresh((at[0] + rest[0], at[1] + rest[1])), *kept(inner)]
        cut(whole, (at[0] * inner, at[1] * inner))
        assert np.array_equal(sources(whole), index_map(["x", ["+", at, rest], inner]))


def check_between(between: Callable[[Range, Count, Count], Range]) -> None:
    """Slices of a range: what they copy in the wide model lies in the same slice of the small one."""
    for rng in cases():
        pieces = [rng.choice([["x", (2, 4), 3], ["x", (1, 3), 3], ["x", (2, 6), 3], 3]) for _ in range(4)]
        pieces[0] = ["x", (2, 4), 3]
        each = np.array([(0, 0), *(counts(piece) for piece in pieces)]).cumsum(0)
        known = rng.random() < 0.5
        whole = built(["+", *pieces]) if known else fresh((int(each[-1][0]), int(each[-1][1])))
        a, b = sorted(rng.sample(range(5), 2))
        start, end = ((int(each[i][0]), int(each[i][1])) for i in (a, b))
        part = between(whole, start, end)
        assert count_of(part) == (end[0] - start[0], end[1] - start[1])
        assert np.array_equal(np.array(sources(whole))[start[1] : end[1]], start[0] + np.array(sources(part)))


def check_unify(unify: Callable[[Range, Range], None]) -> None:
    """Two views of one dimension, each of which knows something else of it, know the same afterwards."""
    for rng in cases():
        width, first, second = rng.randint(2, 4), (rng.randint(1, 3), rng.randint(4, 6)), (rng.randint(1, 3), 7)
        whole = ((first[0] + second[0]) * width, (first[1] + second[1]) * width)
        one, other = fresh(whole), fresh(whole)
        cuts.cut(one, (first[0] * width, first[1] * width))
        unification.split(other, [(whole[0] // width, whole[1] // width), (width, width)])
        both = [one, other] if rng.random() < 0.5 else [other, one]
        unify(*both)
        for view in both:
            assert np.array_equal(sources(view), index_map(["x", ["+", first, second], width]))


def check_unify_shares(unify: Callable[[Range, Range], None]) -> None:
    """What is found out about one of two ranges that are the same is known of the other too."""
    for rng in cases():
        outer, inner = (rng.randint(2, 4), rng.randint(5, 8)), (rng.randint(2, 4), rng.randint(5, 8))
        one, other = (fresh((outer[0] * inner[0], outer[1] * inner[1])) for _ in range(2))
        unify(one, other)
        unification.split(one, [outer, inner])
        assert np.array_equal(sources(other), index_map(["x", outer, inner]))


def neighbours(parts: Range) -> list[int]:
    """Copies side by side instead of one after another."""
    n, m = count_of(parts)
    return [j * n // m for j in range(m)]


def without_offsets(pieces: list[Range]) -> Range:
    return ranges.join(pieces[::-1])


def inside_out(factor: Any, outer: Count) -> tuple[Range, Range]:
    n, m = factor.count
    first, second = unification.divide(factor, (n // outer[0], m // outer[1]))
    return second, first


def reversed_split(parts: Range, wanted: Sequence[Count]) -> list[Range]:
    return unification.split(parts, wanted[::-1])[::-1]


def from_the_end(parts: Range, at: Count) -> None:
    n, m = count_of(parts)
    cuts.cut(parts, (n - at[0], m - at[1]))


def from_the_start(parts: Range, start: Count, end: Count) -> Range:
    return cuts.between(parts, (0, 0), (end[0] - start[0], end[1] - start[1]))


def counted_only(one: Range, other: Range) -> None:
    assert count_of(one) == count_of(other)


CHECKS: list[tuple[Callable[[Any], None], Callable[..., Any], Callable[..., Any]]] = [
    (check_sources, sources, neighbours),
    (check_join, ranges.join, without_offsets),
    (check_divide, unification.divide, inside_out),
    (check_split, unification.split, reversed_split),
    (check_cut, cuts.cut, from_the_end),
    (check_between, cuts.between, from_the_start),
    (check_unify, unification.unify, counted_only),
    (check_unify_shares, unification.unify, counted_only),
]


@pytest.mark.parametrize(("check", "right", "wrong"), CHECKS, ids=lambda value: getattr(value, "__name__", ""))
def test_against_index_maps(
    check: Callable[[Any], None], right: Callable[..., Any], wrong: Callable[..., Any]
) -> None:
    check(right)
    with pytest.raises((AssertionError, Unexplained)):
        check(wrong)


@pytest.mark.parametrize(
    ("say", "reason"),
    [
        (lambda: unification.unify(fresh((4, 8)), fresh((4, 12))), "of 4 (8) coordinates meets one of 4 (12)"),
        (lambda: unification.unify([*fresh((2, 6)), *kept(3)], [*kept(3), *fresh((2, 6))]), "as 2 (6) x 3 in one"),
        (lambda: unification.split(fresh((6, 10)), [(3, 4), (2, 2)]), "no multiple of 3 (4)"),
        (lambda: unification.split(kept(6), [(2, 3), (3, 2)]), "does not grow"),
        (lambda: cuts.cut(fresh((4, 8)), (5, 6)), "beyond its end"),
        (lambda: cuts.cut([*fresh((4, 8)), *kept(3)], (4, 8)), "within rows of 3"),
        (lambda: cuts.cut(ranges.join([fresh((2, 4)), fresh((3, 9))]), (1, 6)), "different parts"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(say: Callable[[], None], reason: str) -> None:
    with pytest.raises(Unexplained) as refusal:
        say()
    assert reason in str(refusal.value)


def test_description() -> None:
    parts = [*ranges.join([fresh((18, 36)), [*fresh((3, 6)), *kept(2)]]), *kept(4)]
    assert ranges.described(parts) == "[18 (36) + 3 (6) x 2] x 4"
