"""A model in memory, grown together with its optimizer and its learning-rate schedule.

May import: `growth.proof` and the rooms below. Imported by: `growth.checkpoint`, for the state that
a `transformers.Trainer` saves.
Public: `advise`, `staged`, `resume`, `fresh_warmup`, `clip_factor`, `train_new_only`, `new_coordinates`.
Read in this order:

* ``model.py``, ``model_checks.py``, ``rebuild.py``: `growth.widen`
* ``unsharded.py``, ``sharded.py``, ``ranks.py``: where its weights are: in this process, or spread over ranks
* ``own_models.py``: a module that nobody registered, made ready for it
* ``optimizer_kinds.py``, ``factors.py``, ``moments.py``: how an optimizer's state and settings
scale
* ``optimizer_checks.py``, ``optimizer.py``: the grown optimizer and its parameter groups
* ``lr_schedulers.py``, ``lr_schedulers_by_group.py``: the learning-rate schedule
* ``stages.py``, ``resume.py``, ``clipping.py``: public helpers of a training loop
* ``coordinates.py``, ``recorded.py``, ``step_hooks.py``, ``warmup.py``, ``frozen.py``: which weights
are new; warmed up, or trained alone
* ``planner.py``: `advise`, whether to grow: ``training_logs.py``, ``loss_curves.py``, ``curve_pairs.py`` (what is
known of the models), ``run_costs.py``, ``budgets.py`` (what they cost), ``head_start.py`` (what growth is worth),
``trial.py``, ``alternatives.py``, ``decision.py``, ``advice.py``, ``advice_text.py``, ``advice_plot.py``
* ``wrappers.py``: DDP, FSDP, PEFT, torch.compile: unwrapped, or refused with the remedy
"""

from growth.training.clipping import clip_factor
from growth.training.frozen import new_coordinates, train_new_only
from growth.training.planner import advise
from growth.training.resume import resume
from growth.training.stages import staged
from growth.training.warmup import fresh_warmup

__all__ = ["advise", "clip_factor", "fresh_warmup", "new_coordinates", "resume", "staged", "train_new_only"]
