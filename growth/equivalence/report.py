"""What was proved, as values: the twin before anything is written, the fold of every tensor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from growth.equivalence.twin import TwinReport
from growth.tensor import Fold


@dataclass(frozen=True)
class Proof:
    """Both proofs of one growth.

    Args:
        twin: the miniature, grown by the same choices, in exact arithmetic.
        fold: every tensor of the real model read back through its map.
    """

    twin: TwinReport
    fold: Fold

    def to_json(self) -> dict[str, Any]:
        return {"twin": asdict(self.twin), "fold": self.fold.to_json()}

    def __str__(self) -> str:
        back = "bit for bit" if self.fold.exact else f"within one rounding of each weight (relative {self.fold.error:.1e})"
        held = f"; the copies of {self.fold.limited:.2%} of the weights differ less than asked for" if self.fold.limited else ""
        return (
            f"twin: max |difference| {self.twin.difference:.1e} in exact arithmetic, tolerance {self.twin.tolerance:g}\n"
            f"fold: {self.fold.tensors} tensors read back {back}{held}"
        )
