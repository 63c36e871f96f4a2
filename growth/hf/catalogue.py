"""What can be grown: the table of families, and one declaration in full.

Both are made from the declarations, so that the documentation cannot differ from them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from growth import architectures
from growth.architectures.architecture import Architecture
from growth.errors import GrowthError, IllegalShapeError
from growth.hf.configs import parse
from growth.hf.model_classes import classes


@dataclass(frozen=True)
class Family:
    """One row of the table of families.

    Args:
        model_type: as in ``config.json``.
        classes: names of the model classes that can be grown.
        wider_heads: how head_dim can grow: ``repeated``, or ``slots, pairs`` for rotary positions.
        positions: the kind of positions: ``learned``, ``rotary``, ``ALiBi``, ...
        widths: how wide the residual stream can become: ``any``; ``multiples`` of the old width if a
            law, such as that of a norm after each addition, allows no others; ``-`` if none is
            allowed.
        refuses: what is refused and why; empty if nothing is.
    """

    model_type: str
    classes: tuple[str, ...]
    wider_heads: str
    positions: str
    widths: str
    refuses: str

    @property
    def heads(self) -> tuple[str, ...]:
        """The classes without the name they share. Of LlamaModel, LlamaForCausalLM and
        LlamaForSequenceClassification: ``Model``, ``CausalLM``, ``SequenceClassification``."""
        first, last = min(self.classes, default=""), max(self.classes, default="")
        shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        stem = first[:shared].removesuffix("For") if len(self.classes) > 1 else ""
        return tuple(name.removeprefix(stem).removeprefix("For") or name for name in self.classes)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def families() -> list[Family]:
    """Every declared family, sorted by name."""
    return [family(name) for name in architectures.known()]


def family(model_type: str) -> Family:
    """The row of one family.

    Raises:
        UnsupportedModelError: if there is none of that name.
    """
    declared = architectures.find(model_type)
    return Family(
        model_type,
        tuple(classes(model_type)),
        "slots, pairs" if declared.rotary else "repeated",
        declared.positions,
        _widths(declared, parse({"model_type": model_type})),
        "; ".join(map(str, declared.refuses)),
    )


def _widths(declared: Architecture, parsed: Any) -> str:
    """`Family.widths`, found by growing the residual stream of a config by one feature."""
    try:
        architecture = declared.at(parsed)
        old = architecture.read_sizes(parsed)
        widths = ("hidden_size", "embedding_size")
        new = {name: size + (name.rpartition(".")[2] in widths) for name, size in old.items()}
        every = [role for rule in architecture.modules.values() for roles in rule.values() for role in roles]
        maps = architecture.maps(
            parsed, old, new, "unit", "slots", {space for role in every for space in role.spaces()}
        )
        for role in every:
            role.resolve(1, maps)
    except IllegalShapeError:
        return "multiples"
    except GrowthError:
        return "-"
    return "any"


@dataclass(frozen=True)
class Description:
    """One declaration in full, at the default config of its class.

    Args:
        family: its row in the table.
        sizes: (size, config field or ``-``, what makes it grow).
        spaces: (space, the size it has, its law).
        parameters: (name with ``*`` for a layer's number, roles of its dimensions).
        inferred: whether the declaration was found, not written.
    """

    family: Family
    sizes: tuple[tuple[str, str, str], ...]
    spaces: tuple[tuple[str, str, str], ...]
    parameters: tuple[tuple[str, str], ...]
    inferred: bool = False

    def to_json(self) -> dict[str, Any]:
        keys = {
            "sizes": ("size", "field", "grows"),
            "spaces": ("space", "size", "law"),
            "parameters": ("parameter", "roles"),
        }
        tables = {
            name: [dict(zip(columns, row, strict=True)) for row in getattr(self, name)]
            for name, columns in keys.items()
        }
        return {**self.family.to_json(), "inferred": self.inferred, **tables}


def describe(model_type: str) -> Description:
    """One declaration, parameter by parameter.

    Raises:
        UnsupportedModelError: if there is none of that name.
    """
    architecture = architectures.find(model_type)
    row = family(model_type)
    with suppress(GrowthError):  # one that refuses even the default config: the row says why
        architecture = architecture.at(parse({"model_type": model_type}))
    return _described(row, architecture)


def describe_inferred(architecture: Architecture, raw: Mapping[str, Any]) -> Description:
    """A declaration that was inferred, at the config for which it was.

    Args:
        architecture: the declaration.
        raw: the config, which names the class.
    """
    parsed = parse(raw)
    widths = _widths(architecture, parsed)
    row = Family(architecture.model_type, tuple(raw["architectures"]), "-", architecture.positions, widths, "")
    return replace(_described(row, architecture.at(parsed)), inferred=True)


def _described(row: Family, architecture: Architecture) -> Description:
    sizes = tuple(
        (name, size.field or "-", size.grows if size.field else "with the sizes above")
        for name, size in architecture.sizes.items()
    )
    spaces = tuple((space.name, space.size, str(law)) for space, law in architecture.laws.items())
    parameters = tuple(
        (f"{module}.{suffix}" if module else suffix, "; ".join(map(str, roles)))
        for module, rule in architecture.modules.items()
        for suffix, roles in rule.items()
    )
    return Description(row, sizes, spaces, parameters)
