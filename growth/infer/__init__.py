"""A declaration for a model that nobody declared, found on its miniature.

The miniature and a wider one run side by side on the same inputs. Every operation says which
dimensions are one space, and how values scale; solving that gives the role of every parameter, and
so a declaration like any other. Nothing here is trusted: the twin (`growth.proof.twin`) proves what
was found for the config at hand, as it proves what was written by hand.

May import: `growth.proof` and the rooms below. Imported by: `growth.training` and above.
Read in this order:

* ``prepare.py``, ``declaration.py``: the way every growth begins, and which declaration it uses
* ``infer.py``: from a config and a class to a declaration; ``errors.py``: what stops it

Two models of different widths:

* ``pair.py``, ``drafts.py``: the miniature and the wider one, from the first draft that runs; ``trial.py``: running it
* ``counts.py``, ``layers.py``, ``image_counts.py``: few layers of every kind, and other counts that do not grow
* ``levels.py``: drafts for a model of one tower
* ``sizes.py``, ``meanings.py``, ``probe.py``, ``fields.py``: which config fields grow, by their names or by asking
  the class; ``own_fields.py``: by asking a module of the caller's
* ``groups.py``, ``proportions.py``, ``movement.py``: which sizes are tied to each other, small values for them, and
  whether each of them moves what it should
* ``tower_drafts.py``, ``towers.py``, ``readings.py``: drafts for a model of several towers
* ``size_fields.py``, ``small_sizes.py``, ``listed_sizes.py``, ``tower_growth.py``: the sizes of towers, small values
  for them, and what they are multiplied by

What their operations say:

* ``ranges.py``, ``unification.py``: what one dimension of a tensor ranges over
* ``scales.py``: how values scale, as linear equations
* ``recording.py``, ``walk.py``, ``values.py``: the operations of two runs, walked side by side
* ``operations``: what each operation says

From there to a declaration:

* ``solution.py``, ``head.py``, ``unused.py``: the role of every parameter, of a head and of what no run uses
* ``disk.py``: the same for the tensors in a checkpoint
* ``naming.py``, ``contradictions.py``: which size every space has, and configs in which two fields disagree
* ``declare.py``, ``by_layer.py``: the declaration, and layers of one name whose roles differ

And before anything is inferred:

* ``lookalike.py``, ``borrowed_trial.py``: a declaration made by hand that describes the model as well
"""
