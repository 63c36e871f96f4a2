"""The only arithmetic on weights: growing a tensor, making its copies differ, reading it back.

May import: `growth.plan` and the rooms below. Imported by: `growth.proof` and above.
Read in this order:

* ``model_weights.py``: the one loop over the tensors of a model
* ``grow.py``: a tensor and its plan in, the grown tensor out, block by block
* ``reading_back.py``, ``fold.py``: what reading it back must show, and the errors if it does not
* ``symmetry_breaking.py``, ``exact_sums.py``: copies that differ and add up to the last bit
* ``draws.py``: what is drawn for them
* ``workers.py``: threads that work on blocks, or files, side by side
* ``blocks.py``: taking copies and adding them up along one dimension
"""
