"""How one tensor grows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Floats
from growth.algebra.roles import Keeps, Role
from growth.plan.symmetry import UNBROKEN, Symmetry


@dataclass(frozen=True, eq=False, repr=False)
class TensorPlan:
    """How one tensor grows.

    ``new[j0, j1, ...] = value_0[j0] * value_1[j1] * ... * old[source_0[j0], source_1[j1], ...]``, with
    one `growth.algebra.dimensions.Dimension` per dimension of the tensor. If the model adds a number
    to a gain, a shift is added (`growth.algebra.roles.Gain`). Along summed dimensions the copies
    may differ (`growth.weights.symmetry_breaking`).

    Args:
        name: in the source file, and in the grown one.
        canonical: the name in the declaration: without the base model's prefix.
        shape: before growth.
        roles: one per dimension, from the declaration.
        dimensions: one per dimension, what the roles come to at these sizes.
        symmetry: how the copies are made to differ; `UNBROKEN` if they are equal.

    Example:
        The value projection of a Llama of 6 heads of 16, grown to 9:

        >>> import growth
        >>> from transformers import LlamaConfig
        >>> config = LlamaConfig(hidden_size=96, intermediate_size=160, num_attention_heads=6, num_hidden_layers=1)
        >>> growth.plan_widening(config, width=1.5).tensors["layers.0.self_attn.v_proj.weight"]
        TensorPlan(layers.0.self_attn.v_proj.weight: [96, 96] -> [144, 144], writes kv_heads * value; reads normed)
    """

    name: str
    canonical: str
    shape: tuple[int, ...]
    roles: tuple[Role, ...]
    dimensions: tuple[Dimension, ...]
    symmetry: Symmetry = UNBROKEN

    def __repr__(self) -> str:
        return (
            f"TensorPlan({self.name}: {list(self.shape)} -> {list(self.new_shape)}, {'; '.join(map(str, self.roles))})"
        )

    @property
    def new_shape(self) -> tuple[int, ...]:
        """Shape after growth."""
        return tuple(dimension.new for dimension in self.dimensions)

    @property
    def unchanged(self) -> bool:
        """True if every dimension is kept, so that the tensor need not be of a float dtype: a mask, a
        counter."""
        return len(self.roles) == len(self.shape) and all(isinstance(role, Keeps) for role in self.roles)

    @property
    def transposed(self) -> TensorPlan:
        """The plan of the transpose, ``[a, b] -> [b, a]``."""
        return replace(
            self,
            shape=tuple(reversed(self.shape)),
            roles=tuple(reversed(self.roles)),
            dimensions=tuple(reversed(self.dimensions)),
        )

    @property
    def in_one_row(self) -> TensorPlan:
        """The plan of the tensor as one row, ``[a, b] -> [1, a, b]``."""
        row = Keeps()
        return replace(
            self,
            shape=(1, *self.shape),
            roles=(row, *self.roles),
            dimensions=(row.resolve(1, {}), *self.dimensions),
        )

    @cached_property
    def coefficients(self) -> tuple[Floats, ...]:
        """One array ``[new]`` per dimension: the factors that scale a weight before it is rounded.

        That is ``value``; along `exact_sum_axis` it is ``1 / gradient``, because there the sum of the
        copies is rounded and not each copy (0 where the gradient is not determined)."""
        return tuple(d.per_sum if axis == self.exact_sum_axis else d.value for axis, d in enumerate(self.dimensions))

    @cached_property
    def exact(self) -> bool:
        """True if no float format rounds: every coefficient is a power of two or zero, and nothing is
        added or averaged."""
        if self.symmetry.breaks and self.exact_sum_axis is None:
            return False
        return all(
            d.exact_sums if axis == self.exact_sum_axis else d.exact_copies for axis, d in enumerate(self.dimensions)
        )

    @cached_property
    def exact_sum_axis(self) -> int | None:
        """The one dimension along which copies differ and yet add up to the last bit
        (`growth.weights.exact_sums`), None if there is none."""
        summed = [axis for axis, d in enumerate(self.dimensions) if d.summed and d.grows]
        alone = self.symmetry.breaks and len(summed) == 1 and self.dimensions[summed[0]].common_gradient is not None
        return summed[0] if alone else None
