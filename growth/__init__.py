"""growth: widen a trained Transformer checkpoint to one that computes the same function.

>>> import growth
>>> print(growth.plan_widening("small", width=2))             # what it would do
>>> print(growth.widen_checkpoint("small", "wide", width=2))  # a folder to a folder
>>> print(growth.check_equivalence("small", "wide"))          # both of them, run on text
>>> grown = growth.widen(model, width=2, optimizer=optimizer)   # in memory, while training
>>> model, optimizer = grown.model, grown.optimizer

Noise that no layer sees makes the copies of each weight differ, so that they can learn different
things. ``symmetry="none"`` leaves it out: equal copies train as one, as the small model would.
``help(growth.widen)`` lists everything that can be chosen.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from growth.version import __version__

if TYPE_CHECKING:
    from growth import training as training
    from growth.architectures import Architecture as Architecture
    from growth.checkpoint.inferred import infer_declaration as infer_declaration
    from growth.checkpoint.preview import plan_widening as plan_widening
    from growth.checkpoint.results import EquivalenceReport as EquivalenceReport
    from growth.checkpoint.results import WidenedCheckpoint as WidenedCheckpoint
    from growth.checkpoint.verify import check_equivalence as check_equivalence
    from growth.checkpoint.widen import widen_checkpoint as widen_checkpoint
    from growth.errors import CheckpointError as CheckpointError
    from growth.errors import GrowthError as GrowthError
    from growth.errors import IllegalGrowthError as IllegalGrowthError
    from growth.errors import ProofError as ProofError
    from growth.errors import UnsupportedModelError as UnsupportedModelError
    from growth.hf.custom_modules import register as register
    from growth.plan import Plan as Plan
    from growth.training.model import Grown as Grown
    from growth.training.model import widen as widen

_HOMES = {
    "Architecture": "architectures",
    "CheckpointError": "errors",
    "EquivalenceReport": "checkpoint.results",
    "Grown": "training.model",
    "GrowthError": "errors",
    "IllegalGrowthError": "errors",
    "Plan": "plan",
    "ProofError": "errors",
    "UnsupportedModelError": "errors",
    "WidenedCheckpoint": "checkpoint.results",
    "check_equivalence": "checkpoint.verify",
    "infer_declaration": "checkpoint.inferred",
    "plan_widening": "checkpoint.preview",
    "register": "hf.custom_modules",
    "training": "training",
    "widen": "training.model",
    "widen_checkpoint": "checkpoint.widen",
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
