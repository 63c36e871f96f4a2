"""Proof before anything is written: a miniature of the model, grown and compared in float64.

May import: `growth.weights` and the rooms below. Imported by: `growth.training` and above.
Read in this order:

* ``twin.py``: the comparison, and the report of it
* ``miniature.py``, ``inputs.py``, ``outputs.py``: the small model, what it reads, how its outputs are compared
* ``float64.py``: running a stock class wholly in float64
* ``locate.py``: the first module whose output is wrong
* ``lookalike.py``: a declaration borrowed for an unknown ``model_type``
"""
