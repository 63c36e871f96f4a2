"""The nearest shape that a refusal names, whole multiples, options that come back from JSON; and
that these checks can fail."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from transformers import AutoConfig, LlamaConfig, XLNetConfig

from growth import architectures, plan_widening
from growth.errors import GrowthError, IllegalGrowthError
from growth.hf.configs import parse
from growth.hf.model_classes import classes
from growth.plan import size_reasons, size_rules, target_sizes
from growth.plan.model_sizes import ModelSizes
from growth.plan.plan import TOLERANCE
from growth.plan.size_search import PricedSize, SizeOptions
from growth.proof.miniature import miniature
from growth.proof.twin import prove_twin
from support.size_cases import ALBERT, BERT, BLOOM, CLIP, FEW, GPT2, QWEN, SMALL, SMOLLM, T5, Source, refused, untrue

SIX_HEADS = LlamaConfig(hidden_size=96, num_attention_heads=6, **FEW)
XLNET = XLNetConfig(d_model=64, n_head=4, d_inner=100, n_layer=2, vocab_size=97)


def nearest(message: str) -> dict[str, int]:
    """The shape that a refusal names."""
    (listed,) = re.findall(r"The nearest shape that works: (.*)\.$", message)
    return {name: int(value) for name, value in (size.rsplit(" ", 1) for size in listed.split(", "))}


def check_nearest(source: Source, choices: dict[str, Any], changes: dict[str, int]) -> None:
    """What a refusal names is what comes out when it is asked for, and that works."""
    named = nearest(refused(source, **choices))
    rest = {name: value for name, value in choices.items() if name in ("attention", "scaling")}
    plan = plan_widening(source, sizes=named, **rest)
    free = [
        name
        for name, size in plan.architecture.sizes.items()
        if size.field and plan.why[name] != "follows from the others"
    ]
    assert {name: plan.new_sizes[name] for name in free} == {
        name: named.get(name, plan.old_sizes[name]) for name in free
    }
    assert {name: size for name, size in named.items() if size != plan.old_sizes[name]} == changes
    assert prove_twin(plan).difference <= TOLERANCE
    assert not untrue(plan)


def check_told(source: Source, choices: dict[str, Any]) -> None:
    assert not untrue(plan_widening(source, **choices))


REFUSED: dict[str, tuple[Source, dict[str, Any], dict[str, int]]] = {
    "post-norm": (BERT, {"width": 1.5}, {"hidden_size": 1536, "intermediate_size": 4608, "num_attention_heads": 24}),
    "post-norm, wider heads": (
        *(BERT, {"width": 1.5, "attention": "head-dim"}),
        {"hidden_size": 1536, "intermediate_size": 4608, "head_dim": 128},
    ),
    "post-norm, a little": (
        BERT,
        {"width": 1.25},
        {"hidden_size": 1536, "intermediate_size": 3840, "num_attention_heads": 24},
    ),
    "embedding of its own": (
        *(ALBERT, {"width": 1.5}),
        {"embedding_size": 256, "hidden_size": 1536, "intermediate_size": 4608, "num_attention_heads": 24},
    ),
    "heads": (
        GPT2,
        {"hidden_size": 1000},
        {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    ),
    "heads by field": (
        *(GPT2, {"sizes": {"n_head": 13, "n_embd": 1024}}),
        {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16},
    ),
    "rotary": (SMOLLM, {"head_dim": 96}, {"head_dim": 128}),
    "rotary, hidden": (
        SMOLLM,
        {"hidden_size": 960, "attention": "head-dim"},
        {"hidden_size": 1152, "intermediate_size": 2560, "head_dim": 128},
    ),
    "groups": (
        SMOLLM,
        {"hidden_size": 960, "heads": 10},
        {"hidden_size": 960, "intermediate_size": 2560, "num_attention_heads": 12},
    ),
    "norm of the embedding": (BLOOM, {"width": 1.5}, {"hidden_size": 128, "num_attention_heads": 16}),
    "norm of the embedding, a little": (BLOOM, {"width": 1.25}, {"hidden_size": 128}),
    "two towers": (
        *(CLIP, {"width": 1.5}),
        {
            **{
                "text_config.hidden_size": 768,
                "text_config.intermediate_size": 3072,
                "text_config.num_attention_heads": 12,
            },
            **{
                "vision_config.hidden_size": 1536,
                "vision_config.intermediate_size": 4608,
                "vision_config.num_attention_heads": 24,
            },
        },
    ),
    "sinusoids": (XLNET, {"width": 1.5}, {"hidden_size": 128, "intermediate_size": 150, "num_attention_heads": 8}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_nearest_shape_works(name: str) -> None:
    check_nearest(*REFUSED[name])


def check_multiples(model_type: str, width: int, attention: str) -> None:
    """Every size that grows is multiplied, and the rest follows."""
    plan = plan_widening(small_config(model_type), width=width, attention=attention)  # type: ignore[arg-type]
    assert not untrue(plan)
    for name, size in plan.architecture.sizes.items():
        grows = size.field and size.grows in ("width", attention)
        if size.field and size.grows != "follows":
            assert plan.new_sizes[name] == plan.old_sizes[name] * (width if grows else 1), name


@cache
def small_config(model_type: str) -> dict[str, Any]:
    architecture = architectures.find(model_type)
    raw = {
        **AutoConfig.for_model(model_type, **architecture.branches[0]).to_dict(),
        "architectures": classes(model_type)[:1],
    }
    return miniature(raw, architecture.at(parse(raw)))


@pytest.mark.parametrize("model_type", [name for name in architectures.known() if classes(name)])
def test_whole_multiples_are_multiples(model_type: str) -> None:
    for width, attention in ((2, "head-dim"), (3, "heads")):
        check_multiples(model_type, width, attention)


REPLAYED: list[dict[str, Any]] = [
    {},
    {"width": "5/3", "noise": 0.25, "seed": 7},
    {"width": 1.5, "kv_heads": "keep", "scaling": "orthogonal", "symmetry": "split:1/3:varied"},
    {"hidden_size": 960, "sizes": {"intermediate_size": 2000}},
    {"like": {**SMOLLM, **SMALL}, "intermediate_size": "keep"},
    {"like": {**SMOLLM, **SMALL, "vocab_size": 99, "num_hidden_layers": 3}, "keep": "vocab,kv_heads"},
    {"width": 2, "attention": "head_dim", "rope": "pairs", "lossy": True, "vouch": ("mlp_bias",)},
]


@pytest.mark.parametrize("choices", REPLAYED, ids=lambda value: ", ".join(value))
def test_a_plan_is_made_again_from_its_own_record(choices: dict[str, Any]) -> None:
    plan = plan_widening(SMOLLM, **choices)
    record = json.loads(json.dumps(plan.to_json()))
    again = plan_widening(SMOLLM, **record["options"])
    assert again.new_sizes == plan.new_sizes == {name: new for name, (_, new) in record["sizes"].items()}
    assert again.options == plan.options and again.why == plan.why == record["why"]
    assert json.loads(json.dumps(again.to_json())) == record


Patch = pytest.MonkeyPatch


def unlisted(patch: Patch) -> None:
    """The refusal names the size at fault alone."""
    right = target_sizes._refusal

    def wrong(*args: Any) -> GrowthError:
        message, names, listed = str(right(*args)).partition(" that works: ")
        return IllegalGrowthError(message + names + listed.split(", ")[0].rstrip(".") + ".")

    patch.setattr(target_sizes, "_refusal", wrong)


def off_by_a_step(patch: Patch) -> None:
    right = size_rules._ratio
    patch.setattr(size_rules, "_ratio", lambda *args: 1.25 * right(*args))


def said_of_the_first_choice(patch: Patch) -> None:
    """What was aimed at, whatever came of it."""
    patch.setattr(
        target_sizes,
        "size_reasons",
        lambda model, sizes, options: {n: options[n].why if n in options else "kept" for n in sizes},
    )


def named_sizes_kept(patch: Patch) -> None:
    """A named size stays what it was."""
    right = target_sizes.size_options

    def wrong(model: ModelSizes, *args: Any) -> dict[str, SizeOptions]:
        return {
            name: replace(values, values=(PricedSize(0.0, model.old[name]),)) if values.named else values
            for name, values in right(model, *args).items()
        }

    patch.setattr(target_sizes, "size_options", wrong)


def always_whole(patch: Patch) -> None:
    """No whole number is nearer to the wanted value than the one that was taken."""
    patch.setattr(size_reasons, "_nearer", lambda value, wanted: range(0))


def never_at_least(patch: Patch) -> None:
    """Numbers below the old size are taken for numbers that do not divide."""
    right = size_reasons._nearer
    patch.setattr(size_reasons, "_nearer", lambda value, wanted: range(6, right(value, wanted).stop))


WRONG: list[tuple[Callable[..., None], tuple[Any, ...], Callable[[Patch], None]]] = [
    (check_nearest, REFUSED["norm of the embedding, a little"], unlisted),
    (check_nearest, REFUSED["two towers"], unlisted),
    (check_nearest, REFUSED["heads"], unlisted),
    (check_multiples, ("llama", 2, "heads"), off_by_a_step),
    (check_multiples, ("gpt2", 3, "head-dim"), off_by_a_step),
    (check_told, (SMOLLM, {"width": 1.5}), said_of_the_first_choice),
    (check_told, (GPT2, {"hidden_size": 1536}), named_sizes_kept),
    (check_told, (QWEN, {"width": 1.3}), said_of_the_first_choice),
    (check_told, (T5, {"width": 1.3}), said_of_the_first_choice),
    (check_told, (SMOLLM, {"width": 1.5}), always_whole),
    (check_told, (SIX_HEADS, {"hidden_size": 100}), always_whole),
    (check_told, (SIX_HEADS, {"hidden_size": 100}), never_at_least),
]


@pytest.mark.parametrize(("check", "arguments", "mutate"), WRONG)
def test_every_check_can_fail(
    check: Callable[..., None], arguments: tuple[Any, ...], mutate: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    check(*arguments)
    mutate(monkeypatch)
    with pytest.raises((AssertionError, GrowthError)):
        check(*arguments)
