"""How values scale: equations between logarithms, against linear algebra in numpy."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from growth.infer.errors import Unexplained
from growth.infer.scales import ONE, Scale, Scales

UNKNOWNS, CASES = 6, 60


def form(rng: random.Random, unknowns: list[Scale]) -> tuple[Scale, np.ndarray]:  # type: ignore[type-arg]
    """A random linear form, and its coefficients."""
    row = np.array([rng.choice([0, 0, 0, 1, -1, 0.5, 2]) for _ in unknowns])
    scale = ONE
    for coefficient, unknown in zip(row, unknowns, strict=True):
        scale = scale + unknown * float(coefficient)
    return scale, row


def check_against_numpy(made: Callable[[], Scales]) -> None:
    """What the equations give is found, what they leave open is left open, and a further equation is taken exactly if
    it does not contradict them."""
    for seed in range(CASES):
        rng = random.Random(seed)
        truth = np.array([rng.uniform(-1, 1) for _ in range(UNKNOWNS)])
        scales = made()
        unknowns = [scales.unknown() for _ in truth]
        rows: list[np.ndarray] = []  # type: ignore[type-arg]
        for _ in range(rng.randint(1, 7)):
            scale, row = form(rng, unknowns)
            scales.equal(scale, Scale(constant=float(row @ truth)))
            rows.append(row)
        known = np.array(rows)
        for _ in range(8):
            scale, row = form(rng, unknowns)
            given = np.linalg.matrix_rank(np.vstack([known, row])) == np.linalg.matrix_rank(known)
            value = scales.value(scale)
            assert (value is not None) == given
            if value is not None:
                assert abs(value - float(row @ truth)) < 1e-9
                assert not scales.try_equal(scale, Scale(constant=value + 0.1))
                assert scales.try_equal(scale, Scale(constant=value))
        for scale in unknowns:  # a refused equation says nothing
            assert scales.value(scale) is None or abs(scales.value(scale) - truth[unknowns.index(scale)]) < 1e-9  # type: ignore[operator]


class Forgetful(Scales):
    """Does not put what is known into new equations."""

    def reduced(self, scale: Scale) -> Scale:
        return scale


class Credulous(Scales):
    """Takes what contradicts."""

    def try_equal(self, one: Scale, other: Scale = ONE) -> bool:
        super().try_equal(one, other)
        return True


class OneSided(Scales):
    """Loses the constant of an equation."""

    def try_equal(self, one: Scale, other: Scale = ONE) -> bool:
        return super().try_equal(one, Scale(other.terms))


def test_equations_are_solved_as_numpy_solves_them() -> None:
    check_against_numpy(Scales)


@pytest.mark.parametrize("wrong", [Forgetful, Credulous, OneSided])
def test_a_wrong_solver_does_not_pass(wrong: type[Scales]) -> None:
    with pytest.raises((AssertionError, Unexplained)):
        check_against_numpy(wrong)


def test_forms() -> None:
    scales = Scales()
    x, y = scales.unknown(), scales.unknown()
    assert (x + y - y).terms == x.terms
    assert (x * 0.5 + x * 0.5).terms == x.terms
    assert (x - x).plus(2.0) == Scale(constant=2.0)


def test_a_contradiction_says_how_far_apart_the_two_are() -> None:
    scales = Scales()
    x = scales.unknown()
    scales.equal(x, Scale(constant=float(np.log(2.0))))
    with pytest.raises(Unexplained, match="some factor times the small model's and 2 times that factor, both at once"):
        scales.equal(x)
