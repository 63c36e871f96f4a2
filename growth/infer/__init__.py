"""Inference: a declaration for a model that nobody declared, from its class and its config.

This part is about models of images or sounds and text:

* ``nested.py``: the configs in a config
* ``towers.py``: which of them are towers, and the sizes of each; ``readings.py``: what a config does not say;
  ``size_fields.py``: names of fields; ``small_sizes.py``, ``listed_sizes.py``: their values in a miniature
* ``small_counts.py``, ``small_layers.py``, ``special_tokens.py``: layers, patches, positions and tokens of a miniature
* ``tower_growth.py``: what grows for a choice of towers
* ``pixels.py``, ``sounds.py``, ``modal_text.py``, ``modal_inputs.py``: inputs with images or sounds
* ``modal_check.py``: whether they matter
* ``modal_miniature.py``: all of it: a miniature, the same grown, and inputs for both

May import: `growth.proof` and the rooms below.
"""
