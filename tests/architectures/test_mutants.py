"""Deliberately wrong declarations must not survive the twin: each is tried where it matters, beside
the right one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from transformers import CONFIG_MAPPING

import growth
from growth import architectures
from growth.algebra.attention_laws import Scores
from growth.algebra.axes import Space
from growth.algebra.laws import Growth, Law, Linear
from growth.algebra.maps import Map
from growth.algebra.norm_laws import LayerNorm
from growth.algebra.roles import Keeps, Reads, Writes
from growth.architectures.architecture import Architecture
from growth.checkpoint.preview import plan_widening
from growth.errors import GrowthError, ProofError
from growth.plan import candidate
from growth.plan.options import Options
from growth.plan.plan import TOLERANCE
from growth.proof.twin import prove_twin, twin_report
from growth.rules.attention import KEY, KEYS, KV_HEADS, QUERIES, QUERIES_PER_KV, QUERY, VALUE, VALUES
from growth.rules.embedding import embedding
from growth.rules.feed_forward import FFN
from growth.rules.heads import POOLED, TRANSFORM
from growth.rules.linear import Rule, conv1d, linear
from growth.rules.norm import FINAL, NORMED, RESIDUAL, norm
from support.families import LANGUAGE_MODELS, OTHER_HEADS

CASES = {case.model_class: case for case in [*LANGUAGE_MODELS, *OTHER_HEADS]}
LLAMA, MISTRAL, QWEN2, GPT2 = "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "GPT2LMHeadModel"
BERT, CLASSIFIER, ROBERTA = "BertForMaskedLM", "BertForSequenceClassification", "RobertaForMaskedLM"
T5, MT5 = "T5ForConditionalGeneration", "MT5ForConditionalGeneration"

SHARED_OUT = Space("heads as values", "num_key_value_heads")
HEADS = Options(width=3)
WIDE_HEADS = Options(width=3, attention="head-dim")
PAIRS = Options(width=3, attention="head-dim", rope="pairs")
ORTHOGONAL = Options(width=3, attention="head-dim", scaling="orthogonal")
ORTHOGONAL_HEADS = Options(width=3, scaling="orthogonal")

Mutation = Callable[[Architecture], Architecture]


@dataclass(frozen=True)
class Negated(Law):
    """Reading undoes writing, but no non-linearity survives the sign."""

    def grow(self, g: Growth) -> Map:
        return Map.repeat(g.n, g.m, -1.0)


@dataclass(frozen=True)
class Unrecognised(Law):
    """The same maps, from a law that says nothing of rotary positions."""

    law: Law

    def grow(self, g: Growth) -> Map:
        return self.law.grow(g)

    def constants(self) -> tuple[str, ...]:
        return self.law.constants()


def law(space: Space, wrong: Law) -> Mutation:
    return lambda a: replace(a, laws={**a.laws, space: wrong})


def rule(module: str, wrong: Rule) -> Mutation:
    def mutate(a: Architecture) -> Architecture:
        assert module in a.modules, module
        return replace(a, modules={**a.modules, module: wrong})

    return mutate


def constant(name: str, value: Callable[[Any, Any], float]) -> Mutation:
    return lambda a: replace(a, constants={**a.constants, name: value})


def both(first: Mutation, second: Mutation) -> Mutation:
    return lambda a: second(first(a))


MUTANTS: dict[str, tuple[str, Options, Mutation]] = {
    "head is not the embedding's dual": (LLAMA, HEADS, law(FINAL, Linear())),
    "final norm leaves into the stream": (LLAMA, HEADS, rule("norm", norm(RESIDUAL, RESIDUAL))),
    "scores without their square root": (LLAMA, WIDE_HEADS, constant("attention_scale", lambda c, s: 1.0)),
    "scores divided by head_dim": (LLAMA, WIDE_HEADS, constant("attention_scale", lambda c, s: 1.0 / s["head_dim"])),
    "queries not in slots": (LLAMA, WIDE_HEADS, law(QUERY, Scores("query"))),
    "keys not in slots": (LLAMA, WIDE_HEADS, law(KEY, Scores("key"))),
    "neither in slots": (LLAMA, WIDE_HEADS, both(law(KEY, Scores("key")), law(QUERY, Scores("query")))),
    "interleaved pairs on a half-split model": (
        *(LLAMA, WIDE_HEADS),
        both(law(KEY, Scores("key", "interleaved")), law(QUERY, Scores("query", "interleaved"))),
    ),
    "pairs without their frequencies": (
        *(LLAMA, PAIRS),
        both(law(QUERY, Unrecognised(Scores("query", "half"))), law(KEY, Unrecognised(Scores("key", "half")))),
    ),
    "queries grouped the other way": (
        LLAMA,
        HEADS,
        rule("layers.*.self_attn.q_proj", linear(NORMED, QUERIES_PER_KV * KV_HEADS * QUERY)),
    ),
    "output projection grouped the other way": (
        *(LLAMA, HEADS),
        rule("layers.*.self_attn.o_proj", linear(QUERIES_PER_KV * KV_HEADS * VALUE, RESIDUAL)),
    ),
    "values read what the head reads": (LLAMA, HEADS, rule("layers.*.self_attn.v_proj", linear(FINAL, VALUES))),
    "feed-forward scaled through SiLU": (LLAMA, ORTHOGONAL, law(FFN, Linear())),
    "feed-forward negated through SiLU": (LLAMA, HEADS, law(FFN, Negated())),
    "bias written elsewhere": (
        *(LLAMA, HEADS),
        rule("layers.*.mlp.down_proj", {"weight": (Writes(RESIDUAL), Reads(FFN)), "bias": (Writes(FINAL),)}),
    ),
    "values laid out otherwise": (
        QWEN2,
        WIDE_HEADS,
        rule("layers.*.self_attn.v_proj", linear(NORMED, VALUE * KV_HEADS)),
    ),
    "values written as keys": (MISTRAL, ORTHOGONAL, rule("layers.*.self_attn.v_proj", linear(NORMED, KEYS))),
    "key bias written as values": (
        *(QWEN2, ORTHOGONAL),
        rule("layers.*.self_attn.k_proj", {"weight": (Writes(KEYS), Reads(NORMED)), "bias": (Writes(VALUES),)}),
    ),
    "fused parts in another order": (
        GPT2,
        WIDE_HEADS,
        rule("h.*.attn.c_attn", conv1d(NORMED, KEYS + VALUES + QUERIES)),
    ),
    "fused bias all values": (
        *(GPT2, WIDE_HEADS),
        rule(
            "h.*.attn.c_attn",
            {"weight": (Reads(NORMED), Writes(QUERIES + KEYS + VALUES)), "bias": (Writes(VALUES + VALUES + VALUES),)},
        ),
    ),
    "positions scaled unlike tokens": (GPT2, HEADS, rule("wpe", embedding(FINAL))),
    "pooler scaled through tanh": (CLASSIFIER, ORTHOGONAL, law(POOLED, Linear())),
    "transform scaled through GELU": (BERT, ORTHOGONAL, law(TRANSFORM, LayerNorm())),
    "masked head is not the dual": (BERT, HEADS, law(FINAL, Linear())),
    "masked head reads the stream": (ROBERTA, HEADS, rule("lm_head.decoder", linear(RESIDUAL))),
    "output scale forgotten": (T5, HEADS, constant("output_scale", lambda c, s: 1.0)),
    "scores with a square root they lack": (
        T5,
        WIDE_HEADS,
        constant("attention_scale", lambda c, s: s["head_dim"] ** -0.5),
    ),
    "cross-attention reads the decoder": (
        T5,
        HEADS,
        rule("decoder.block.*.layer.1.EncDecAttention.k", linear(FINAL, KEYS)),
    ),
    "encoder leaves into the decoder's head": (MT5, HEADS, rule("encoder.final_layer_norm", norm(RESIDUAL, FINAL))),
    "position table shared out among heads": (
        *(MT5, ORTHOGONAL_HEADS),
        both(
            lambda a: replace(a, laws={**a.laws, SHARED_OUT: Linear()}),
            rule(
                "encoder.block.*.layer.0.SelfAttention.relative_attention_bias",
                {"weight": (Keeps(), Writes(SHARED_OUT))},
            ),
        ),
    ),
}


def raw_config(model_class: str, options: Options) -> dict[str, Any]:
    case = CASES[model_class]
    values = dict(case.config)
    if options.scaling == "orthogonal" and case.model_type in ("bert", "roberta"):
        values["layer_norm_eps"] = 1e-12
    config = CONFIG_MAPPING[case.model_type](
        **{key: value for key, value in values.items() if value is not None}, tie_word_embeddings=True
    )
    return {**config.to_dict(), "architectures": [model_class]}


@pytest.fixture
def restored() -> Iterator[None]:
    """The registry as it was."""
    before = {name: architectures.find(name) for name in architectures.known()}
    yield
    for architecture in before.values():
        growth.register(architecture)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_declaration_fails_where_the_right_one_passes(name: str, restored: None) -> None:
    model_class, options, mutate = MUTANTS[name]
    raw = raw_config(model_class, options)
    right = architectures.find(raw["model_type"])
    assert twin_report(raw, options).difference <= TOLERANCE
    growth.register(mutate(right))
    assert twin_report(raw, options).difference > 1e-4


def test_the_twin_stands_before_the_plan_is_carried_out(restored: None) -> None:
    raw = raw_config(LLAMA, HEADS)
    growth.register(law(FINAL, Linear())(architectures.find("llama")))
    with pytest.raises(ProofError, match=r"twin of this LlamaForCausalLM differs by .* nothing was written"):
        prove_twin(plan_widening(raw, width=3))


@pytest.mark.parametrize("model_class", [LLAMA, GPT2, CLASSIFIER, T5])
def test_epsilon_left_as_it_was_fails(model_class: str, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = raw_config(model_class, ORTHOGONAL)
    architecture = architectures.find(raw["model_type"])
    raw[architecture.epsilon] = 0.03
    assert twin_report(raw, ORTHOGONAL).difference <= TOLERANCE
    monkeypatch.setattr(candidate, "grown_epsilons", lambda *_: ({}, []))
    assert twin_report(raw, ORTHOGONAL).difference > 1e-4


def test_one_epsilon_for_two_norms_that_want_different_ones_is_refused() -> None:
    """Exact only where epsilon is too small to matter: BERT's 1e-12 passes the twin, 1e-5 is
    refused by name."""
    raw = raw_config(BERT, ORTHOGONAL)
    with pytest.raises(GrowthError, match=r"layer_norm_eps.*'transform'.*'residual'.*--scaling unit"):
        twin_report({**raw, "layer_norm_eps": 1e-5}, ORTHOGONAL)


def test_two_rules_for_one_parameter_are_refused() -> None:
    llama = architectures.find("llama")
    doubled = replace(
        llama, modules={**llama.modules, "layers.*.mlp": {"up_proj.weight": (Writes(FFN), Reads(NORMED))}}
    )
    with pytest.raises(GrowthError, match=r"2 rules of 'llama' match tensor 'layers.0.mlp.up_proj.weight'"):
        doubled.roles("layers.0.mlp.up_proj.weight", LLAMA)


def test_declarations_that_do_not_hang_together_are_refused() -> None:
    llama = architectures.find("llama")
    with pytest.raises(GrowthError, match=r"'llama' uses spaces without a law: ffn"):
        replace(llama, laws={space: law for space, law in llama.laws.items() if space != FFN})
    with pytest.raises(GrowthError, match=r"law of 'final' in 'llama' needs 'residual'"):
        replace(llama, laws={FINAL: llama.laws[FINAL], **llama.laws})
    with pytest.raises(GrowthError, match=r"law of 'query' in 'llama' needs 'attention_scale'"):
        replace(llama, constants={})
