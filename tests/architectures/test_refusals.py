"""A growth by whole multiples is refused if and only if a `Refusal` of its declaration applies, for
every class of every family."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from transformers import AutoConfig

from growth import architectures
from growth.architectures import ROTARY_SCALING, Asked, Refusal
from growth.errors import GrowthError, IllegalGrowthError, UnsupportedModelError
from growth.hf.configs import Config, parse
from growth.plan.build import plan_config
from growth.plan.options import chosen
from support.covering import product
from support.family_cases import ALL, MAIN, QUICK, Case, Choice, as_choice, asked, factors, small_config

Raw = dict[str, Any]
UNLISTED: list[Case] = [("xlnet", "XLNetForQuestionAnswering", {})]
"""Classes that no auto class lists, and that are refused something."""
Verdict = tuple[Asked, GrowthError | None]
"""A growth that was asked for, and why it was refused if it was."""

DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
"""Rotary scaling that depends on head_dim."""
NAMED_SIZES = {"deepseek_v2": {"rotary_dim": 8}, "deepseek_v3": {"rotary_dim": 8}}
"""Sizes that are refused where they are asked for by name, and stay as they are otherwise."""
REFUSED_CONFIGS: list[tuple[str, str, Raw]] = [
    ("olmo", "OlmoForCausalLM", {"tie_word_embeddings": True}),
    ("opt", "OPTForCausalLM", {"layer_norm_elementwise_affine": False}),
    ("opt", "OPTForCausalLM", {"_remove_final_layer_norm": True}),
    ("opt", "OPTForCausalLM", {"do_layer_norm_before": False, "layer_norm_elementwise_affine": False}),
    ("esm", "EsmForMaskedLM", {"is_folding_model": True, "vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32}),
    *((name, kind, {}) for name in architectures.known() for kind in architectures.find(name).without),
]
"""Configs of which no growth is exact, whatever is chosen: no branch, since nothing of them grows."""


def verdict(raw: Mapping[str, Any], choice: Choice) -> Verdict:
    try:
        plan_config(raw, chosen(choice))  # type: ignore[arg-type]
    except (IllegalGrowthError, UnsupportedModelError) as refusal:
        return asked(raw, choice), refusal
    return asked(raw, choice), None


def one_by_one(model_type: str) -> list[Choice]:
    """Every attention, scaling and rope, each beside the defaults of the others."""
    choices: list[Choice] = [{}, {"scaling": "orthogonal"}]
    return choices + [as_choice({"attention": way}) for way in factors(model_type)["attention"][1:]]


def all_together(model_type: str) -> list[Choice]:
    """Every attention, scaling and rope with every other, by two widths. What a tied head refuses
    (an equal last hidden state) is no matter of the declaration."""
    fixed = {"width": (2, 3), "noise": (0.0,), "last_hidden_state": ("divided",)}
    return [as_choice(row) for row in product({**factors(model_type), **fixed})]


def with_rope(raw: Raw, scaling: Raw) -> Raw:
    """The config with another rotary scaling, in every kind of layer where kinds differ, and with
    head_dim written out, which transformers' own code needs for some of them."""
    if raw.get("head_dim", 0) is None:
        raw = {**raw, "head_dim": raw["hidden_size"] // raw["num_attention_heads"]}
    parameters = parse(raw).rope_parameters
    kinds = [name for name, value in parameters.items() if isinstance(value, dict)]
    ropes = {name: {**parameters[name], **scaling} for name in kinds} or {**parameters, **scaling}
    return {**raw, "rope_parameters": ropes}


def with_small_epsilon(raws: Iterable[Mapping[str, Any]], field: str | float) -> list[Config]:
    """The same configs at an epsilon that may be off by a factor, where they hold one."""
    return [Config({**raw, field: 1e-12}) for raw in raws if isinstance(field, str) and field in raw]


def verdicts(cases: Iterable[Case], model_type: str, choices: Iterable[Choice]) -> list[Verdict]:
    """What is refused of a family: of every case every choice, orthogonal also where epsilon is
    negligible, and of one class wider heads under each rotary scaling."""
    raws = [Config(small_config(*case)) for case in [*cases, *UNLISTED] if case[0] == model_type]
    found = [verdict(raw, choice) for raw in raws for choice in choices]
    epsilon = architectures.find(model_type).epsilon
    negligible = raws if epsilon == 1e-12 else with_small_epsilon(raws, epsilon)
    found += [verdict(raw, {"scaling": "orthogonal", "width": 3}) for raw in negligible]
    if model_type in NAMED_SIZES:
        found += [verdict(raw, {"sizes": NAMED_SIZES[model_type]}) for raw in raws]
    if ROTARY_SCALING in architectures.find(model_type).refuses:
        ropes = [Config(with_rope(dict(raws[0]), scaling)) for scaling in (DYNAMIC, YARN)]
        found += [verdict(raw, {"attention": attention}) for raw in ropes for attention in ("heads", "head-dim")]
    for name, model_class, changes in REFUSED_CONFIGS:
        if name == model_type:
            raw = {**AutoConfig.for_model(name, **changes).to_dict(), "architectures": [model_class]}
            found.append(_of_a_refused_config(raw))
    return found


def _of_a_refused_config(raw: Raw) -> Verdict:
    try:
        plan_config(raw, chosen({}))
    except GrowthError as refusal:
        return Asked(parse(raw), raw["architectures"][0]), refusal
    return Asked(parse(raw), raw["architectures"][0]), None


def disagreements(refuses: Iterable[Refusal], found: Iterable[Verdict]) -> list[tuple[Asked, GrowthError | None]]:
    """The growths that are refused and no refusal applies to, or the other way round."""
    return [
        (asked, refusal)
        for asked, refusal in found
        if any(each.applies(asked) for each in refuses) != (refusal is not None)
    ]


ALWAYS = {architectures.EVERY_GROWTH}
"""Refusals that apply to everything."""


OFTEN = {"llama", "bert", "gpt2", "t5", "mixtral", "deepseek_v3", "falcon", "clip", "roformer", "modernbert"}
"""One of each structure; the others are slow tests."""


@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(model_type, marks=[pytest.mark.slow] * (model_type not in OFTEN))
        for model_type in architectures.known()
    ],
)
def test_what_is_refused_is_what_the_declaration_says(model_type: str) -> None:
    refuses, found = architectures.find(model_type).refuses, verdicts(QUICK, model_type, one_by_one(model_type))
    assert found and not disagreements(refuses, found)
    check_that_a_wrong_predicate_is_seen(refuses, found)


def check_that_a_wrong_predicate_is_seen(refuses: tuple[Refusal, ...], found: list[Verdict]) -> None:
    """Each refusal is the only one that applies to some growth, and does not apply to some other."""
    for number, refusal in enumerate(refuses):
        for answer in (False, *([True] if refusal not in ALWAYS else [])):
            wrong = replace(refusal, applies=lambda asked, answer=answer: answer)
            mutant = (*refuses[:number], wrong, *refuses[number + 1 :])
            assert disagreements(mutant, found), (refusal.what, answer)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [case[0] for case in MAIN])
def test_what_is_refused_of_every_class_and_branch(model_type: str) -> None:
    found = verdicts(ALL, model_type, all_together(model_type))
    assert not disagreements(architectures.find(model_type).refuses, found)
