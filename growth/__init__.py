"""growth: widen a trained Transformer checkpoint to one that computes the same function.

>>> import growth
>>> growth.widen_checkpoint("small", "wide", width=2)       # a folder to a folder
>>> wide = growth.widen(model, width=2).model               # a model in memory
>>> print(growth.plan_widening("small", width=2))           # what it would do
>>> growth.check_equivalence("small", "wide").equal         # the real two, on text
>>> growth.training.staged(model, optimizer, step, {1000: {"width": 2}}, 2000)  # in a loop of your own
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from growth.version import __version__

if TYPE_CHECKING:
    from growth import training as training
    from growth.architecture import Architecture as Architecture
    from growth.architectures import register as register
    from growth.checkpoint import WidenedCheckpoint as WidenedCheckpoint
    from growth.checkpoint import widen_checkpoint as widen_checkpoint
    from growth.equivalence.logits import EquivalenceReport as EquivalenceReport
    from growth.equivalence.logits import check_equivalence as check_equivalence
    from growth.errors import CheckpointError as CheckpointError
    from growth.errors import GrowthError as GrowthError
    from growth.errors import IllegalGrowthError as IllegalGrowthError
    from growth.errors import ProofError as ProofError
    from growth.errors import UnsupportedModelError as UnsupportedModelError
    from growth.model import Grown as Grown
    from growth.model import widen as widen
    from growth.plan import Plan as Plan
    from growth.planning import plan_widening as plan_widening

_HOMES = {
    "Architecture": "architecture",
    "CheckpointError": "errors",
    "EquivalenceReport": "equivalence.logits",
    "Grown": "model",
    "GrowthError": "errors",
    "IllegalGrowthError": "errors",
    "Plan": "plan",
    "ProofError": "errors",
    "UnsupportedModelError": "errors",
    "WidenedCheckpoint": "checkpoint",
    "check_equivalence": "equivalence.logits",
    "plan_widening": "planning",
    "register": "architectures",
    "training": "training",
    "widen": "model",
    "widen_checkpoint": "checkpoint",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import on first use: torch and transformers take seconds, ``grow --help`` must not."""
    if name not in _HOMES:
        raise AttributeError(f"module 'growth' has no attribute '{name}'")
    home = import_module(f"growth.{_HOMES[name]}")
    return home if _HOMES[name] == name else getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
