"""A model in memory, grown together with its optimizer and its learning-rate schedule.

May import: `growth.planner` and the rooms below. Imported by: `growth.checkpoint`, for the state that
a `transformers.Trainer` saves.
Public: `advise`, `staged`, `resume`, `parameter_groups`, `fresh_warmup`, `clip_factor`, `train_new_only`,
`new_coordinates`. Read in this order:

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
* ``wrappers.py``: DDP, FSDP, PEFT, torch.compile: unwrapped, or refused with the remedy
"""

from growth.planner import advise
from growth.training.clipping import clip_factor
from growth.training.frozen import new_coordinates, train_new_only
from growth.training.resume import parameter_groups, resume
from growth.training.stages import staged
from growth.training.warmup import fresh_warmup

__all__ = [
    "advise",
    "clip_factor",
    "fresh_warmup",
    "new_coordinates",
    "parameter_groups",
    "resume",
    "staged",
    "train_new_only",
]
