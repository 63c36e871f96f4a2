"""What was proved of one growth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from growth.proof.run import RunReport
from growth.proof.twin import TwinReport
from growth.weights.fold import Fold


@dataclass(frozen=True)
class Proof:
    """The proofs of one growth. Printed, each is a line.

    Args:
        twin: a miniature of the model was grown by the same choices and compared in float64.
        fold: every grown tensor of the real model was read back and compared with its source.
        run: of a model in memory: it and the grown one were run on a few tokens. None for files.
    """

    twin: TwinReport
    fold: Fold
    run: RunReport | None = None

    def to_json(self) -> dict[str, Any]:
        run = {"run": asdict(self.run)} if self.run is not None else {}
        return {"twin": asdict(self.twin), "fold": self.fold.to_json(), **run}

    def __str__(self) -> str:
        back = (
            "bit for bit"
            if self.fold.exact
            else f"within one rounding of each weight (relative {self.fold.error:.1e})"
        )
        held = f" (small weights with less noise than asked: {self.fold.limited:.2%})" if self.fold.limited else ""
        return f"twin: {self.twin}\nfold: {self.fold.tensors} tensors read back {back}{held}" + (
            f"\n{self.run}" if self.run is not None else ""
        )
