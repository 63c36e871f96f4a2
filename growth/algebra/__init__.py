"""How the coordinates of an axis grow, and what each non-linearity allows. The mathematics, in
numpy alone.

May import: `growth.errors`; neither torch nor transformers. Imported by: every other room.
Read in this order:

* ``maps.py``: a `Map` from n to m coordinates, and why ``sum(write * read) == 1`` keeps a layer
* ``axes.py``: spaces, and axes made of them
* ``laws.py``: one law per non-linearity, (n, m) -> map; then ``norm_laws.py``, ``derived_laws.py``
  and ``attention_laws.py``
* ``dimensions.py``, ``roles.py``: what a map does to one dimension of a weight and of its gradient
"""
