"""New layers that change nothing: the depth of a pre-norm Transformer.

A layer adds what its sub-layers write to the residual stream, ``x + W f(norm(x))``. With every
weight that writes the stream at zero it adds exactly 0, in every dtype, whatever its other weights
are; those are copies of an old layer's, so that training starts from features that are of use. Where
a norm stands on what the sub-layer writes, ``x + gain * norm(W f(x))`` (Gemma 2, OLMo 2), the gain
is silent and W a copy: a norm of zeros would have a Jacobian of ``1 / sqrt(epsilon)``. A gain to
which 1 is added is silent at -1.

In a post-norm model the norm stands on the stream itself, ``norm(x + f(x))``, which is not x for any
f. Layers that share their weights cannot be silent one by one.

References:
    Wu et al. 2024, "LLaMA Pro", arXiv 2401.02415, for identity blocks; Gesmundo and Maile 2023,
    "Composable function-preserving expansions", arXiv 2308.06103, section 3.6."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from growth.algebra.axes import Space
from growth.algebra.maps import Integers
from growth.algebra.roles import Gain, Reads, Role, Scale, Writes
from growth.architectures.architecture import Architecture
from growth.errors import IllegalGrowthError
from growth.extension.extension import Extension, Shapes, Stack
from growth.extension.kinds import places
from growth.extension.layer_config import EMPTY, PerLayer
from growth.extension.part import Part
from growth.extension.placement import Insert, placed
from growth.extension.stacks import LayerList, layer_of
from growth.hf.configs import Config
from growth.hf.expected_tensors import expected_tensors


def with_more_layers(
    config: Config,
    shapes: Shapes,
    architecture: Architecture,
    model_class: type[PreTrainedModel],
    lists: Sequence[LayerList],
    layers: LayerList,
    wanted: int,
    insert: Insert,
    silent: bool = True,
    per_layer: PerLayer = EMPTY,
) -> Extension:
    """The extension of one list of layers.

    Args:
        config, shapes: of the model.
        architecture: the declaration at that config.
        model_class: its class.
        lists: all its lists of layers.
        layers: the one that becomes longer.
        wanted: its new length.
        insert: where the new layers go.
        silent: whether they add nothing; else they are plain copies.
        per_layer: what config fields are to list for each layer.

    Raises:
        IllegalGrowthError: where no layer of this kind can be exact, or none fits there.
    """
    tensors = [_tensor(name, architecture, model_class, layers.name) for name in shapes]
    # layers that draft stand behind those that the config counts, and are built otherwise
    counted = [tensor for tensor in tensors if not tensor.of_these or tensor.number < layers.count]
    streams = _streams(counted)
    if silent:
        _check_norms(counted, architecture, layers.name, streams)
    extended, stack = places(config, model_class, lists, layers, wanted, insert, per_layer)
    copies: dict[int, list[int]] = {}
    for number, origin in enumerate(stack.origins):
        copies.setdefault(origin, []).append(number)
    inside: dict[int, dict[str, Part]] = {}
    for tensor in (tensor for tensor in tensors if tensor.of_these):
        for number in copies.get(tensor.number, [tensor.number + wanted - layers.count]):
            added = number in stack.added
            fill = _silence(tensor.roles, streams) if added and silent else None
            part = Part(tensor.name, fill=fill, gradient=None if added else 1.0, new=added)
            inside.setdefault(number, {})[tensor.renumbered(number)] = part
    longer = _longer_readers(tensors, shapes, extended, architecture, model_class, layers, stack)
    parts: dict[str, Part] = {}
    for tensor in tensors:
        if not tensor.of_these:
            parts[tensor.name] = Part(tensor.name, take=longer.get(tensor.name, ()))
        else:  # all layers, in order, where the first tensor of one stands
            parts |= {new: part for number in sorted(inside) for new, part in inside.pop(number).items()}
    return Extension(
        config,
        extended,
        shapes,
        parts,
        sizes={layers.size: (layers.count, wanted)},
        why={layers.size: _said(stack, insert, silent)},
        stacks=(stack,),
        silent=silent,
        notes=tuple(_about_drafts(tensors, layers, wanted)),
    )


@dataclass(frozen=True)
class _Tensor:
    """A tensor of a model, as one list of layers sees it.

    Args:
        name, canonical: in the file, and as the declaration spells it.
        roles: of its dimensions.
        layers: the list that it belongs to; empty outside of all lists.
        number: of its layer.
        of_these: whether that is a layer of the list in question.
    """

    name: str
    canonical: str
    roles: Sequence[Role]
    layers: str
    number: int
    of_these: bool

    def renumbered(self, number: int) -> str:
        """Its name in another layer. The name may have a prefix that the declaration leaves out, and
        end in ``gamma`` where that says ``weight``."""
        head, _, tail = self.name.rpartition(f"{self.layers}.{self.number}.")
        return f"{head}{self.layers}.{number}.{tail}"


def _tensor(name: str, architecture: Architecture, model_class: type[PreTrainedModel], layers: str) -> _Tensor:
    canonical = architecture.canonical(name)
    place = layer_of(canonical) or ("", 0, "")
    roles = architecture.declared_roles(canonical, model_class.__name__) or ()
    return _Tensor(name, canonical, roles, place[0], place[1], place[0] == layers)


def _about_drafts(tensors: Iterable[_Tensor], layers: LayerList, wanted: int) -> Iterator[str]:
    numbers = {tensor.number for tensor in tensors if tensor.of_these}
    if behind := sorted(number for number in numbers if number >= layers.count):
        yield (
            f"layer {behind[0]} in the weights, which the config does not count (it drafts further tokens), becomes "
            f"layer {behind[0] + wanted - layers.count}; transformers' MtpModel finds such layers by a number that "
            "the class has for the published model, and may not find it there"
        )


def _said(stack: Stack, insert: Insert, silent: bool) -> str:
    copied = sorted({stack.origins[number] for number in stack.added})
    listed = ", ".join(map(str, copied[:6])) + (", ..." if len(copied) > 6 else "")
    wanted = placed(insert, len(stack.kept), len(stack.origins))
    near = "" if [*stack.kept] == wanted else " as far as kinds of layers allow"
    return f"insert {insert}{near}: {'silent copies' if silent else 'copies'} of {listed}"


def _longer_readers(
    tensors: Iterable[_Tensor],
    shapes: Shapes,
    extended: Config,
    architecture: Architecture,
    model_class: type[PreTrainedModel],
    layers: LayerList,
    stack: Stack,
) -> dict[str, tuple[Integers | None, ...]]:
    """Tensors outside of the layers that read something of each of them (ESM's contact head, the
    attention maps): name -> which entries, 0 for those that read a new layer.

    Raises:
        IllegalGrowthError: for a tensor with an entry per layer that is no such reader.
    """
    expected, _ = expected_tensors(extended, model_class)
    wanted = {architecture.canonical(name): shape for name, shape in expected.items()}
    found: dict[str, tuple[Integers | None, ...]] = {}
    for tensor in (tensor for tensor in tensors if not tensor.layers):
        shape, longer = shapes[tensor.name], wanted.get(tensor.canonical, shapes[tensor.name])
        if longer == tuple(shape):
            continue
        taken: list[Integers | None] = []
        for role, old, new in zip(tensor.roles, shape, longer, strict=True):
            each = old // layers.count
            if old != new and not (isinstance(role, Reads) and new == each * len(stack.origins)):
                raise IllegalGrowthError(
                    f"'{tensor.name}' has an entry for each layer (shape {list(shape)}, and {list(longer)} with more "
                    "layers), and with any value for a new layer the function would be another. Keep the number of "
                    "layers, and grow in width."
                )
            origins = np.full(len(stack.origins), -1)
            origins[[*stack.kept]] = np.arange(layers.count)
            entries = np.where(origins < 0, -each, origins * each)[:, None] + np.arange(each)
            taken.append(np.maximum(entries, -1).reshape(-1) if old != new else None)
        found[tensor.name] = tuple(taken)
    return found


def _written(role: Role) -> frozenset[Space]:
    """The spaces that a weight writes along a dimension."""
    if isinstance(role, Writes):
        return role.axis.spaces()
    return role.leaves.spaces() if isinstance(role, Scale) else frozenset()


def _streams(tensors: Iterable[_Tensor]) -> frozenset[Space]:
    """The residual stream of a list of layers: what its layers write, and an embedding writes or the
    last norm reads as well. An inferred declaration may know a branch and not where it is added (as
    where the norm that follows it is left out): then what the layers write and do not read."""
    inside: set[Space] = set()
    read: set[Space] = set()
    outside: list[Role] = []
    for tensor in tensors:
        if tensor.of_these:
            inside |= {space for role in tensor.roles for space in _written(role)}
            read |= {space for role in tensor.roles for space in role.spaces() - _written(role)}
        elif not tensor.layers:
            # The bias of a norm does not say what entered the norm
            outside += [role for role in tensor.roles if len(tensor.roles) > 1 or isinstance(role, Gain)]
    streams: set[Space] = set()
    for role in outside:
        if isinstance(role, Gain):  # the last norm, or one of the embedding
            streams |= role.enters.spaces() if role.enters.spaces() & inside else role.leaves.spaces()
        elif isinstance(role, Writes):
            streams |= _written(role)
    sizes = {space.size for space in streams}
    return frozenset(inside & streams or {space for space in inside - read if space.size in sizes})


def _check_norms(tensors: Iterable[_Tensor], architecture: Architecture, name: str, streams: frozenset[Space]) -> None:
    """Refuse layers that normalise the residual stream itself."""
    silenced = 0
    for tensor in (tensor for tensor in tensors if tensor.of_these):
        for role in tensor.roles:
            if isinstance(role, Gain) and role.enters.spaces() & streams and role.leaves.spaces() & streams:
                raise IllegalGrowthError(
                    f"a new layer of this {architecture.model_type} cannot be exact: its norms stand on the residual "
                    f"stream itself (post-norm, '{tensor.canonical.rpartition('.')[0]}'), and the norm of what a "
                    "silent layer leaves is not what it was. Keep the number of layers, and grow in width."
                )
            silenced += bool(_written(role) & streams)
    if not silenced:
        raise IllegalGrowthError(
            f"nothing in the layers '{name}' of this {architecture.model_type} is known to write the residual "
            "stream, so that none can be silent. Keep the number of layers."
        )


def _silence(roles: Sequence[Role], streams: frozenset[Space]) -> float | None:
    """The value at which a weight writes nothing to the residual stream; None if it does not write
    it."""
    for role in roles:
        if _written(role) & streams:
            return -role.offset if isinstance(role, Gain) and role.offset else 0.0
    return None
