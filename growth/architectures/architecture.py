"""Architectures: the declaration of one family of models, as a value.

A declaration answers three questions about a family:

* which rule does every parameter follow (`Architecture.modules`),
* which law does every space obey (`Architecture.laws`),
* where does the config keep the sizes (`Architecture.sizes`)?

Everything else is worked out from it: the maps, the new weights, the new config.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from growth.algebra.attention_laws import Scores
from growth.algebra.axes import Axis, Space
from growth.algebra.derived_laws import Normalised
from growth.algebra.laws import Growth, Law
from growth.algebra.maps import Map
from growth.algebra.roles import Gain, Role
from growth.architectures import patterns
from growth.architectures.declaration_checks import check_complete, check_tables
from growth.architectures.refusals import Refusal
from growth.architectures.sizes import Constant, Size, Sizes, read_sizes, standard_sizes
from growth.architectures.variant import Variant
from growth.errors import IllegalShapeError, UnsupportedModelError
from growth.rules.linear import Rule

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """The declaration of one family, found by its ``model_type``.

    Args:
        model_type: as in ``config.json``.
        modules: module pattern -> rule (`growth.architectures.patterns`). Names are those in
            checkpoints, without the prefix of the base model.
        laws: every space with its law. A law may look at the spaces declared before it.
        outputs: field of the model's output, logits aside -> the axis it ranges over. The last
            entry of ``hidden_states`` has the space of ``hidden_states.last``, or else of
            ``last_hidden_state``.
        epsilon: config field of the norms' epsilon, or the number that the code fixes; 0 where
            there are no norms.
        prefixes: base-model prefixes that names in checkpoints may or may not carry.
        sizes: the sizes in the config, by their standard names.
        for_config: (this declaration, parsed config) -> the declaration for that config, where it
            depends on one (parallel blocks). It raises UnsupportedModelError for one not covered.
        constants: name -> constant of the forward pass that depends on sizes (attention scale).
        vouched: config field -> the values for which this declaration holds; None for any value.
            The class's default always holds. Other fields and values are refused by name.
        variants: model class -> what it declares otherwise.
        buffers: patterns of tensors that old checkpoints hold and the model computes: left out.
        optional: patterns of parameters that a checkpoint of the class may lack (BERT's pooler).
        computed: likewise, where the class computes them (`growth.hf.computed_tables`).
        twin: (parsed config, number of layers) -> further fields of its config, lists per layer.
        arithmetic: config fields that choose only *how* the same numbers are computed -> the value
            under which float64 arithmetic runs.
        positions: kind of positions, for the table of architectures.
        refuses: what is refused for a mathematical reason (`growth.architectures.refusals`).
        branches: configs under which the declaration or the model's code takes another branch.
        classes: model classes that no auto class of transformers lists.
        old_classes: name of a class in old configs -> its present name.
        without: model class -> why it cannot be grown.
        remarks: (config, with its ``parsed`` form; model class) -> what the caller should know of it,
            where that is not of the growth: that releases of transformers read it differently.
        module_class: for a family that transformers does not know: an ``nn.Module`` that is called
            with its config alone, keeps it as ``config``, takes token ids ``[batch, length]`` (and
            ``attention_mask``) and returns tensors (`growth.hf.custom_modules.named_outputs`).
        config_class: the config of ``module_class``, a dataclass with a default for every field.

    Raises:
        UnsupportedModelError: if it is not complete (`growth.architectures.declaration_checks`).

    Example:
        A bias-free MLP ``y = W2 relu(W1 x)`` on a residual stream, hidden layer doubled:

        >>> from growth.architectures import FFN, RESIDUAL, Copied, Linear, Size, feed_forward
        >>> mlp = Architecture(
        ...     "mlp",
        ...     modules=feed_forward(("up",), "down", reads=RESIDUAL, writes=RESIDUAL),
        ...     laws={RESIDUAL: Linear(), FFN: Copied()},
        ...     sizes={"hidden_size": Size("width"), "intermediate_size": Size("inner")},
        ... )
        >>> [str(role) for role in mlp.roles("up.weight", "")]
        ['writes ffn', 'reads residual']
        >>> old = {"hidden_size": 4, "intermediate_size": 8}
        >>> maps = mlp.maps({}, old, {**old, "intermediate_size": 16}, "unit", "slots")
        >>> maps[FFN].read.tolist()[:2]
        [0.5, 0.5]
    """

    model_type: str
    modules: Mapping[str, Rule]
    laws: Mapping[Space, Law]
    outputs: Mapping[str, Axis] = field(default_factory=dict)
    epsilon: str | float = 0.0
    prefixes: tuple[str, ...] = ()
    sizes: Mapping[str, Size] = field(default_factory=standard_sizes)
    for_config: Callable[[Architecture, Any], Architecture] | None = None
    constants: Mapping[str, Constant] = field(default_factory=dict)
    vouched: Mapping[str, Collection[Any] | None] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    twin: Callable[[Any, int], Mapping[str, Any]] = lambda config, layers: {}
    arithmetic: Mapping[str, Any] = field(default_factory=lambda: {"chunk_size_feed_forward": 0})
    positions: str = "learned"
    refuses: tuple[Refusal, ...] = ()
    branches: tuple[Mapping[str, Any], ...] = ({},)
    classes: tuple[str, ...] = ()
    old_classes: Mapping[str, str] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    remarks: Callable[[Any, str], Iterable[str]] = lambda config, model_class: ()
    module_class: type[nn.Module] | None = None
    config_class: type | None = None

    def __post_init__(self) -> None:
        check_tables(vars(self), Variant)
        used = {space for role in self._roles for space in role.spaces()} | self._output_spaces
        check_complete(self.model_type, used, self.laws, self.sizes, self.constants)

    def __repr__(self) -> str:
        return f"Architecture({self.model_type}: {len(self.modules)} modules, {len(self.laws)} spaces)"

    @cached_property
    def rotary(self) -> bool:
        """Whether queries and keys turn by rotary positions, by the laws of their spaces."""
        return any(isinstance(law, Scores) and law.rotary is not None for law in self.laws.values())

    def at(self, config: Any) -> Architecture:
        """The declaration for one parsed config.

        Raises:
            UnsupportedModelError: if the declaration does not cover that config.
        """
        return self if self.for_config is None else replace(self.for_config(self, config), for_config=None)

    def read_sizes(self, config: Any) -> dict[str, int]:
        """The sizes of a parsed config, with those it implies."""
        return read_sizes(self.sizes, config, self.model_type)

    def fields(self) -> dict[str, str]:
        """Size name -> config field, for the sizes that have a field."""
        return {name: size.field for name, size in self.sizes.items() if size.field}

    def ratios(self, config: Any, old: Sizes, new: Sizes) -> dict[str, float]:
        """New over old value of each constant."""
        return {name: value(config, new) / value(config, old) for name, value in self.constants.items()}

    def maps(
        self, config: Any, old: Sizes, new: Sizes, scaling: str, rope: str, used: Collection[Space] | None = None
    ) -> dict[Space, Map]:
        """One map per space, made by its law.

        Args:
            config, old, new: the parsed config, and the sizes before and after.
            scaling, rope: the caller's choices (`growth.algebra.laws.Growth`).
            used: the spaces that parameters use: they, those of outputs and those that their laws
                look at are grown. None for all.

        Raises:
            IllegalGrowthError: from the law that refuses.
        """
        ratios = self.ratios(config, old, new)
        isometric = self._axes_with_fixed_epsilon
        maps: dict[Space, Map] = {}
        for space in self._needed(used):
            n, m = old[space.size], new[space.size]
            if m < n:
                raise IllegalShapeError(
                    f"cannot shrink {space.size} from {n} to {m}. Name a size of at least {n}.", {space.size}
                )
            if m > n == 0:
                raise IllegalShapeError(
                    f"cannot grow '{space}' from 0 to {m}: there is nothing to copy. Keep {space.size} at 0.",
                    {space.size},
                )
            growth = Growth(space, n, m, scaling, rope, ratios, dict(maps), space in isometric)  # type: ignore[arg-type]
            maps[space] = self.laws[space].grow(growth)
        return maps

    def _needed(self, used: Collection[Space] | None) -> list[Space]:
        """The spaces to grow, in the order of their laws: see `maps`."""
        if used is None:
            return list(self.laws)
        needed = {*used} | self._output_spaces
        for space, law in reversed(list(self.laws.items())):  # a law looks at spaces before it
            if space in needed:
                needed.update(law.follows())
        return [space for space in self.laws if space in needed]

    @cached_property
    def _roles(self) -> frozenset[Role]:
        """Every role of every parameter, in all model classes of the family."""
        tables = (self.modules, *(variant.modules for variant in self.variants.values()))
        rules = (rule for table in tables for rule in table.values())
        return frozenset(role for rule in rules for roles in rule.values() for role in roles)

    @cached_property
    def _output_spaces(self) -> frozenset[Space]:
        """Every space that an output ranges over, in all model classes of the family."""
        tables = (self.outputs, *(variant.outputs for variant in self.variants.values()))
        return frozenset(space for table in tables for axis in table.values() for space in axis.spaces())

    def norms(
        self, roles: Iterable[Role] | None = None, spaces: Collection[Space] | None = None
    ) -> frozenset[tuple[Axis, str | float]]:
        """(axis that enters, config field or fixed value of the epsilon) of every norm.

        Args:
            roles: where to look for gains; None for all roles of the family.
            spaces: which norms without a gain, by the space they leave into; None for all.
        """
        found: set[tuple[Axis, str | float | None]] = {
            (role.enters, role.epsilon) for role in (self._roles if roles is None else roles) if isinstance(role, Gain)
        }
        found |= {
            (law.of, law.epsilon)
            for space, law in self.laws.items()
            if isinstance(law, Normalised) and (spaces is None or space in spaces)
        }
        return frozenset((axis, self.epsilon if epsilon is None else epsilon) for axis, epsilon in found)

    @cached_property
    def _axes_with_fixed_epsilon(self) -> frozenset[Axis]:
        """What enters a norm whose epsilon cannot change: fixed by code, or shared by sizes."""
        sizes: dict[str | float, set[str]] = {}
        for axis, home in self.norms():
            sizes.setdefault(home, set()).add(axis.size if isinstance(axis, Space) else "")
        return frozenset(axis for axis, home in self.norms() if isinstance(home, float) or len(sizes[home]) > 1)

    def canonical(self, name: str) -> str:
        """A parameter's name without base-model prefix; ``gamma`` and ``beta`` of old checkpoints
        become ``weight`` and ``bias``."""
        name = patterns.without_prefix(name, self.prefixes)
        return name if self.module_class is not None else patterns.modern(name)  # a custom module keeps its names

    def is_buffer(self, canonical: str) -> bool:
        """Whether old checkpoints hold this tensor and the model computes it itself."""
        return any(patterns.matches(buffer, canonical) for buffer in self.buffers)

    def is_optional(self, canonical: str) -> bool:
        """Whether a checkpoint may lack this parameter."""
        return any(patterns.matches(optional, canonical) for optional in self.optional)

    def is_computed(self, canonical: str) -> bool:
        """Whether a checkpoint may lack this parameter, and the model computes it."""
        return any(patterns.matches(computed, canonical) for computed in self.computed)

    def roles(self, canonical: str, model_class: str) -> tuple[Role, ...]:
        """The roles of one parameter, one per dimension. The rules of the model class come first.

        Raises:
            UnsupportedModelError: if no rule, or more than one, matches.
        """
        if (roles := self.declared_roles(canonical, model_class)) is None:
            rows = (*self._tables.get(model_class, ()), *self._tables[""])
            raise patterns.no_match(self.model_type, rows, canonical, stock=self.module_class is None)
        return roles

    def declared_roles(self, canonical: str, model_class: str) -> tuple[Role, ...] | None:
        """As `roles`, but None where no rule matches."""
        found = self._lookup.closest(canonical, model_class)
        if len(found) > 1:
            raise UnsupportedModelError(
                f"{len(found)} rules of '{self.model_type}' match tensor '{canonical}'; exactly one must."
            )
        return found[0] if found else None

    @cached_property
    def _tables(self) -> dict[str, patterns.Table]:
        """Model class -> its own rows; "" -> those of the family."""
        own = {name: patterns.table(variant.modules) for name, variant in self.variants.items()}
        return {**own, "": patterns.table(self.modules)}

    @cached_property
    def _lookup(self) -> patterns.Lookup:
        return patterns.Lookup(self._tables)

    def output_axis(self, name: str, model_class: str) -> Axis | None:
        """What an output field ranges over; None where it does not grow (logits)."""
        variant = self.variants.get(model_class, Variant())
        return variant.outputs.get(name, self.outputs.get(name))

    def output_space(self, name: str, model_class: str) -> Space | None:
        """As `output_axis`, where that is a single space."""
        axis = self.output_axis(name, model_class)
        return axis if isinstance(axis, Space) else None
