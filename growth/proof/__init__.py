"""Proof: before anything is written, a miniature of the model is grown and compared in float64.

May import: `growth.weights` and the rooms below. Imported by: `growth.training` and above.
Read in this order:

* ``twin.py``: the comparison and its report
* ``miniature.py``, ``small_ropes.py``, ``inputs.py``, ``outputs.py``: the small model, its inputs, how its outputs are
  compared
* ``float64.py``: running a transformers model entirely in float64
* ``run.py``: a model in memory, run before and after it grows
* ``foreign.py``, ``settings.py``, ``rounding.py``, ``undisturbed.py``: what in it is not of its config, by a run and
  by its attributes; what rounding alone does; running it without a trace
* ``locate.py``: the first module whose output is wrong
* ``class_inputs.py``, ``unknown_inputs.py``: the inputs of a class that is declared, and what is tried for one that is
  not; ``modal_inputs.py``, ``modal_text.py``, ``pixels.py``, ``sounds.py``, ``patch_grid.py``, ``special_tokens.py``,
  ``modal_check.py``: text with images or sounds that matter
"""
