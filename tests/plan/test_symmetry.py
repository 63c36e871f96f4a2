"""How a way to break the symmetry is written and read, and what is refused."""

from __future__ import annotations

import math

import pytest

from growth.errors import IllegalGrowthError
from growth.plan.symmetry import SHARES, UNBROKEN, Symmetry


@pytest.mark.parametrize(
    ("text", "value", "canonical"),
    [
        ("none", Symmetry(), "none"),
        ("noise:0", Symmetry(), "none"),
        ("noise:0.1", Symmetry("noise", noise=0.1), "noise:0.1"),
        ("noise:1", Symmetry("noise", noise=1.0), "noise:1"),
        ("noise:1e-3", Symmetry("noise", noise=0.001), "noise:0.001"),
        ("split", Symmetry("split"), "split:1/2"),
        ("split:1/2", Symmetry("split", shares=(1.0, 2.0)), "split:1/2"),
        ("split:0.3/5", Symmetry("split", shares=(0.3, 5.0)), "split:0.3/5"),
        ("split:2/1", Symmetry("split", shares=(2.0, 1.0)), "split:2/1"),
        ("split:varied", Symmetry("split", varied=True), "split:1/2:varied"),
        ("split:1/4:varied", Symmetry("split", shares=(1.0, 4.0), varied=True), "split:1/4:varied"),
        ("split:1e-300/1e300", Symmetry("split", shares=(1e-300, 1e300)), "split:1e-300/1e+300"),
    ],
)
def test_text_and_value_are_one(text: str, value: Symmetry, canonical: str) -> None:
    assert Symmetry.parse(text) == value
    assert str(value) == canonical and Symmetry.parse(canonical) == value
    assert value.breaks == (canonical != "none")


@pytest.mark.parametrize("kind", ["none", "noise", "split"])
def test_what_a_kind_does_not_use_makes_no_difference(kind: str) -> None:
    plain = Symmetry(kind, noise=0.2 if kind == "noise" else 0.0, varied=kind == "split")  # type: ignore[arg-type]
    used = {"shares": (3.0, 4.0)} if kind != "split" else {"noise": 0.7}
    other = Symmetry(kind, **{"noise": plain.noise, "varied": True, **used})  # type: ignore[arg-type]
    assert plain == other and hash(plain) == hash(other)
    assert Symmetry() == UNBROKEN and UNBROKEN.shares == SHARES


@pytest.mark.parametrize(
    "text", ["", "nothing", "noise", "noise:", "noise:loud", "noise:0.1:0.2", "none:1", "split:1", "split:1/2/3"]
)
def test_unreadable_texts_are_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(
        IllegalGrowthError,
        match=r"symmetry must be auto, noise:R, split:A/B, split:A/B:varied or none, not '.*'\. The default, auto, ",
    ):
        Symmetry.parse(text)


@pytest.mark.parametrize(
    "text", ["split:a/b", "split:1/2:vary", "split:varied:1/2", "Split", "split:1/2:varied:varied", None, 3]
)
def test_so_is_anything_else(text: str) -> None:
    with pytest.raises(IllegalGrowthError, match=f"not '?{text}'?"):
        Symmetry.parse(text)


@pytest.mark.parametrize("noise", [-0.1, 8.01, math.nan, math.inf])
def test_noise_out_of_range_is_refused(noise: float) -> None:
    with pytest.raises(IllegalGrowthError, match=r"noise must be a number from 0 to 8, not .*\. 1 is as large as"):
        Symmetry.parse(f"noise:{noise}")


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ("1/1", "equal shares, 1/1, leave the copies equal. Use split:1/2, or none."),
        ("2/2:varied", "equal shares, 2/2, leave the copies equal."),
        ("0/1", "must be above 0 and finite, not 0/1. Use split:1/2."),
        ("-1/2", "not -1/2"),
        ("1/inf", "not 1/inf"),
        ("nan/1", "not nan/1"),
    ],
)
def test_shares_that_break_nothing_or_make_no_sense_are_refused(shares: str, says: str) -> None:
    with pytest.raises(IllegalGrowthError) as refused:
        Symmetry.parse(f"split:{shares}")
    assert says in str(refused.value)
