"""Plans: what growing a model would do, tensor by tensor, worked out from its config and tensor
shapes alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from growth.algebra.axes import Space
from growth.algebra.dimensions import Dimension
from growth.algebra.maps import Floats, Map, powers_of_two
from growth.algebra.roles import Keeps, Role
from growth.architectures.architecture import Architecture
from growth.errors import GrowthError, shown
from growth.hf.config_json import differences
from growth.hf.configs import Config
from growth.plan.choice_checks import width_text
from growth.plan.declared import Declared
from growth.plan.options import Options
from growth.plan.symmetry import UNBROKEN, Symmetry
from growth.text import Part, Shown

TOLERANCE = 1e-10
"""Largest difference of outputs in float64 that counts as the same function."""


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

        ``TensorPlan(model.layers.0.self_attn.v_proj.weight: [96, 96] -> [144, 144],
        writes kv_heads * value; reads normed)``
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
        """The plan of the transpose, ``[a, b] -> [b, a]``; of a vector ``[a]``, that of the row ``[1, a]``."""
        kept = (Keeps(),) if len(self.shape) == 1 else ()
        outer = tuple(role.resolve(1, {}) for role in kept)
        dimensions = outer + tuple(reversed(self.dimensions))
        shape = (1,) * len(kept) + tuple(reversed(self.shape))
        return replace(self, shape=shape, roles=kept + tuple(reversed(self.roles)), dimensions=dimensions)

    @cached_property
    def coefficients(self) -> tuple[Floats, ...]:
        """One array ``[new]`` per dimension: the factors that scale a weight before it is rounded.

        That is ``value``; along `exact_sum_axis` it is ``1 / gradient``, because there the sum of the
        copies is rounded and not each copy (0 where the gradient is not determined)."""
        return tuple(
            np.divide(1.0, d.gradient, out=np.zeros(d.new), where=d.determined)
            if axis == self.exact_sum_axis
            else d.value
            for axis, d in enumerate(self.dimensions)
        )

    @cached_property
    def exact(self) -> bool:
        """True if no float format rounds: every coefficient is a power of two or zero, and nothing is
        added or averaged."""
        if self.symmetry.breaks and self.exact_sum_axis is None:
            return False
        if any(
            d.shift is not None or (d.averages and axis != self.exact_sum_axis)
            for axis, d in enumerate(self.dimensions)
        ):
            return False
        return all(bool(powers_of_two(factors).all()) for factors in self.coefficients)

    @cached_property
    def exact_sum_axis(self) -> int | None:
        """The one dimension along which copies differ and yet add up to the last bit
        (`growth.weights.exact_sums`), None if there is none."""
        summed = [axis for axis, d in enumerate(self.dimensions) if d.summed and d.grows]
        alone = self.symmetry.breaks and len(summed) == 1 and self.dimensions[summed[0]].common_gradient is not None
        return summed[0] if alone else None


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Shown):
    """What growing one model does, worked out from its config and the shapes of its tensors. Nothing
    is read or written yet. `growth.plan_widening` makes one; ``print`` shows it.

    Args:
        declared: the declaration it is made by.
        architecture: the same, adapted to the config.
        model_class: the class of the model.
        options: the caller's choices.
        old_sizes, new_sizes: size name -> value (``hidden_size``, ``head_dim``, ...).
        why: size name -> why it becomes what it does, in a few words.
        maps: space -> how its coordinates grow.
        tensors: name -> how that tensor grows; all tensors of the grown model.
        old, new: the config before and after, with what transformers makes of it.
        dtypes: tensor name -> dtype in the source; empty if only a config is known.
        left_out: tensors of the source that the model computes by itself and the result leaves out.
        notes: what the caller should know, a sentence each.
        lossy: whether this is a rotary growth that is not exact, which the caller accepted.

    Example:
        >>> import growth
        >>> from transformers import LlamaConfig
        >>> config = LlamaConfig(hidden_size=96, intermediate_size=160, num_attention_heads=6, num_hidden_layers=1)
        >>> plan = growth.plan_widening(config, width=2)
        >>> plan.tensors["layers.0.mlp.down_proj.weight"]
        TensorPlan(layers.0.mlp.down_proj.weight: [96, 160] -> [192, 320], writes residual; reads ffn)
        >>> plan.config_changes["hidden_size"], plan.why["num_attention_heads"]
        ((96, 192), 'x2')
    """

    declared: Declared
    architecture: Architecture
    model_class: type[PreTrainedModel]
    options: Options
    old_sizes: Mapping[str, int]
    new_sizes: Mapping[str, int]
    why: Mapping[str, str]
    maps: Mapping[Space, Map]
    tensors: Mapping[str, TensorPlan]
    old: Config
    new: Config
    dtypes: Mapping[str, torch.dtype] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lossy: bool = False

    @property
    def config_changes(self) -> dict[str, tuple[Any, Any]]:
        """Config field -> (old, new value), for those that change; None where absent, and with dots
        inside a nested config (``text_config.hidden_size``)."""
        return differences(self.old, self.new)

    @property
    def old_config(self) -> dict[str, Any]:
        """What the source's ``config.json`` holds: a copy."""
        return copy.deepcopy(dict(self.old))

    @property
    def new_config(self) -> dict[str, Any]:
        """What the grown model's ``config.json`` will hold: a copy."""
        return copy.deepcopy(dict(self.new))

    def parameters(self, *, new: bool) -> int:
        """Number of weights on disk, after growth (``new=True``) or before."""
        return sum(int(np.prod(t.new_shape if new else t.shape)) for t in self.tensors.values())

    def bytes(self, *, new: bool) -> int:
        """Bytes on disk, after growth (``new=True``) or before, each tensor in the dtype it has in the
        source (`source_dtypes`)."""
        dtypes = self.source_dtypes
        return sum(
            dtypes[name].itemsize * int(np.prod(t.new_shape if new else t.shape)) for name, t in self.tensors.items()
        )

    @cached_property
    def source_dtypes(self) -> dict[str, torch.dtype]:
        """Tensor name -> its dtype in the source; that of the config, where only a config is known."""
        named = str(self.old.get("dtype") or self.old.get("torch_dtype") or "float32")
        default = getattr(torch, named, torch.float32)
        return {name: self.dtypes.get(name, default) for name in self.tensors}

    def spaces(self) -> list[tuple[str, int, int, str]]:
        """(space, old and new number of coordinates, law), for the spaces that some tensor uses."""
        used = {space for tensor in self.tensors.values() for role in tensor.roles for space in role.spaces()}
        return [(str(s), m.n, m.m, str(self.architecture.laws[s])) for s, m in self.maps.items() if s in used]

    def map(self, space: str) -> Map:
        """How one space grows, looked up by the name that ``grow plan`` prints.

        Args:
            space: its name: ``"residual"``, ``"ffn"``, ``"kv_heads"``...

        Raises:
            GrowthError: if the plan has no space of that name.

        Example:
            Which old head each new one copies, of a Llama with 4 heads in 2 groups:

            >>> import growth
            >>> from transformers import LlamaConfig
            >>> config = LlamaConfig(num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=1)
            >>> plan = growth.plan_widening(config, width=2)
            >>> heads = plan.map("kv_heads") * plan.map("queries_per_kv")
            >>> heads.source
            array([0, 1, 2, 3, 0, 1, 2, 3])
        """
        named = {str(known): grown for known, grown in self.maps.items()}
        if not isinstance(space, str) or space not in named:
            raise GrowthError(
                f"this plan of a {self.architecture.model_type} has no space {shown(space)}. Use one of its spaces: "
                f"{', '.join(sorted(named))}."
            )
        return named[space]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values. Together with the source it says all that is needed to make the
        same growth again."""
        return {
            "model_type": self.architecture.model_type,
            "model_class": self.model_class.__name__,
            "options": asdict(self.options),
            "sizes": {name: [self.old_sizes[name], self.new_sizes[name]] for name in self.old_sizes},
            "why": dict(self.why),
            "spaces": [dict(zip(("space", "old", "new", "law"), row, strict=True)) for row in self.spaces()],
            "config_changes": {name: list(pair) for name, pair in self.config_changes.items()},
            "bytes": [self.bytes(new=False), self.bytes(new=True)],
            "parameters": [self.parameters(new=False), self.parameters(new=True)],
            "tensors": [
                {
                    "name": t.name,
                    "old": list(t.shape),
                    "new": list(t.new_shape),
                    "roles": [str(r) for r in t.roles],
                    "exact": t.exact,
                }
                for t in self.tensors.values()
            ],
            "left_out": list(self.left_out),
            "notes": list(self.notes),
        }

    @property
    def choices(self) -> str:
        """The caller's choices in one line, those that have an effect on this model."""
        options = self.options
        heads = {name.rpartition(".")[2] for name, size in self.new_sizes.items() if size != self.old_sizes[name]}
        said = [f"width {width_text(options.width)}"] if options.width is not None else []
        said += ["the sizes of another model"] if options.like else []
        said += [f"{name} {size}" for name, size in options.sizes.items()]
        said += [f"attention {options.attention}"] if options.width is not None else []
        said += [f"rope {options.rope}"] if self.architecture.rotary and "head_dim" in heads else []
        seed = f" (seed {options.seed})" if options.breaking.kind == "noise" or options.breaking.varied else ""
        said += [f"symmetry {options.symmetry}{seed}"] if options.breaking.breaks else []
        said += [f"last hidden state {options.last_hidden_state}"] if options.last_hidden_state != "divided" else []
        return ", ".join([*said, f"scaling {options.scaling}"])

    def _parts(self) -> Sequence[Part]:
        from growth.plan.text import plan_parts  # which plans again, to say what would round less

        return plan_parts(self)

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name} {old} -> {self.new_sizes[name]}"
            for name, old in self.old_sizes.items()
            if self.new_sizes[name] != old
        )
        return (
            f"{self.model_class.__name__}, {self.choices}: {sizes}; "
            f"{self.parameters(new=False):,} -> {self.parameters(new=True):,} parameters"
        )
