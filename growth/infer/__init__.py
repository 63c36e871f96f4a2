"""A declaration for a model that nobody declared, found on its miniature.

`sizes` says which config fields grow; `pair` makes a miniature and the same one with every such
field multiplied, to be compared dimension by dimension."""
