"""Extending a model at unchanged widths: more layers, a head of its own, more key/value heads, more
experts.

A growth has two steps. The model is extended, where the caller asks for that, and what comes out is
widened. An extended model computes the same function, has the model's class, and takes every
weight from the model: a copy of a tensor, or of entries of it, or values at which a new layer is
silent. So it is described by its config and by where each of its tensors comes from
(`growth.extension.extension.Extension`), and everything that reads the weights of a model can read
those of an extended one.

May import: `growth.hf` and the rooms below. Imported by: `growth.plan` and above.
Read in this order:

* ``part.py``, ``extension.py``: where each tensor comes from, and the value
* ``request.py``, ``placement.py``: what a caller asks for, and where new layers stand
* ``stacks.py``, ``layer_config.py``, ``kinds.py``: the lists of layers of a model, what its config lists of each
  layer, and which layers are built alike
* ``layers.py``: new layers that change nothing
* ``untied.py``: a head that is no longer tied
* ``coordinates.py``, ``kv_heads.py``: more key/value heads for the same queries
* ``experts.py``, ``expert_copies.py``, ``split.py``: more experts, and finer ones
* ``extend.py``: the extension that a caller asks for
* ``alike.py``: what a miniature is to have more of, to stand for it
"""
