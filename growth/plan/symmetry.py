"""How the copies of a coordinate are made to differ, as a value; `growth.weights.symmetry_breaking`
does the arithmetic.

===================  ============================================================================
text                 what the copies of a weight that are read together become
===================  ============================================================================
``none``             equal
``auto``             as ``noise:2``, or less in a deep model; see `growth.plan.noise_limit`
``noise:R``          equal plus noise that reading cannot see, of RMS R times that of the weights
``split:A/B``        shares of it that go evenly from A to B; of two copies, A to B
``split:A/B:varied`` shares drawn between A and B, anew for each weight
===================  ============================================================================

Whatever the choice, what is read adds up as before: to the last bit if copies differ
(`growth.weights.exact_sums`), up to the rounding of each copy if they are equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from growth.errors import IllegalGrowthError

LARGEST_NOISE = 8
"""Of any model. A deep one takes less (`growth.plan.noise_limit`)."""

NOISE_HINT = "1 is as large as the weight itself; left out, it is 2, or less in a deep model. The function stays."

AUTO = "auto"
"""The text for the usual noise, or as much of it as the depth of the model takes
(`growth.plan.noise_limit`). Which that is, a plan says."""

SHARES = (1.0, 2.0)
"""The shares of a split that names none."""


@dataclass(frozen=True)
class Symmetry:
    """A way to break the symmetry of the copies, or none.

    Args:
        kind: ``none``, ``noise`` or ``split``.
        noise: RMS of the noise relative to that of the weights, 0 to `LARGEST_NOISE`. No noise is the same as no
            breaking.
        shares: first and last share of a split, up to a common factor.
        varied: whether shares are drawn between the two for each weight.
        level: whether coordinates with different numbers of copies get shares that keep the
            direction of a hidden state (`growth.algebra.shares`). No text says so; `for_hidden_states`
            sets it.

    Raises:
        IllegalGrowthError: for a number outside its range.

    Example:
        >>> str(Symmetry.parse("split"))
        'split:1/2'
    """

    kind: Literal["none", "noise", "split"] = "none"
    noise: float = 0.0
    shares: tuple[float, float] = SHARES
    varied: bool = False
    level: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("none", "noise", "split"):
            raise _unknown(self.kind)
        if self.kind == "noise" and not 0 <= self.noise <= LARGEST_NOISE:
            raise IllegalGrowthError(
                f"noise must be a number from 0 to {LARGEST_NOISE}, not {self.noise!r}. {NOISE_HINT}"
            )
        if self.kind == "split":
            if not all(0 < share < math.inf for share in self.shares):
                raise IllegalGrowthError(
                    f"the shares of a split must be above 0 and finite, not {_ratio(self.shares)}. Use split:1/2."
                )
            if self.shares[0] == self.shares[1]:
                raise IllegalGrowthError(
                    f"equal shares, {_ratio(self.shares)}, leave the copies equal. Use split:1/2, or none."
                )
        # One value for one meaning: what another kind would need is at its default.
        if self.kind == "noise" and self.noise == 0:
            object.__setattr__(self, "kind", "none")
        if self.kind != "noise":
            object.__setattr__(self, "noise", 0.0)
        if self.kind != "split":
            object.__setattr__(self, "shares", SHARES)
            object.__setattr__(self, "varied", False)

    @classmethod
    def parse(cls, text: str) -> Symmetry:
        """The value of a text: ``none``, ``noise:R``, ``split``, ``split:A/B``, ``split:varied`` or
        ``split:A/B:varied``.

        Raises:
            IllegalGrowthError: for any other.
        """
        kind, *details = str(text).split(":")
        if kind == "none" and not details:
            return cls()
        if kind == "noise" and len(details) == 1:
            return cls("noise", noise=_number(details[0], text))
        if kind == "split":
            varied = details[-1:] == ["varied"]
            shares = details[:-1] if varied else details
            if not shares:
                return cls("split", varied=varied)
            if len(shares) == 1 and shares[0].count("/") == 1:
                first, last = (_number(share, text) for share in shares[0].split("/"))
                return cls("split", shares=(first, last), varied=varied)
        raise _unknown(text)

    @property
    def breaks(self) -> bool:
        """Whether copies differ at all."""
        return self.kind != "none"

    @property
    def for_hidden_states(self) -> Symmetry:
        """How the copies of a gain differ that writes a hidden state: by shares that depend on the
        copy and on nothing else, so that the hidden state keeps its direction. Noise of R becomes
        shares that go from 1 - 3/4 R to 1 + 3/4 R, for R above 1 as for 1: of two copies an eighth and
        seven eighths at most, so that none vanishes.

        Example:
            >>> str(Symmetry("noise", noise=1.0).for_hidden_states)
            'split:0.25/1.75'
        """
        apart = 0.75 * min(self.noise, 1.0)
        shares = (1 - apart, 1 + apart) if self.kind == "noise" else self.shares
        return UNBROKEN if shares[0] == shares[1] or not self.breaks else Symmetry("split", 0.0, shares, level=True)

    def __str__(self) -> str:
        if self.kind == "noise":
            return f"noise:{_plain(self.noise)}"
        if self.kind == "split":
            return f"split:{_ratio(self.shares)}{':varied' if self.varied else ''}"
        return "none"


UNBROKEN = Symmetry()
"""All copies equal."""


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _unknown(whole) from None


def _plain(number: float) -> str:
    """The shortest text that comes back as the same number; whole ones without a point."""
    return repr(float(number)).removesuffix(".0")


def _ratio(shares: tuple[float, float]) -> str:
    return "/".join(map(_plain, shares))


def _unknown(text: object) -> IllegalGrowthError:
    return IllegalGrowthError(
        f"symmetry must be auto, noise:R, split:A/B, split:A/B:varied or none, not {text!r}. The default, auto, "
        "breaks the symmetry by noise, without changing the function."
    )
