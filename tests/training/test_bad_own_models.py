"""What is wrong about a module that nobody registered, and how it is said."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import growth
from growth.architectures import FFN, Architecture, Linear
from support import own_models as models
from support.own_cases import CASES, decoder, gpt, ids, random_signal
from support.own_models import DECODER_CONFIG, GPT, Decoder, GPTConfig, Selective

BY_HAND: dict[type, Architecture] = {
    GPT: models.GPT_DECLARED,
    Decoder: models.DECODER_DECLARED,
    Selective: models.SELECTIVE_DECLARED,
}


SMALL: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}


WRONG: Mapping[str, tuple[Callable[[], Any], str]] = {
    "no config": (lambda: growth.widen(nn.Linear(2, 2)), "Linear has no config (module.config), from which a wider"),
    "a config without fields": (lambda: growth.widen(gpt(), config=3), "not 3, which has no fields by name."),
    "another model's config": (
        lambda: growth.widen(gpt(), config=GPTConfig(n_embd=48)),
        "GPT(config): 'transformer.wte.weight' has shape [50, 48], not [50, 24]",
    ),
    "too few fields": (
        lambda: growth.widen(decoder(), config={"dim": 24}),
        "cannot be built from its config (Decoder(config): TypeError: ",
    ),
    "more layers than there are": (
        lambda: growth.widen(gpt(), config=GPTConfig(n_layer=4)),
        "it makes 'transformer.h.3.ln_1.weight', which this module has not",
    ),
    "fewer layers than there are": (
        lambda: growth.widen(gpt(), config=GPTConfig(n_layer=2)),
        "it makes no 'transformer.h.2.ln_1.weight'",
    ),
    "a builder of another class": (
        lambda: growth.widen(decoder(), config=DECODER_CONFIG, build=lambda config: gpt()),
        "build(config) does not make this Decoder: it makes a GPT. Correct build=, or the config.",
    ),
    "a builder that fails": (
        lambda: growth.widen(decoder(), config=DECODER_CONFIG, build=lambda config: config.dim),
        "build(config) does not make this Decoder: it fails (AttributeError: ",
    ),
    "inputs of another type": (
        lambda: growth.widen(gpt(), inputs=(torch.zeros(2, 3),)),
        "GPT cannot be run on these inputs (RuntimeError: ",
    ),
    "inputs that are none": (lambda: growth.widen(gpt(), inputs=3), "that makes one, not 3. Give one of them."),
    "a function that fails": (
        lambda: growth.widen(gpt(), inputs=lambda config: config.missing),
        "GPT cannot be run on these inputs (AttributeError: ",
    ),
    "a model of transformers": (
        lambda: growth.widen(LlamaForCausalLM(LlamaConfig(**SMALL)), config=GPTConfig()),
        "and LlamaForCausalLM is a class of transformers. Leave them out; verify_inputs= is a batch to run it on.",
    ),
    "a comparison on text": (
        lambda: growth.check_equivalence(*[growth.widen(gpt()).model] * 2, text="It is a truth"),
        "GPT has no tokenizer, or its tokenizer makes fewer than two tokens of this text. Leave the text out.",
    ),
}


@pytest.mark.parametrize("call, says", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(growth.GrowthError, match=re.escape(says)) as caught:
        call()
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_declaration_is_refused(name: str, declared: dict[type, Architecture]) -> None:
    """One law is another in each: each is refused by the twin, at the module where it shows."""
    make, told, _, _ = CASES[name]
    model = make()
    right = BY_HAND[type(model)]
    laws = {
        "a dataclass": {FFN: Linear()},
        "keywords": {FFN: Linear()},
        "floats": {models.INNER: Linear()},
    }[name]
    wrong = replace(right, laws={**right.laws, **laws}, epsilon=1e-30)
    declared[type(model)] = wrong
    telling = {"inputs": (lambda config: random_signal(config)) if name == "floats" else ids(), "config": None, **told}
    with pytest.raises(growth.ProofError, match="the first module whose output is wrong is '"):
        growth.widen(model, width=2, scaling="orthogonal", **telling)
