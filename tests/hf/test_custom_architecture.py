"""The two registered modules of notebooks/own_architecture.ipynb: grown under every choice, in memory
and from disk, and refused under wrong declarations."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import Tensor, nn

import growth
from growth.algebra.laws import Growth, Law, Linear
from growth.algebra.maps import Map
from growth.algebra.roles import Keeps, Role, Writes
from growth.architectures import registry
from growth.architectures.architecture import Architecture
from growth.plan.plan import TOLERANCE
from growth.proof.float64 import exact_arithmetic
from growth.proof.miniature import loud
from growth.rules.attention import KEYS, QUERIES, VALUES
from growth.rules.embedding import embedding
from growth.rules.feed_forward import FFN
from growth.rules.linear import Rule, linear
from growth.rules.norm import FINAL, RESIDUAL, norm
from support.custom_models import run_defining_cells

SIZES = {
    "vocab_size": 41,
    "hidden_size": 15,
    "intermediate_size": 22,
    "num_attention_heads": 3,
    "max_position_embeddings": 40,
}
MODELS = {"deepnorm tied": "DeepNorm", "deepnorm untied": "DeepNorm", "simplified": "Simplified"}
CHOICES = [
    {"attention": attention, "scaling": scaling, "width": width, "noise": noise}
    for attention in ("heads", "head-dim")
    for scaling in ("unit", "orthogonal")
    for width in (2, 3)
    for noise in (0.0, 0.4)
]


@pytest.fixture(scope="module")
def notebook() -> Iterator[Any]:
    """The definitions of the notebook, with its models registered; the registry is restored
    afterwards."""
    before = dict(registry._REGISTRY)
    yield run_defining_cells()
    registry._REGISTRY.clear()
    registry._REGISTRY.update(before)


@pytest.fixture(autouse=True)
def registered(notebook: Any) -> Iterator[None]:
    """Registers the right declarations again after a test that replaced them."""
    yield
    for architecture in (notebook.DEEPNORM, notebook.SIMPLIFIED):
        growth.register(architecture)


def build(notebook: Any, name: str, **changes: Any) -> nn.Module:
    """A model of the notebook in float64, with random weights that all count."""
    kind = getattr(notebook, MODELS[name])
    fields = {
        **SIZES,
        **({"layer_norm_eps": 0.03, "tied": name.endswith(" tied")} if kind is notebook.DeepNorm else {}),
        **changes,
    }
    with exact_arithmetic():
        return filled(kind(getattr(notebook, f"{kind.__name__}Config")(**fields)))


def filled(model: nn.Module) -> nn.Module:
    loud(model.double())  # type: ignore[arg-type]
    return model.eval()


@torch.no_grad()
def difference(a: nn.Module, b: nn.Module) -> float:
    ids = torch.randint(0, 37, (3, 12), generator=torch.Generator().manual_seed(0))
    with exact_arithmetic():
        before, after = a(ids), b(ids)
        before, after = (out if isinstance(out, Tensor) else out[0] for out in (before, after))
        assert 0.5 < float(before.abs().max()) < 100
        return float((before - after).abs().max())


def save(model: nn.Module, folder: Path, **also: Any) -> Path:
    folder.mkdir()
    model_type = next(name for name, a in registry._REGISTRY.items() if a.module_class is type(model))
    fields = {
        "model_type": model_type,
        "architectures": [type(model).__name__],
        **dataclasses.asdict(model.config),
        **also,
    }  # type: ignore[call-overload]
    (folder / "config.json").write_text(json.dumps(fields))
    save_model(model, str(folder / "model.safetensors"))
    return folder


@pytest.mark.parametrize(
    "choices",
    [pytest.param(one, marks=pytest.mark.slow) if one["width"] == 3 else one for one in CHOICES],
    ids=lambda choices: "-".join(map(str, choices.values())),
)
@pytest.mark.parametrize("name", MODELS)
def test_every_choice_is_exact_in_memory_and_the_same_from_disk(
    notebook: Any, name: str, choices: dict[str, Any], tmp_path: Path
) -> None:
    model = build(notebook, name)
    grown = growth.widen(model, **choices)
    assert type(grown.model) is type(model)
    assert difference(model, grown.model) <= TOLERANCE
    assert grown.proof.twin.difference <= TOLERANCE
    growth.widen_checkpoint(save(model, tmp_path / "small"), tmp_path / "wide", **choices)
    written, state = load_file(tmp_path / "wide" / "model.safetensors"), grown.model.state_dict()
    shared = {"head.weight", "tokens.weight"} if name == "deepnorm tied" else set()
    assert state.keys() - shared <= written.keys() <= state.keys()
    for key, value in written.items():
        assert torch.equal(value, state[key]), key
    raw = json.loads((tmp_path / "wide" / "config.json").read_text())
    assert raw == {**raw, **dataclasses.asdict(grown.model.config)}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
def test_growing_twice_is_exact_and_keeps_what_is_not_width(notebook: Any, name: str) -> None:
    model = build(notebook, name)
    once = growth.widen(model, attention="head-dim", noise=0.3).model
    twice = growth.widen(once, width=3, scaling="orthogonal", noise=0.3).model
    assert difference(model, twice) <= TOLERANCE
    assert twice.config.hidden_size == 6 * 15  # type: ignore[union-attr]
    half = build(notebook, name).bfloat16().train()
    half.blocks[1].down.weight.requires_grad_(False)  # type: ignore[index, union-attr]
    before = copy.deepcopy(half.state_dict())
    wide = growth.widen(half).model
    assert wide.training and half.training
    assert all(torch.equal(value, before[key]) for key, value in half.state_dict().items())
    assert [name for name, p in wide.named_parameters() if not p.requires_grad] == ["blocks.1.down.weight"]
    assert {p.dtype for p in wide.parameters()} == {torch.bfloat16}
    assert (wide.head.weight is wide.tokens.weight) == (name == "deepnorm tied")  # type: ignore[union-attr]


@pytest.mark.parametrize("name", MODELS)
def test_plans_and_equivalence_read_modules_configs_and_folders(notebook: Any, name: str, tmp_path: Path) -> None:
    model = build(notebook, name).float()
    small = save(model, tmp_path / "small")
    growth.widen_checkpoint(small, tmp_path / "wide", noise=0.2)
    grown = growth.widen(model, noise=0.2)
    assert growth.check_equivalence(model, grown.model, tokens=64).equal
    assert growth.check_equivalence(small, tmp_path / "wide", tokens=64).equal
    assert growth.check_equivalence(small, grown.model, tokens=64).equal
    with torch.no_grad():
        grown.model.blocks[0].up.weight[3, 5] += 0.1  # type: ignore[index, union-attr]
    assert not growth.check_equivalence(model, grown.model, tokens=64).equal
    plans = [growth.plan_widening(source, noise=0.2) for source in (model.config, small)]  # type: ignore[arg-type]
    assert {repr(plan) for plan in plans} == {repr(grown.plan)}
    assert (
        growth.plan_widening({"model_type": plans[0].architecture.model_type}).new_sizes["hidden_size"] == 96
    )  # class defaults


@dataclass(frozen=True)
class Interleaved(Law):
    def grow(self, g: Growth) -> Map:
        return Map.copies(g.n, np.arange(g.m) * g.n // g.m)


@dataclass(frozen=True)
class Louder(Law):
    def grow(self, g: Growth) -> Map:
        return Linear().grow(g).scaled(3.0)


Mutation = Callable[[Any, Architecture], Architecture]


def law(space: str, wrong: Law) -> Mutation:
    return lambda notebook, a: replace(
        a, laws={**a.laws, next(known for known in a.laws if known.name == space): wrong}
    )


def rule(module: str, wrong: Rule) -> Mutation:
    return lambda notebook, a: replace(a, modules={**a.modules, module: wrong})


def scalars(notebook: Any, a: Architecture, role: Role) -> Architecture:
    return rule("blocks.*.attention", dict.fromkeys(("alpha", "beta", "gamma"), (role,)))(notebook, a)


HEADS: dict[str, Any] = {}
WIDE_HEADS = {"attention": "head-dim"}
ORTHOGONAL = {"scaling": "orthogonal"}
MUTANTS: dict[str, tuple[str, dict[str, Any], Mutation]] = {
    "last norm leaves into the stream": ("deepnorm tied", HEADS, lambda notebook, a: replace(a, for_config=None)),
    "head is not the dual": ("deepnorm tied", HEADS, law("final", Linear())),
    "every norm leaves into the dual": ("deepnorm untied", HEADS, rule("blocks.*.norm1", norm(RESIDUAL, FINAL))),
    "fused parts in another order": (
        "deepnorm untied",
        WIDE_HEADS,
        rule("blocks.*.qkv", linear(RESIDUAL, KEYS + VALUES + QUERIES)),
    ),
    "positions scaled unlike tokens": ("deepnorm untied", HEADS, rule("positions", embedding(FINAL))),
    "feed-forward scaled through GELU": ("deepnorm untied", ORTHOGONAL, law("ffn", Linear())),
    "epsilon taken for a number in the code": (
        *("deepnorm untied", ORTHOGONAL),
        lambda notebook, a: replace(a, epsilon=0.0, vouched={"layer_norm_eps": None, "tied": None}),
    ),
    "a plain stream": (
        "simplified",
        WIDE_HEADS,
        lambda notebook, a: notebook.simplified(RESIDUAL, {RESIDUAL: Linear()}),
    ),
    "slices in another order than heads": ("simplified", HEADS, law("slices", Interleaved())),
    "scalars scaled with their slices": (
        "simplified",
        ORTHOGONAL,
        lambda notebook, a: scalars(notebook, a, Writes(notebook.SLICES)),
    ),
    "scalars kept": ("simplified", HEADS, lambda notebook, a: scalars(notebook, a, Keeps())),
    "scores without their square root": (
        *("simplified", WIDE_HEADS),
        lambda notebook, a: replace(a, constants={"attention_scale": lambda config, sizes: 1.0}),
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_declaration_is_refused_where_the_right_one_passes(notebook: Any, mutant: str) -> None:
    name, choices, mutate = MUTANTS[mutant]
    model = build(notebook, name)
    right = notebook.SIMPLIFIED if name == "simplified" else notebook.DEEPNORM
    growth.widen(model, width=3, **choices)
    growth.register(mutate(notebook, right))
    with pytest.raises(growth.GrowthError) as caught:
        growth.widen(model, width=3, **choices)
    assert isinstance(caught.value, growth.ProofError), caught.value


def test_the_twin_names_the_module_where_it_goes_wrong(notebook: Any) -> None:
    growth.register(replace(notebook.DEEPNORM, laws={**notebook.DEEPNORM.laws, FFN: Linear()}))
    with pytest.raises(
        growth.ProofError,
        match=r"Correct the declaration: the first module whose output is wrong is 'blocks.0.down'; check its rule",
    ):
        growth.widen(build(notebook, "deepnorm tied"), scaling="orthogonal")


def test_without_norms_any_scale_of_the_stream_is_exact_and_through_relu_any_positive_one(notebook: Any) -> None:
    growth.register(
        replace(notebook.SIMPLIFIED, laws={**notebook.SIMPLIFIED.laws, notebook.SLICES: Louder(), FFN: Louder()})
    )
    model = build(notebook, "simplified")
    assert difference(model, growth.widen(model, width=3).model) <= TOLERANCE


def test_a_tied_head_behind_no_norm_allows_orthogonal_scaling_alone(notebook: Any) -> None:
    class TiedSimplified(notebook.Simplified):  # type: ignore[misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.head.weight = self.tokens.weight

    growth.register(replace(notebook.SIMPLIFIED, model_type="simplified-tied", module_class=TiedSimplified))
    model = filled(TiedSimplified(notebook.SimplifiedConfig(**SIZES)))
    for attention in ("heads", "head-dim"):
        assert difference(model, growth.widen(model, attention=attention, scaling="orthogonal").model) <= TOLERANCE
        with pytest.raises(growth.ProofError):
            growth.widen(model, attention=attention)
