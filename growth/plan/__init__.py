"""What growing a model would do, worked out from its config and the shapes of its tensors alone. No
weight is read here.

May import: `growth.hf` (but not its reader) and the rooms below. Imported by: `growth.weights` and
above.
Read in this order:

* ``plan.py``, ``tensor_plan.py``, ``declared.py``, ``text.py``: the values, and how they read
* ``build.py``, ``planned_tensor.py``: how a plan is made
* ``choices.py``, ``choice_checks.py``, ``symmetry.py``, ``noise_limit.py``, ``options.py``: what the caller may
  choose, as a table and as one value
* ``other_model.py``, ``like.py``, ``beside.py``, ``keep.py``, ``taken_over.py``: another model, in what this one
  differs from it, and what is taken over
* ``requested_sizes.py``: the sizes asked for, by name or by another model
* ``target_sizes.py``, ``size_rules.py``, ``size_search.py``, ``model_sizes.py``, ``nearby_sizes.py``,
  ``size_reasons.py``: from a ratio to sizes
* ``candidate.py``, ``norm_epsilon.py``: what some sizes lead to
* ``tied_weights.py``, ``dead_units.py``, ``choice_notes.py``: what to know before
* ``rounding.py``, ``loading.py``: what a dtype leaves of it, and what loading in a coarser one does
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from growth.plan.plan import Plan
from growth.plan.tensor_plan import TensorPlan

__all__ = ["Plan", "TensorPlan"]


def __getattr__(name: str) -> Any:
    """Import on first use: `growth.plan.options` must not take the seconds that torch does."""
    if name not in __all__:
        raise AttributeError(f"module 'growth.plan' has no attribute '{name}'")
    from growth.plan import plan

    return getattr(plan, name)
