"""Linear maps: ``y = W x + b``.

Reading undoes writing, so the grown output is a copy of the old one:

    y'[i] = write_y[i] * (sum_j W[.., ..] read_x[j] write_x[j] x[..] + b) = write_y[i] * (W x + b).
"""

from __future__ import annotations

from collections.abc import Mapping

from growth.algebra.axes import Axis
from growth.algebra.roles import Keeps, Reads, Role, Writes

Rule = Mapping[str, tuple[Role, ...]]
"""Name of a parameter in its module -> one role per dimension."""


def _writes(axis: Axis | None) -> Role:
    return Keeps() if axis is None else Writes(axis)


def linear(reads: Axis, writes: Axis | None = None) -> Rule:
    """``torch.nn.Linear``: weight ``[out, in]``, bias ``[out]``.

    Args:
        reads: the axis of the input.
        writes: the axis of the output; None for one that does not grow (vocabulary, labels).

    Example:
        >>> from growth.algebra.axes import Space
        >>> hidden, ffn = Space("residual", "hidden_size"), Space("ffn", "intermediate_size")
        >>> [str(role) for role in linear(reads=hidden, writes=ffn)["weight"]]
        ['writes ffn', 'reads residual']
    """
    return {"weight": (_writes(writes), Reads(reads)), "bias": (_writes(writes),)}


def conv1d(reads: Axis, writes: Axis | None = None) -> Rule:
    """``transformers.Conv1D`` (GPT-2), a linear layer stored transposed: weight ``[in, out]``, bias
    ``[out]``. Arguments as for `linear`."""
    return {"weight": (Reads(reads), _writes(writes)), "bias": (_writes(writes),)}


def convolution(reads: Axis | None, writes: Axis | None = None, *, kernel: int = 1) -> Rule:
    """``torch.nn.Conv1d`` and ``Conv2d``: weight ``[out, in, *window]``, bias ``[out]``.

    Args:
        reads: the axis of the input channels; None for raw input (pixels, spectrograms).
        writes: as for `linear`.
        kernel: number of dimensions of the window, 1 or 2.
    """
    entering = Keeps() if reads is None else Reads(reads)
    return {"weight": (_writes(writes), entering, *(Keeps(),) * kernel), "bias": (_writes(writes),)}


def under(module: str, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """The same rules for modules that lie inside another one.

    Args:
        module: pattern of the outer module, such as ``layers.*.mlp``.
        rules: name of an inner module -> its rule.

    Example:
        >>> from growth.algebra.axes import Space
        >>> into_head = linear(Space("final", "hidden_size"))
        >>> list(under("layers.*.mlp", {"up_proj": into_head, "down_proj": into_head}))
        ['layers.*.mlp.up_proj', 'layers.*.mlp.down_proj']
    """
    return {f"{module}.{name}": rule for name, rule in rules.items()}
