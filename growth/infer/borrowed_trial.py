"""A trial of one declaration on a model that is declared under another name, or under none: what the
twin says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from growth.architectures.architecture import Architecture
from growth.errors import FOREIGN_ERRORS, CheckpointError, GrowthError, IllegalGrowthError
from growth.plan.declared import Declared
from growth.plan.options import Options
from growth.plan.plan import TOLERANCE
from growth.proof.twin import twin_report


@dataclass(frozen=True)
class Trial:
    """What became of one.

    Args:
        difference: that of the twin; None if it could not be compared.
        refused: the refusal of the caller's options, if that is why.
        failed: what happened instead, if it is not.
    """

    difference: float | None = None
    refused: IllegalGrowthError | None = None
    failed: str = ""

    @property
    def exact(self) -> bool:
        """Whether the declaration is one of the model."""
        return self.difference is not None and self.difference <= TOLERANCE

    @property
    def said(self) -> str:
        """The same in words, for messages."""
        if self.difference is not None:
            return (
                f"the twin differs by {self.difference:.2g} after growth, so that the model's code computes something "
                "else"
            )
        if self.refused is not None:
            return f"the growth is refused: {self.refused}"
        return f"the twin could not be compared ({self.failed}), so that nothing is known"


def trial(raw: Mapping[str, Any], options: Options, architecture: Architecture) -> Trial:
    """Grow and compare the miniature of a config under a declaration.

    Args:
        raw: the config.
        options: the caller's.
        architecture: the declaration.

    Example:
        >>> from growth import architectures
        >>> raw = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
        >>> trial(raw, Options(width=2), architectures.find("llama")).exact
        True
    """
    try:
        with torch.random.fork_rng(devices=[]):
            return Trial(twin_report(raw, options, declared=Declared(architecture)).difference)
    except IllegalGrowthError as error:
        return Trial(refused=error)
    except (GrowthError, *FOREIGN_ERRORS) as error:
        if isinstance(error, CheckpointError):  # a shape follows from other sizes than the rule says
            kind = "at its sizes, "
        else:
            kind = "" if isinstance(error, GrowthError) else f"{type(error).__name__}: "
        return Trial(failed=f"{kind}{str(error).partition('. ')[0].rstrip('.')[:300]}")
