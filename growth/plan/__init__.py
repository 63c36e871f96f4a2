"""What growing a model would do, worked out from its config and the shapes of its tensors alone. No
weight is read here.

May import: `growth.hf` (but not its reader) and the rooms below. Imported by: `growth.weights` and
above.
Read in this order: ``plan.py`` (the values), ``build.py`` (how a plan is made), ``options.py``
(what the caller may choose), ``target_sizes.py`` (from a ratio to sizes), ``candidate.py`` (what
some sizes lead to), ``tied_weights.py``, ``rounding.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from growth.plan.plan import Declared, Plan, TensorPlan

__all__ = ["Declared", "Plan", "TensorPlan"]


def __getattr__(name: str) -> Any:
    """Import on first use: `growth.plan.options` must not take the seconds that torch does."""
    if name not in __all__:
        raise AttributeError(f"module 'growth.plan' has no attribute '{name}'")
    from growth.plan import plan

    return getattr(plan, name)
