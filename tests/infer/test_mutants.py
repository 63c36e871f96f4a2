"""Mistakes planted in inferred declarations, one at a time: the twin refuses each.

A wrong layout, a wrong reader, a constant that is missed, a tie that is read as two matrices, and a gain to which
nothing is added. The models are of types that nobody declared. All sizes grow by ratios of their own, so that no two
mistakes cancel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from growth.algebra.axes import Axis, Concatenation, Fixed, Product, Space
from growth.algebra.derived_laws import Dual, Scaled
from growth.algebra.roles import Gain, Reads, Role, Writes
from growth.architectures.architecture import Architecture
from growth.architectures.derived_sizes import Power
from growth.errors import GrowthError
from growth.hf.configs import Config
from growth.hf.model_classes import class_of
from growth.infer.infer import infer
from growth.plan.declared import Declared
from growth.plan.options import Options
from growth.plan.plan import TOLERANCE
from growth.proof.twin import twin_report
from support.ground_truth import default_config

WRONG = 1e3 * TOLERANCE
"""A mistake is at least so far off: most by 0.1 and more; by least a factor before a norm, which leaves only what the
epsilon makes of it."""

_LAYERS = {"num_hidden_layers": 2, "vocab_size": 97}
_SIZES = {"hidden_size": 48, "intermediate_size": 72, "num_attention_heads": 4, **_LAYERS}
_HEADS = {"num_key_value_heads": 2, "head_dim": 12}
_MAMBA = {"hidden_size": 32, "num_heads": 8, "head_dim": 8, "n_groups": 2, "state_size": 6, **_LAYERS}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "dense": ("exaone4", "Exaone4ForCausalLM", {**_SIZES, **_HEADS, "tie_word_embeddings": False}),
    "fused": ("persimmon", "PersimmonForCausalLM", {**_SIZES, "tie_word_embeddings": True}),
    "experts": ("flex_olmo", "FlexOlmoForCausalLM", {**_SIZES, "num_key_value_heads": 2, "pad_token_id": 0}),
    "scan": ("mamba2", "Mamba2ForCausalLM", _MAMBA),
    "tied": ("vaultgemma", "VaultGemmaForCausalLM", {**_SIZES, **_HEADS}),
}
"""One undeclared model of each structure: model type, class, small sizes."""


@dataclass(frozen=True)
class Mutant:
    """A declaration with one mistake.

    Args:
        kind: which mistake.
        where: the tensor and its dimension, or the space.
        declaration: with the mistake.
    """

    kind: str
    where: str
    declaration: Architecture


@cache
def inferred(name: str) -> tuple[Config, Architecture, Options]:
    """The config, its inferred declaration, and a growth in which every size has a ratio of its own."""
    raw = default_config(*MODELS[name])
    declaration = infer(raw, class_of(raw))
    config = Config.of(raw)
    old = declaration.read_sizes(config.parsed)
    ratios = itertools.cycle((3, 5))
    sizes: dict[str, int | str] = {}
    for size, field in declaration.sizes.items():
        if field.field and field.grows in ("width", "heads"):
            plain = "intermediate" in size
            sizes[size] = old[size] * (next(ratios) if plain else 2)
    return config, declaration, Options(sizes=sizes)


def difference(name: str, declaration: Architecture) -> float:
    """How far the twin of a declaration is off; infinity where it is refused."""
    config, _, options = inferred(name)
    try:
        return twin_report(config, options, declared=Declared(declaration)).difference
    except GrowthError:
        return math.inf


def mutants(name: str) -> list[Mutant]:
    """Every mistake of every kind that there is room for."""
    declaration = inferred(name)[1]
    return [*_roles(declaration), *_constants(declaration)]


def _roles(declaration: Architecture) -> Iterator[Mutant]:
    changes: dict[str, Callable[[Role], Role | None]] = {
        "layout": _reordered,
        "reader": _turned,
        "tie": lambda role: _untied(role, declaration),
        "offset": lambda role: replace(role, offset=0.0) if isinstance(role, Gain) else None,
    }
    for (kind, change), (module, rule) in itertools.product(changes.items(), declaration.modules.items()):
        for suffix, roles in rule.items():
            for d, role in enumerate(roles):
                if (kind == "reader" and len(roles) < 2) or (wrong := change(role)) is None:
                    continue
                new = {**rule, suffix: (*roles[:d], wrong, *roles[d + 1 :])}
                yield Mutant(
                    kind, f"{module}.{suffix}[{d}]", replace(declaration, modules={**declaration.modules, module: new})
                )


def _reordered(role: Role) -> Role | None:
    if not isinstance(role, (Writes, Reads)) or (axis := _swapped(role.axis)) is None:
        return None
    return replace(role, axis=axis)


def _swapped(axis: Axis) -> Axis | None:
    """The parts of a concatenation, or the factors of a product, the other way round."""
    if isinstance(axis, Concatenation):
        parts = list(_pieces(axis))
        turned = parts[::-1]
        whole = turned[0]
        for part in turned[1:]:
            whole = whole + part
        return whole if turned != parts else None
    if isinstance(axis, Product) and isinstance(axis.inner, Fixed):
        return axis.inner * axis.outer
    return None


def _pieces(axis: Axis) -> Iterator[Axis]:
    if isinstance(axis, Concatenation):
        yield from _pieces(axis.before)
        yield from _pieces(axis.after)
    else:
        yield axis


def _turned(role: Role) -> Role | None:
    if isinstance(role, Reads):
        return Writes(role.axis)
    return Reads(role.axis) if isinstance(role, Writes) else None


def _untied(role: Role, declaration: Architecture) -> Role | None:
    """What writes for a tied head writes as if the head had a matrix of its own."""
    axis = role.leaves if isinstance(role, Gain) else role.axis if isinstance(role, Writes) else None
    if not isinstance(axis, Space) or not isinstance(declaration.laws[axis], Dual):
        return None
    while isinstance(law := declaration.laws[axis], (Dual, Scaled)):
        axis = law.of if isinstance(law, Dual) else law.into
    return replace(role, leaves=axis) if isinstance(role, Gain) else Writes(axis)


def _constants(declaration: Architecture) -> Iterator[Mutant]:
    for space, law in declaration.laws.items():
        if isinstance(law, Scaled):
            missed = {**declaration.constants, law.constant: Power({})}
            yield Mutant("constant", str(space), replace(declaration, constants=missed))


EXPECTED = {
    "dense": {"reader", "layout", "tie"},
    "fused": {"reader", "layout", "tie"},
    "experts": {"reader", "layout", "tie"},
    "scan": {"reader", "layout", "tie"},
    "tied": {"reader", "layout", "tie", "constant", "offset"},
}
"""Which mistakes each model has room for. That of a tie is one in an untied model too: there the head is divided by
another number than the norm makes up for."""


@pytest.mark.parametrize("name", MODELS)
def test_one_mistake_of_each_kind(name: str) -> None:
    """The inferred declaration passes, and one mistake of every kind does not."""
    assert difference(name, inferred(name)[1]) <= TOLERANCE
    first = {mutant.kind: mutant for mutant in mutants(name)}
    assert first.keys() == EXPECTED[name]
    for mutant in first.values():
        assert difference(name, mutant.declaration) > WRONG, f"{mutant.kind}: {mutant.where}"


UNSEEN = {
    # A root of 2 is its own dual: these are the same numbers.
    "tied": ["reader: lm_head.weight[1]", "reader: embed_tokens.weight[1]"],
}
"""Changes that the twin does not see."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_mistake(name: str) -> None:
    passed = [
        f"{mutant.kind}: {mutant.where}" for mutant in mutants(name) if difference(name, mutant.declaration) <= WRONG
    ]
    assert passed == UNSEEN.get(name, [])
