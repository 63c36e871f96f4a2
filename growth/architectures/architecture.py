"""Architectures: which rule every parameter follows, which law every space obeys, and where the
config keeps the sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from growth.algebra.axes import Axis, Space
from growth.algebra.derived_laws import Normalised
from growth.algebra.laws import Growth, Law
from growth.algebra.maps import Map
from growth.algebra.roles import Gain, Role
from growth.architectures.sizes import Size, Sizes, read_sizes, standard_sizes
from growth.errors import IllegalShapeError, UnsupportedModelError
from growth.rules.linear import Rule

if TYPE_CHECKING:
    from torch import nn

_INDEX = r"(?:\d+|\*)"
"""A layer's number, or the * that transformers writes where one tensor on disk serves all
layers."""


Constant = Callable[[Any, Sizes], float]
"""(config, sizes) -> the value a constant of the forward pass has at those sizes."""


@dataclass(frozen=True)
class Variant:
    """What one model class declares otherwise than its family."""

    modules: Mapping[str, Rule] = field(default_factory=dict)
    outputs: Mapping[str, Space] = field(default_factory=dict)


@dataclass(frozen=True)
class Architecture:
    """One family, found by ``model_type``.

    Args:
        model_type: as in ``config.json``.
        modules: module pattern (``*`` is a layer index; base-model prefix left out) -> rule. Names
            are those on disk. A pattern with fewer ``*`` wins, so that one layer can be declared
            otherwise.
        laws: every space with its law; a law may look at spaces declared before it.
        outputs: field of the model's output that is not logits -> the space it ranges over.
            ``hidden_states`` is the space of all entries but the last, which is that of
            ``hidden_states.last`` or else of ``last_hidden_state``.
        epsilon: config field of the norms' epsilon, or the number the code fixes; 0 where there are
            no norms.
        prefixes: base-model prefixes that names on disk may or may not carry.
        sizes: the sizes of its config, by name.
        for_config: where the declaration depends on the config (parallel blocks, fused layouts):
            (this, parsed config) -> the declaration for that config. It may raise
            UnsupportedModelError with the reason.
        constants: constants of the forward pass that depend on sizes (attention scale, output
            scale).
        rotary: True where queries and keys turn by rotary positions.
        vouched: config field -> values under which this declaration holds, None for any value.
            Class defaults always hold.
        variants: model class -> what it declares otherwise.
        buffers: patterns of tensors that old files hold and the model computes by itself: they are
            left out.
        optional: patterns of parameters that a checkpoint of the class may lack (BERT's pooler).
        computed: likewise, where the class computes what is missing from its config, as a function
            of the width (`growth.hf.computed_tables`).
        twin: (parsed config, number of layers) -> what else the twin's config says: patterns that
            list every layer, windows of other names.
        arithmetic: config fields that only choose how the same numbers are computed -> the value
            that exact arithmetic can run.
        positions: for the table of architectures.
        refuses: likewise, what is refused for a mathematical reason.
        branches: configs under which the declaration, or the model's code, takes another branch:
            every one is tested with every class.
        classes: model classes that no auto class of transformers lists.
        old_classes: name of a class in old configs -> what it is called now.
        without: model class -> why it cannot be grown.
        module_class, config_class: for a family that transformers does not know: an ``nn.Module``,
            called with its config alone and keeping it as ``config``, and that config, a dataclass
            with a default for every field. The module takes token ids ``[batch, length]`` (and
            ``attention_mask`` if it wants) and returns a tensor, a tuple or a mapping
            (`growth.hf.custom_modules.named_outputs`).
    """

    model_type: str
    modules: Mapping[str, Rule]
    laws: Mapping[Space, Law]
    outputs: Mapping[str, Space] = field(default_factory=dict)
    epsilon: str | float = 0.0
    prefixes: tuple[str, ...] = ()
    sizes: Mapping[str, Size] = field(default_factory=standard_sizes)
    for_config: Callable[[Architecture, Any], Architecture] | None = None
    constants: Mapping[str, Constant] = field(default_factory=dict)
    rotary: bool = False
    vouched: Mapping[str, Collection[Any] | None] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    twin: Callable[[Any, int], Mapping[str, Any]] = lambda config, layers: {}
    arithmetic: Mapping[str, Any] = field(default_factory=lambda: {"chunk_size_feed_forward": 0})
    positions: str = "learned"
    refuses: str = ""
    branches: tuple[Mapping[str, Any], ...] = ({},)
    classes: tuple[str, ...] = ()
    old_classes: Mapping[str, str] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    module_class: type[nn.Module] | None = None
    config_class: type | None = None

    def __post_init__(self) -> None:
        """Every space that is used has a law, and whatever a law needs is declared before it."""
        variants = self.variants.values()
        rules = [rule for table in (self.modules, *(v.modules for v in variants)) for rule in table.values()]
        used = {space for rule in rules for roles in rule.values() for role in roles for space in role.spaces()}
        used |= {space for table in (self.outputs, *(v.outputs for v in variants)) for space in table.values()}
        if missing := sorted(str(space) for space in used - self.laws.keys()):
            raise UnsupportedModelError(
                f"'{self.model_type}' uses spaces without a law: {', '.join(missing)}. Declare one for each."
            )
        if missing := sorted({space.size for space in self.laws} - self.sizes.keys()):
            raise UnsupportedModelError(
                f"'{self.model_type}' has spaces of sizes it does not declare: {', '.join(missing)}. Add them."
            )
        declared: set[Space] = set()
        for space, law in self.laws.items():
            for needed in (
                *(str(s) for s in law.follows() if s not in declared),
                *(c for c in law.constants() if c not in self.constants),
            ):
                raise UnsupportedModelError(
                    f"the law of '{space}' in '{self.model_type}' needs '{needed}'. Declare that space before it, or "
                    "that constant."
                )
            declared.add(space)

    def __repr__(self) -> str:
        return f"Architecture({self.model_type}: {len(self.modules)} modules, {len(self.laws)} spaces)"

    def at(self, config: Any) -> Architecture:
        """The declaration for one parsed config.

        Raises:
            UnsupportedModelError: if it covers no such config.
        """
        return self if self.for_config is None else replace(self.for_config(self, config), for_config=None)

    def read_sizes(self, config: Any) -> dict[str, int]:
        """The sizes of a parsed config, implied ones spelled out."""
        return read_sizes(self.sizes, config, self.model_type)

    def fields(self) -> dict[str, str]:
        """Size name -> config field, for those that have one."""
        return {name: size.field for name, size in self.sizes.items() if size.field}

    def ratios(self, config: Any, old: Sizes, new: Sizes) -> dict[str, float]:
        """New over old value of each constant."""
        return {name: value(config, new) / value(config, old) for name, value in self.constants.items()}

    def maps(
        self, config: Any, old: Sizes, new: Sizes, scaling: str, rope: str, used: Collection[Space] | None = None
    ) -> dict[Space, Map]:
        """One map per space, each by its law: for the spaces that are ``used``, those of outputs,
        and whatever their laws look at.

        Raises:
            IllegalGrowthError: named by the law that refuses.
        """
        ratios = self.ratios(config, old, new)
        maps: dict[Space, Map] = {}
        for space, law in self._needed(used).items():
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
            isometric = space in self._isometric
            maps[space] = law.grow(Growth(space, n, m, scaling, rope, ratios, dict(maps), isometric))  # type: ignore[arg-type]
        return maps

    def _needed(self, used: Collection[Space] | None) -> dict[Space, Law]:
        if used is None:
            return dict(self.laws)
        needed = {
            *used,
            *self.outputs.values(),
            *(space for v in self.variants.values() for space in v.outputs.values()),
        }
        for space, law in reversed(list(self.laws.items())):  # a law looks at spaces before it
            needed |= {*law.follows()} if space in needed else set()
        return {space: law for space, law in self.laws.items() if space in needed}

    @cached_property
    def norms(self) -> frozenset[tuple[Axis, str | float]]:
        """(axis that enters, config field or value of epsilon) of every norm."""
        rules = [
            rule for table in (self.modules, *(v.modules for v in self.variants.values())) for rule in table.values()
        ]
        gains = {role for rule in rules for roles in rule.values() for role in roles if isinstance(role, Gain)}
        plain = {law for law in self.laws.values() if isinstance(law, Normalised)}
        found: set[tuple[Axis, str | float | None]] = {(gain.enters, gain.epsilon) for gain in gains} | {
            (p.of, p.epsilon) for p in plain
        }
        return frozenset((axis, self.epsilon if epsilon is None else epsilon) for axis, epsilon in found)

    @cached_property
    def _isometric(self) -> frozenset[Axis]:
        """What enters a norm whose epsilon cannot move: the code fixes it, or it serves norms of
        several sizes."""
        sizes: dict[str | float, set[str]] = {}
        for axis, home in self.norms:
            sizes.setdefault(home, set()).add(axis.size if isinstance(axis, Space) else "")
        return frozenset(axis for axis, home in self.norms if isinstance(home, float) or len(sizes[home]) > 1)

    def canonical(self, name: str) -> str:
        """A parameter's name without base-model prefix, gamma and beta of old files spelled weight
        and bias."""
        carried = next((prefix for prefix in self.prefixes if name.startswith(prefix + ".")), None)
        name = name.removeprefix(f"{carried}.")
        head, _, last = name.rpartition(".")
        if not head or self.module_class is not None:  # nobody renames the parameters of a module of your own
            return name
        return f"{head}.{ {'gamma': 'weight', 'beta': 'bias'}.get(last, last) }"

    def is_buffer(self, canonical: str) -> bool:
        """Whether old files hold this tensor and the model computes it by itself."""
        return any(_pattern(buffer).fullmatch(canonical) for buffer in self.buffers)

    def is_optional(self, canonical: str) -> bool:
        """Whether a checkpoint may lack this parameter."""
        return any(_pattern(optional).fullmatch(canonical) for optional in self.optional)

    def is_computed(self, canonical: str) -> bool:
        """Whether a checkpoint may lack this parameter and the model computes it from its
        config."""
        return any(_pattern(computed).fullmatch(canonical) for computed in self.computed)

    def roles(self, canonical: str, model_class: str) -> tuple[Role, ...]:
        """The roles of one parameter, one per dimension.

        Raises:
            UnsupportedModelError: if no rule, or more than one, matches.
        """
        own = self.variants.get(model_class, Variant()).modules
        for table in (_flatten(own), self._table):
            found = [
                (pattern.pattern.count(_INDEX), roles) for pattern, roles in table if pattern.fullmatch(canonical)
            ]
            fewest = min((stars for stars, _ in found), default=0)  # one layer named outright wins over all of them
            closest = [roles for stars, roles in found if stars == fewest]
            if len(closest) > 1:
                raise UnsupportedModelError(
                    f"{len(closest)} rules of '{self.model_type}' match tensor '{canonical}'; exactly one must."
                )
            if closest:
                return closest[0]
        raise UnsupportedModelError(
            f"no rule of '{self.model_type}' matches tensor '{canonical}'. "
            + (
                "If your model adds parameters of its own, take them out first; if this is a stock model, please "
                "report it."
                if self.module_class is None
                else "Add one, or name it in 'buffers' if the constructor makes it."
            )
        )

    def output_space(self, name: str, model_class: str) -> Space | None:
        """The space an output field ranges over; None for logits and the like, which do not
        grow."""
        own = self.variants.get(model_class, Variant()).outputs
        return own.get(name, self.outputs.get(name))

    @cached_property
    def _table(self) -> list[tuple[re.Pattern[str], tuple[Role, ...]]]:
        return _flatten(self.modules)


def _flatten(modules: Mapping[str, Rule]) -> list[tuple[re.Pattern[str], tuple[Role, ...]]]:
    return [
        (_pattern(f"{module}.{suffix}" if module else suffix), roles)
        for module, rule in modules.items()
        for suffix, roles in rule.items()
    ]


@lru_cache(maxsize=4096)
def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\*", _INDEX))
