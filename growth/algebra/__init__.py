"""How the coordinates of an axis grow, and what each non-linearity allows. The mathematics; numpy
alone.

May import: `growth.errors`; neither torch nor transformers. Imported by: every other room.
Read in this order:

* ``maps.py``: a `Map` from n to m coordinates, and why ``sum(write * read) == 1`` keeps a linear layer
* ``axes.py``: spaces, and axes made of them
* ``laws.py``, ``derived_laws.py``, ``attention_laws.py``: from (n, m) to a map, one law per non-linearity
* ``dimensions.py``, ``roles.py``: what a map makes of one dimension of one parameter, and of its gradient
"""
