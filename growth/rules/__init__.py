"""Rules: for each kind of module, which dimension of its parameters writes or reads which axis.

May import: `growth.algebra`, `growth.errors`. Imported by: `growth.architectures` and above. Each
file opens with its formula.
Read in this order: ``linear.py``, ``norm.py``, ``feed_forward.py``, ``embedding.py``,
``attention.py``, ``heads.py``, ``experts.py``. ``rotary.py`` computes rotary configs.
"""
