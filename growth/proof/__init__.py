"""Proof: before anything is written, a miniature of the model is grown and compared in float64.

May import: `growth.weights` and the rooms below. Imported by: `growth.training` and above.
Read in this order:

* ``prepare.py``: from a config and options to a plan, for every way to grow
* ``twin.py``: the comparison and its report
* ``miniature.py``, ``inputs.py``, ``outputs.py``: the small model, its inputs, how its outputs are compared
* ``float64.py``: running a transformers model entirely in float64
* ``run.py``: a model in memory, run before and after it grows
* ``foreign.py``, ``settings.py``, ``rounding.py``, ``undisturbed.py``: what in it is not of its config, by a run and
  by its attributes; what rounding alone does; running it without a trace
* ``locate.py``: the first module whose output is wrong
* ``lookalike.py``: a declaration borrowed for an unknown ``model_type``
"""
