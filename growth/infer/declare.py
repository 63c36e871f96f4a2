"""From a solution to a declaration: spaces, laws, rules, sizes and constants, as a hand-written one has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from torch import nn

from growth.algebra.axes import Axis, Fixed, Space
from growth.algebra.derived_laws import Dual, Scaled
from growth.algebra.laws import Law, Repeated
from growth.algebra.roles import Gain, Keeps, Reads, Role, Writes
from growth.architectures.architecture import Architecture
from growth.architectures.derived_sizes import Over, Power, Times
from growth.architectures.sizes import Constant, Size
from growth.infer.by_layer import InEachLayer, Kind, Roles, kinds_of
from growth.infer.errors import Unexplained
from growth.infer.naming import Multiple, Sizing, distinct, key, powers
from growth.infer.parts import Part
from growth.infer.ranges import Factor, Range, resolved
from growth.infer.scales import SAME
from growth.infer.solution import Solution
from growth.infer.tensor_names import starred


@dataclass(eq=False)
class Spaces:
    """The spaces of a declaration in the making.

    Args:
        sizing: which size every free factor has.
    """

    sizing: Sizing
    laws: dict[Space, Law] = field(default_factory=dict)
    scaled: dict[Space, Law] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    _spaces: dict[tuple[int, float, float | None], Space] = field(default_factory=dict)
    _hints: dict[int, str] = field(default_factory=dict)
    _before_head: dict[tuple[int, float], Space] = field(default_factory=dict)

    def hint(self, part: Part, name: str) -> None:
        """A name for the free factor that a range consists of, if it has none yet."""
        factors = resolved(part.parts)
        if len(factors) == 1:
            self._hints.setdefault(id(factors[0]), name)

    def axis(self, parts: Range, scale: float, before_head: float | None = None) -> Axis:
        """A range as an axis. Arguments as of a `Part`."""
        axes: list[Axis] = []
        for factor in resolved(parts):
            if factor.kept:
                axes.append(self._kept(factor))
            elif factor.kind == "concatenation":
                pieces = [self.axis(piece, scale, before_head) for piece in factor.parts]
                whole = pieces[0]
                for piece in pieces[1:]:
                    whole = whole + piece
                axes.append(whole)
                scale, before_head = 0.0, None
            else:
                axes.append(self.space(factor, scale, before_head))
                scale, before_head = 0.0, None
        if abs(scale) > SAME:
            raise Unexplained("a part that does not grow would have to scale")
        out = axes[0] if axes else Fixed(1)
        for axis in axes[1:]:
            out = out * axis
        return out

    def last_state(self, parts: Range, scale: float) -> Axis:
        """The axis of a decoder's last hidden state: what its tied head reads, where that is of this scale. Shares
        make the copies differ there (`growth.plan.tied_weights`), and not in other spaces of the scale."""
        factors = resolved(parts)
        before = self._before_head.get((id(factors[0]), round(scale, 9))) if len(factors) == 1 else None
        return before or self.axis(parts, scale)

    def _kept(self, factor: Factor) -> Axis:
        multiple = self.sizing.chosen.get(key(factor), Multiple("", Fraction(factor.count[0])))
        if not multiple.over:
            return Fixed(factor.count[0])
        shared = f"{multiple.size} / {multiple.over}"
        self.sizes[shared] = Size(follows=Over(multiple.size, multiple.over))
        self.sizes[str(multiple)] = (
            Size(follows=Times(int(multiple.times), shared)) if multiple.times != 1 else self.sizes[shared]
        )
        space = Space(str(multiple), str(multiple))
        self.laws[space] = Repeated(averaged=False)
        return space

    def space(self, factor: Factor, scale: float, before_head: float | None = None) -> Space:
        """The space of a factor under a scale, named when it is first asked for."""
        ratio = math.log(factor.count[1] / factor.count[0])
        if before_head is not None:
            embedded = -scale - before_head - ratio  # what a tied embedding writes
            if abs(scale) < SAME or max(abs(embedded), abs(before_head)) < SAME:
                before_head = None
        key = (id(factor), round(scale, 9), before_head if before_head is None else round(before_head, 9))
        if key in self._spaces:
            return self._spaces[key]
        if abs(scale) < SAME:
            space = Space(self._name(factor), self._size(factor))
            self.laws[space] = Repeated(factor.averaged)
        elif before_head is not None and abs(before_head) >= SAME:
            space = self._scaled(self.space(factor, scale + before_head, 0.0), before_head)
        elif before_head is not None or abs(scale + ratio) < SAME:
            base = self.space(factor, 0.0 if before_head is None else embedded)
            space = Space(self._free_name(f"{base.name}_read"), base.size)
            self.scaled[space] = Dual(base)
        else:
            space = self._scaled(self.space(factor, 0.0), -scale)
        self._spaces[key] = space
        if before_head is not None:
            self._before_head[id(factor), round(scale, 9)] = space
        return space

    def _scaled(self, into: Space, by: float) -> Space:
        name = self._constant(by)
        space = Space(self._free_name(f"{into.name}_over_{name}"), into.size)
        self.scaled[space] = Scaled(into, name)
        return space

    def _constant(self, scale: float) -> str:
        exponents = powers(scale, distinct(self.sizing))
        name = "_".join(f"{size}^{power}" for size, power in exponents.items())
        self.constants[name] = Power(exponents)
        return name

    def _size(self, factor: Factor) -> str:
        multiple = self.sizing.chosen[id(factor)]
        if multiple.times == 1:
            return multiple.size
        self.sizes[str(multiple)] = Size(follows=times(multiple))
        return str(multiple)

    def _name(self, factor: Factor) -> str:
        return self._free_name(self._hints.get(id(factor)) or self.sizing.chosen[id(factor)].size)

    def _free_name(self, wanted: str) -> str:
        taken = {space.name for space in (*self.laws, *self.scaled)}
        numbered = (wanted if n == 1 else f"{wanted}_{n}" for n in range(1, len(taken) + 2))
        return next(name for name in numbered if name not in taken)


def times(multiple: Multiple) -> Times:
    """``Times(2, "hidden_size")``.

    Example:
        >>> str(times(Multiple("hidden_size", Fraction(2))).factor)
        '2'
    """
    exact = multiple.times
    return Times(int(exact) if exact.denominator == 1 else exact, multiple.size)


def declared(
    solution: Solution,
    tensors: Mapping[str, tuple[tuple[Part, ...], str]],
    sizing: Sizing,
    sizes: Mapping[str, Size],
    canonical: Callable[[str], str],
    config: Any,
    model_class: type[nn.Module],
    **others: Any,
) -> Architecture:
    """The declaration.

    Args:
        solution: what was found.
        tensors: name on disk -> parts, and the parameter that they are parts of (`growth.infer.disk`).
        sizing: of the free factors.
        sizes: those with a config field.
        canonical: name on disk -> name without the prefix of the base model.
        config: of the miniature, parsed.
        model_class: of the model.
        others: further arguments of `Architecture`.

    Raises:
        Unexplained: if a role cannot be said.
    """
    spaces = Spaces(sizing)
    _hints(spaces, solution)
    rows: dict[str, dict[Roles, list[str]]] = {}
    for name, (parts, owner) in tensors.items():
        roles = tuple(_role(part, spaces, solution.offsets.get(owner)) for part in parts)
        rows.setdefault(starred(canonical(name)), {}).setdefault(roles, []).append(canonical(name))
    modules: dict[str, dict[str, Roles]] = {}
    variants: dict[str, tuple[tuple[Kind, Roles], ...]] = {}
    kinds = kinds_of({canonical(name): None for name in tensors}, config)
    for pattern, found in rows.items():
        module, _, suffix = pattern.rpartition(".")
        modules.setdefault(module, {})[suffix] = next(iter(found))
        if len(found) > 1:
            variants[pattern] = tuple((kinds[name], roles) for roles, names in found.items() for name in names)
    by_encoder = {
        role.leaves if isinstance(role, Gain) else role.axis
        for name, (parts, owner) in tensors.items()
        for role in (_role(part, spaces, solution.offsets.get(owner)) for part in parts)
        if "encoder" in name and isinstance(role, (Gain, Writes))
    }
    outputs = _outputs(spaces, solution, by_encoder)
    if variants:
        others["for_config"] = InEachLayer(variants, model_class)
    return Architecture(
        modules=modules,
        laws={**spaces.laws, **spaces.scaled},
        outputs=outputs,
        sizes={**sizes, **spaces.sizes},
        constants=spaces.constants,
        **others,
    )


def _role(part: Part, spaces: Spaces, offset: float | None) -> Role:
    if part.kind == "keeps":
        return Keeps()
    axis = spaces.axis(part.parts, part.scale, part.before_head)
    if part.kind == "reads":
        return Reads(axis)
    if offset is not None:
        return Gain(spaces.axis(part.parts, 0.0), axis, offset)
    return Writes(axis)


def _hints(spaces: Spaces, solution: Solution) -> None:
    """Names that readers of declarations know."""
    for name, parts in solution.parts.items():
        if "embed" in name or "wte" in name:
            for part in parts:
                if part.kind != "keeps":
                    spaces.hint(part, "residual")
    for name, parts in solution.parts.items():
        for part in parts:
            if part.kind == "reads" and any(word in name for word in ("down_proj", "fc2", "c_proj", "wo", "w2")):
                spaces.hint(part, "ffn")


def _outputs(spaces: Spaces, solution: Solution, by_encoder: Collection[Axis]) -> dict[str, Axis]:
    """Output field -> what its last dimension ranges over. Entries of a tuple are alike, but for the last.

    Args:
        by_encoder: what the parameters of an encoder write. Its last state is what a tied head reads only if the
            encoder writes such a space at all.
    """
    out: dict[str, Axis] = {}
    last: dict[str, Axis] = {}
    for name, (parts, scale) in solution.outputs.items():
        try:
            axis = spaces.axis(parts, scale)
        except (KeyError, Unexplained):
            continue
        before_head = spaces.last_state(parts, scale)
        if name.startswith("encoder") and before_head not in by_encoder:
            before_head = axis
        base, _, index = name.rpartition(".")
        if not index.isdigit():
            out[name] = before_head if "last" in name else axis
            continue
        out.setdefault(base, axis)
        last[base] = before_head
    return {**out, **{f"{base}.last": axis for base, axis in last.items()}}
