"""A model in memory, grown with its optimizer and its learning-rate schedule, inside a training
loop.

May import: `growth.proof` and the rooms below. Imported by: `growth.checkpoint`, for the Trainer's
state.
Public: `staged`, `resume`, `fresh_warmup`, `clip_factor`. Read in this order:

* ``model.py``, ``rebuild.py``: `growth.widen`
* ``optimizer.py``, ``factors.py``, ``moments.py``, ``optimizer_kinds.py``, ``optimizer_checks.py``: settings and state
* ``lr_schedulers.py``, ``lr_schedulers_by_group.py``: the schedule
* ``stages.py``, ``resume.py``, ``warmup.py``, ``clipping.py``: what a loop needs besides
* ``wrappers.py``: DDP, FSDP, PEFT, torch.compile: taken off, or refused with the remedy
"""

from growth.training.clipping import clip_factor
from growth.training.resume import resume
from growth.training.stages import staged
from growth.training.warmup import fresh_warmup

__all__ = ["clip_factor", "fresh_warmup", "resume", "staged"]
