"""A declaration for a model that nobody declared, found on its miniature.

May import: `growth.proof` and the rooms below. Imported by: `growth.training` and above.
Read in this order:

* ``sizes.py``: which config fields grow; ``meanings.py``, ``probe.py``: by their names, or by asking the class
* ``pair.py``: a miniature, and the same one with every such field multiplied
* ``groups.py``, ``proportions.py``: which sizes are tied to each other, and small values for them
* ``counts.py``, ``layers.py``: few layers of every kind, and other counts that do not grow
* ``movement.py``: whether every size moves what it should
* ``trial.py``, ``inputs.py``: building and running a model of an unknown class
* ``fields.py``: the whole numbers in a config
"""
