"""Architectures: which rule every parameter follows, which law every space obeys, and where the config keeps the sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from growth.axis import Map, Space
from growth.errors import IllegalGrowthError, UnsupportedModelError
from growth.law import Growth, Law
from growth.role import Role
from growth.rules.linear import Rule

Sizes = Mapping[str, int]
"""Standard size name -> value: hidden_size, intermediate_size, num_attention_heads, num_key_value_heads, queries_per_kv, head_dim."""

Constant = Callable[[Any, Sizes], float]
"""(config, sizes) -> the value a constant of the forward pass has at those sizes."""

CONFIG_SIZES = ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim")


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
        modules: module pattern (``*`` is a layer index; base-model prefix left out) -> rule.
        laws: every space with its law; a law may look at spaces declared before it.
        outputs: field of the model's output that is not logits -> the space it ranges over. ``hidden_states`` is the space of all
            entries but the last, which is that of ``last_hidden_state``.
        epsilon: config field of the norms' epsilon.
        prefixes: base-model prefixes that names on disk may or may not carry.
        fields: standard size -> config field, where they differ.
        constants: constants of the forward pass that depend on sizes (attention scale, output scale).
        rotary: True where the config has ``rope_parameters``.
        vouched: config field -> values under which this declaration holds, None for any value. Class defaults always hold.
        variants: model class -> what it declares otherwise.
        buffers: patterns of tensors that old files hold and the model computes by itself: they are left out.
        optional: patterns of parameters that a checkpoint of the class may lack (BERT's pooler).
        implied_intermediate: intermediate_size as a multiple of hidden_size where the config says null.
        arithmetic: config fields that only choose how the same numbers are computed -> the value that exact arithmetic can run.
        positions: for the table of architectures.
        refuses: likewise, what is refused for a mathematical reason.
    """

    model_type: str
    modules: Mapping[str, Rule]
    laws: Mapping[Space, Law]
    outputs: Mapping[str, Space]
    epsilon: str
    prefixes: tuple[str, ...]
    fields: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Constant] = field(default_factory=dict)
    rotary: bool = False
    vouched: Mapping[str, Collection[Any] | None] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    buffers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    implied_intermediate: int = 4
    arithmetic: Mapping[str, Any] = field(default_factory=lambda: {"chunk_size_feed_forward": 0})
    positions: str = "learned"
    refuses: str = ""

    def __post_init__(self) -> None:
        """Every space that is used has a law, and whatever a law needs is declared before it."""
        variants = self.variants.values()
        rules = [rule for table in (self.modules, *(v.modules for v in variants)) for rule in table.values()]
        used = {space for rule in rules for roles in rule.values() for role in roles for space in role.spaces()}
        used |= {space for table in (self.outputs, *(v.outputs for v in variants)) for space in table.values()}
        if missing := sorted(str(space) for space in used - self.laws.keys()):
            raise UnsupportedModelError(f"'{self.model_type}' uses spaces without a law: {', '.join(missing)}. Declare one for each.")
        declared: set[Space] = set()
        for space, law in self.laws.items():
            for needed in (*(str(s) for s in law.follows() if s not in declared), *(c for c in law.constants() if c not in self.constants)):
                raise UnsupportedModelError(
                    f"the law of '{space}' in '{self.model_type}' needs '{needed}'. Declare that space before it, or that constant."
                )
            declared.add(space)

    def field(self, size: str) -> str:
        """The config field that holds a standard size."""
        return self.fields.get(size, size)

    def sizes(self, config: Any) -> dict[str, int]:
        """The standard sizes of a parsed config, implied ones spelled out.

        Raises:
            UnsupportedModelError: if heads do not divide evenly.
        """

        def read(size: str) -> int:
            value = getattr(config, self.field(size), None)
            if value is not None and value <= 0:
                raise UnsupportedModelError(
                    f"config field '{self.field(size)}' is {value}, but a size must be positive. Check config.json."
                )
            return int(value or 0)

        hidden, heads = read("hidden_size"), read("num_attention_heads")
        if hidden <= 0 or heads <= 0:
            raise UnsupportedModelError(
                f"{self.model_type} config has hidden_size {hidden} and {heads} attention heads; both must be positive. Check config.json."
            )
        kv_heads = read("num_key_value_heads") or heads
        head_dim = read("head_dim") or hidden // heads
        if heads % kv_heads or (not read("head_dim") and hidden % heads):
            raise UnsupportedModelError(
                f"{self.model_type} config has hidden_size {hidden}, {heads} heads and {kv_heads} key/value heads, which "
                "do not divide evenly. Check config.json."
            )
        return {
            "hidden_size": hidden,
            "intermediate_size": read("intermediate_size") or self.implied_intermediate * hidden,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "queries_per_kv": heads // kv_heads,
            "head_dim": head_dim,
        }

    def ratios(self, config: Any, old: Sizes, new: Sizes) -> dict[str, float]:
        """New over old value of each constant."""
        return {name: value(config, new) / value(config, old) for name, value in self.constants.items()}

    def maps(self, config: Any, old: Sizes, new: Sizes, scaling: str, rope: str) -> dict[Space, Map]:
        """One map per space, each by its law.

        Raises:
            IllegalGrowthError: named by the law that refuses.
        """
        ratios = self.ratios(config, old, new)
        maps: dict[Space, Map] = {}
        for space, law in self.laws.items():
            n, m = old[space.size], new[space.size]
            if m < n:
                raise IllegalGrowthError(f"cannot shrink {space.size} from {n} to {m}. Name a size of at least {n}.")
            maps[space] = law.grow(Growth(space, n, m, scaling, rope, ratios, dict(maps)))  # type: ignore[arg-type]
        return maps

    def canonical(self, name: str) -> str:
        """A parameter's name without base-model prefix, gamma and beta of old files spelled weight and bias."""
        carried = next((prefix for prefix in self.prefixes if name.startswith(prefix + ".")), None)
        name = name.removeprefix(f"{carried}.")
        head, _, last = name.rpartition(".")
        return f"{head}.{ {'gamma': 'weight', 'beta': 'bias'}.get(last, last) }" if head else name

    def is_buffer(self, canonical: str) -> bool:
        """Whether old files hold this tensor and the model computes it by itself."""
        return any(_pattern(buffer).fullmatch(canonical) for buffer in self.buffers)

    def is_optional(self, canonical: str) -> bool:
        """Whether a checkpoint may lack this parameter."""
        return any(_pattern(optional).fullmatch(canonical) for optional in self.optional)

    def roles(self, canonical: str, model_class: str) -> tuple[Role, ...]:
        """The roles of one parameter, one per dimension.

        Raises:
            UnsupportedModelError: if no rule, or more than one, matches.
        """
        own = self.variants.get(model_class, Variant()).modules
        for table in (_flatten(own), self._table):
            found = [roles for pattern, roles in table if pattern.fullmatch(canonical)]
            if len(found) > 1:
                raise UnsupportedModelError(f"{len(found)} rules of '{self.model_type}' match tensor '{canonical}'; exactly one must.")
            if found:
                return found[0]
        raise UnsupportedModelError(
            f"no rule of '{self.model_type}' matches tensor '{canonical}'. "
            "If your model adds parameters of its own, take them out first; if this is a stock model, please report it."
        )

    def output_space(self, name: str, model_class: str) -> Space | None:
        """The space an output field ranges over; None for logits and the like, which do not grow."""
        own = self.variants.get(model_class, Variant()).outputs
        return own.get(name, self.outputs.get(name))

    @cached_property
    def _table(self) -> list[tuple[re.Pattern[str], tuple[Role, ...]]]:
        return _flatten(self.modules)


def _flatten(modules: Mapping[str, Rule]) -> list[tuple[re.Pattern[str], tuple[Role, ...]]]:
    return [
        (_pattern(f"{module}.{suffix}" if module else suffix), roles) for module, rule in modules.items() for suffix, roles in rule.items()
    ]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\*", r"\d+"))
