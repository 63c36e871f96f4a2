"""Plans: what growing a model would do, tensor by tensor, worked out from its config and tensor
shapes alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from growth.algebra.axes import Space
from growth.algebra.maps import Map
from growth.architectures.architecture import Architecture
from growth.errors import GrowthError, shown
from growth.extension.extension import Extension, Reader
from growth.extension.part import Part
from growth.hf.config_json import differences
from growth.hf.configs import Config
from growth.plan.choice_checks import width_text
from growth.plan.declared import Declared
from growth.plan.options import Options
from growth.plan.tensor_plan import TensorPlan
from growth.text import Shown, Table

TOLERANCE = 1e-10
"""Largest difference of outputs in float64 that counts as the same function."""


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
        lossy: whether this growth is not exact, which the caller accepted: a rotary one, or new
            layers that are plain copies.
        extension: what the model gets more of before it is widened; None for nothing. The shapes
            in ``tensors`` are those of the extended model.

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
    extension: Extension | None = None

    @property
    def extended(self) -> Config:
        """The config of the extended model; of the model itself, where nothing is added."""
        return self.old if self.extension is None else self.extension.new

    @cached_property
    def extended_sizes(self) -> dict[str, int]:
        """The sizes of the extended model."""
        return self.architecture.read_sizes(self.extended.parsed)

    @property
    def widens(self) -> bool:
        """Whether a size grows, beside what the extended model has more of."""
        return any(self.new_sizes[name] != size for name, size in self.extended_sizes.items())

    def reading(self, read: Reader) -> Reader:
        """A reader of the extended model's tensors, from one of the model's."""
        return read if self.extension is None else self.extension.reading(read)

    def part(self, name: str) -> Part:
        """Where a tensor of the extended model comes from."""
        return Part(name) if self.extension is None else self.extension.parts[name]

    def source_shape(self, name: str) -> tuple[int, ...]:
        """The shape of the tensor that a grown one is made of."""
        tensor = self.tensors[name]
        return tensor.shape if self.extension is None else self.extension.shapes[self.part(name).source]

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
        return sum(int(np.prod(shape)) for shape in self._shapes(new).values())

    def bytes(self, *, new: bool) -> int:
        """Bytes on disk, after growth (``new=True``) or before, each tensor in the dtype it has in the
        source (`source_dtypes`)."""
        dtypes = dict(self.source_dtypes)
        if self.extension is not None and not new:
            dtypes = {self.extension.parts[name].source: dtype for name, dtype in dtypes.items()}
        return sum(dtypes[name].itemsize * int(np.prod(shape)) for name, shape in self._shapes(new).items())

    def _shapes(self, new: bool) -> dict[str, tuple[int, ...]]:
        """Tensor name -> shape, after growth or of the model."""
        if new or self.extension is None:
            return {name: t.new_shape if new else t.shape for name, t in self.tensors.items()}
        read = {part.source for name, part in self.extension.parts.items() if name in self.tensors}
        return {name: shape for name, shape in self.extension.shapes.items() if name in read}

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
            "options": self.options.to_json(),
            "sizes": {name: [self.old_sizes[name], self.new_sizes[name]] for name in self.old_sizes},
            "why": dict(self.why),
            "spaces": [dict(zip(("space", "old", "new", "law"), row, strict=True)) for row in self.spaces()],
            "config_changes": {name: list(pair) for name, pair in self.config_changes.items()},
            "bytes": [self.bytes(new=False), self.bytes(new=True)],
            "parameters": [self.parameters(new=False), self.parameters(new=True)],
            "extension": None if self.extension is None else self.extension.to_json(),
            "tensors": [
                {
                    "name": t.name,
                    "source": self.part(t.name).source,
                    "fill": self.part(t.name).fill,
                    "old": list(self.source_shape(t.name)),
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
        said += [f"keep {','.join(options.keep)}"] if options.keep else []
        said += [f"{name} {size}" for name, size in options.sizes.items()]
        if self.extension is not None and self.extension.stacks:
            copied = [] if options.new_layers == "silent" else [f"new_layers {options.new_layers}"]
            said += [f"insert {options.insert}", *copied]
        said += ["untied"] if options.untie else []
        said += [f"attention {options.attention}"] if options.width is not None else []
        said += [f"rope {options.rope}"] if self.architecture.rotary and "head_dim" in heads else []
        seed = f" (seed {options.seed})" if options.breaking.kind == "noise" or options.breaking.varied else ""
        apart = any(tensor.symmetry.breaks for tensor in self.tensors.values())
        apart |= self.extension is not None and self.extension.noise > 0
        said += [f"symmetry {options.symmetry}{seed}"] if apart else []
        said += [f"last hidden state {options.last_hidden_state}"] if options.last_hidden_state != "divided" else []
        return ", ".join([*said, f"scaling {options.scaling}"])

    def _parts(self) -> Sequence[str | Table]:
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
