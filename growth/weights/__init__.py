"""The only arithmetic on weights: growing a tensor, breaking the symmetry of its copies, reading it
back.

May import: `growth.plan` and the rooms below. Imported by: `growth.proof` and above.
Read in this order:

* ``grow.py``: a tensor and its plan in, the grown tensor out, block by block
* ``fold.py``: what reading it back must show, and the errors if it does not
* ``symmetry_breaking.py``, ``exact_sums.py``: copies that differ and still add up bit for bit
* ``blocks.py``: copying and adding along one dimension
"""
