"""The twin is made from the user's config: it must work for unusual but legal ones, and run the code
paths that the config selects (both tables of longrope, a sliding window)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

import growth
from growth import architectures
from growth.algebra.roles import Keeps, Reads
from growth.architectures import KV_HEADS, NORMED, QUERIES_PER_KV, QUERY, linear, registry
from growth.checkpoint.preview import plan_widening
from growth.errors import IllegalGrowthError, ProofError
from growth.hf.expected_tensors import expected_tensors
from growth.plan import candidate
from growth.plan.build import build_plan
from growth.plan.options import chosen
from growth.plan.plan import TOLERANCE
from growth.proof import twin
from growth.proof.miniature import miniature
from growth.proof.twin import prove_twin, twin_report
from support.families import LANGUAGE_MODELS, OTHER_HEADS, Case, build, difference, exact
from support.family_cases import label

CASES = {case.model_class: case for case in [*LANGUAGE_MODELS, *OTHER_HEADS]}

LONGROPE = {"rope_type": "longrope", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 32}
LONGROPE |= {"short_factor": [1.0, 1.5], "long_factor": [2.0, 9.0]}
ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "no padding token": ("LlamaForSequenceClassification", {"pad_token_id": None}),
    "no padding token, gpt2": ("GPT2ForSequenceClassification", {"pad_token_id": None}),
    "upcast attention": (
        "GPT2LMHeadModel",
        {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
    ),
    "tuples asked for": ("BertModel", {"return_dict": False}),
    "large padding token": ("RobertaForMaskedLM", {"pad_token_id": 30, "max_position_embeddings": 120}),
    "several end tokens": ("LlamaForCausalLM", {"eos_token_id": [1, 2, 7]}),
    "aliases": ("GPT2LMHeadModel", {"n_embd": ..., "n_head": ..., "hidden_size": 15, "num_attention_heads": 3}),
    "both spellings": ("GPT2LMHeadModel", {"hidden_size": 15}),
    "aliases, t5": ("T5ForConditionalGeneration", {"d_model": ..., "hidden_size": 14}),
    "implied groups": (
        "MistralForCausalLM",
        {"num_key_value_heads": ..., "num_attention_heads": 8, "hidden_size": 48},
    ),
    "implied groups, qwen2": (
        "Qwen2ForCausalLM",
        {"num_key_value_heads": ..., "num_attention_heads": 32, "hidden_size": 64},
    ),
    "short longrope": ("LlamaForCausalLM", {"head_dim": 4, "rope_parameters": LONGROPE}),
    "chunked feed-forward": ("BertModel", {"chunk_size_feed_forward": 4}),
    "windows on some layers": (
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 1},
    ),
}


def odd(name: str) -> dict[str, Any]:
    model_class, changes = ODD[name]
    raw = {**build(CASES[model_class]).config.to_dict(), "architectures": [model_class]} | changes
    return {key: value for key, value in raw.items() if value is not ...}


@pytest.mark.parametrize("attention", ["heads", "head-dim"])
@pytest.mark.parametrize("name", ODD)
def test_odd_but_legal_configs_are_grown(name: str, attention: str) -> None:
    assert prove_twin(plan_widening(odd(name), width=3, attention=attention)).difference <= TOLERANCE


ONE_EPSILON = ("BertForMaskedLM", "RobertaForMaskedLM")
"""Under orthogonal scaling their two norms need different values of it (`growth.plan.norm_epsilon`)."""
SPELLED_OUT = [
    (case, tied, {"attention": attention, "scaling": scaling, "width": 3, "noise": 0.4})
    for number, (case, tied) in enumerate(itertools.product(LANGUAGE_MODELS, (True, False)))
    for attention, scaling in [(("heads", "head-dim")[number % 2], ("unit", "orthogonal")[number // 2 % 2])]
]


@pytest.mark.parametrize(("case", "tied", "choice"), SPELLED_OUT, ids=label)
def test_sizes_that_configs_spell_out_tied_or_not(case: Case, tied: bool, choice: dict[str, Any]) -> None:
    small = {"layer_norm_eps": 1e-12} if case.model_class in ONE_EPSILON else {}
    raw = {**build(case, tied=tied, **small).config.to_dict(), "architectures": [case.model_class]}
    report = twin_report(raw, chosen(choice))  # type: ignore[arg-type]
    assert report.ok and report.scale > 1e-3


FACTORS = {
    "type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.7],
    "long_factor": [1.0, 1.5, 2.0, 3.0, 5.0, 9.0],
}
OLD_FILES: dict[str, dict[str, Any]] = {
    "a size by its old name": {
        "model_type": "bloom",
        "n_embed": 96,
        "n_layer": 2,
        "num_attention_heads": 12,
        "vocab_size": 41,
    },
    "factors for the part that turns": {
        "model_type": "phi3",
        "hidden_size": 64,
        "num_attention_heads": 4,
        "partial_rotary_factor": 0.75,
        "rope_scaling": FACTORS,
        "vocab_size": 41,
        "pad_token_id": 0,
        "num_hidden_layers": 2,
        "original_max_position_embeddings": 20,
        "intermediate_size": 50,
    },
}


@pytest.mark.parametrize("attention", ["heads", "head-dim"])
@pytest.mark.parametrize("name", OLD_FILES)
def test_old_files_keep_their_field_names(name: str, attention: str) -> None:
    grown = plan_widening(OLD_FILES[name], width=3, attention=attention)
    assert prove_twin(grown).difference <= TOLERANCE
    assert grown.new_config.keys() == OLD_FILES[name].keys()


def test_both_spellings_grow_together() -> None:
    grown = plan_widening(odd("both spellings"), width=2).new_config
    assert grown["n_embd"] == grown["hidden_size"] == 30


def test_both_branches_of_longrope_and_the_window_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = odd("short longrope")
    options = chosen({"width": 3, "attention": "head-dim"})
    right = candidate.grow_rope
    for branch in ("short_factor", "long_factor"):

        def wrong(*args: Any, branch: str = branch) -> dict[str, Any]:
            rope = right(*args)
            assert rope is not None
            return {**rope, branch: [2 * factor for factor in rope[branch]]}

        monkeypatch.setattr(candidate, "grow_rope", wrong)
        assert twin_report(raw, options).difference > 1e-4
    assert miniature(odd("windows on some layers"), architectures.find("qwen2"))["sliding_window"] < 6


def test_an_error_in_the_twin_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("some kernel is missing")

    monkeypatch.setattr("growth.proof.twin.twin_report", fails)
    plan = plan_widening(odd("large padding token"))
    with pytest.raises(
        ProofError, match=r"could not be run \(RuntimeError: some kernel is missing\), so nothing"
    ) as ours:
        prove_twin(plan)
    assert str(ours.value).endswith("Please report this config and these options.")
    with pytest.raises(ProofError, match=r"Use the device cpu instead of cuda:1\.$"):
        prove_twin(plan, "cuda:1")
    monkeypatch.setattr("growth.proof.twin.forward", fails)  # whatever the model is made of
    with pytest.raises(ProofError, match=r"It fails before it grows: check that transformers can run the model"):
        prove_twin(plan)


def test_a_miniature_that_cannot_grow_is_not_told_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise IllegalGrowthError("cannot grow 'residual' from 18 to 30: no. Use a multiple of 18: 36.")

    plan = plan_widening(odd("large padding token"))
    monkeypatch.setattr("growth.proof.twin.build_plan", refuses)
    with pytest.raises(ProofError, match=r"no miniature of this .* grows as the model does \(cannot grow") as caught:
        prove_twin(plan)
    assert "Use a multiple" not in str(caught.value)


@pytest.mark.parametrize("options", [{"noise": 9}, {"width": 5000}], ids=str)
def test_choices_beyond_what_the_twin_can_show_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(IllegalGrowthError):
        chosen(options)  # type: ignore[arg-type]


def test_growing_does_not_advance_the_callers_random_numbers() -> None:
    model = build(CASES["GPT2LMHeadModel"])
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    growth.widen(model, width=2, noise=0.1)
    assert torch.equal(torch.rand(1), expected)


exactly = pytest.fixture(exact)


@pytest.mark.slow
@pytest.mark.usefixtures("exactly")
def test_thirty_two_layers_at_the_largest_noise_stay_equal() -> None:
    small = build(CASES["LlamaForCausalLM"], num_hidden_layers=32)
    grown = growth.widen(small, width=2, noise=1.0)
    assert difference(small, grown.model, grown.plan) <= TOLERANCE


def test_a_miniature_writes_the_sizes_the_config_writes_and_those_that_would_be_large() -> None:
    """The example of `miniature`; and Mistral, whose class has 8 key/value heads by default, which follow
    from no other size."""
    counts = {"vocab_size": 41, "max_position_embeddings": 40, "num_hidden_layers": 2, "chunk_size_feed_forward": 0}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    for model_type, sizes in (
        ("llama", {"hidden_size": 18, "num_attention_heads": 3, "intermediate_size": 29}),
        (
            "mistral",
            {
                "hidden_size": 36,
                "num_attention_heads": 6,
                "intermediate_size": 29,
                "num_key_value_heads": 2,
                "sliding_window": 5,
            },
        ),
    ):
        raw = {"model_type": model_type, "hidden_size": 4096, "num_attention_heads": 32}
        small = dict(miniature(raw, architectures.find(model_type)))
        assert small == {"model_type": model_type, **sizes, **counts, **tokens}


def test_a_wrong_declaration_of_a_family_is_located(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first module that is off is named for families of transformers as for registered modules."""
    stock = architectures.find("llama")
    wrong = linear(NORMED, QUERIES_PER_KV * KV_HEADS * QUERY)  # queries grouped the other way
    mutant = replace(stock, modules={**stock.modules, "layers.*.self_attn.q_proj": wrong})
    monkeypatch.setitem(registry._REGISTRY, "llama", mutant)
    sizes = {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 40}
    with pytest.raises(ProofError, match=r"first module whose output is wrong is 'layers\.0\.self_attn\.o_proj'"):
        prove_twin(plan_widening(LlamaConfig(num_hidden_layers=2, vocab_size=60, **sizes), width=3))


def test_what_grows_grows_in_the_twin() -> None:
    """8 key/value heads become 9; the 2 of the miniature stayed 2, which proves nothing about them."""
    config = {
        **{"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 4096},
        **{"num_attention_heads": 32, "num_key_value_heads": 8},
    }
    plan = plan_widening(config, width=1.1)
    assert plan.new_sizes["num_key_value_heads"] == 9
    small = miniature(plan.old, plan.architecture)
    shapes, ties = expected_tensors(small, plan.model_class)
    shapes = {name: shape for name, shape in shapes.items() if name not in ties}
    twin = build_plan(small, shapes, plan.options, in_ratio_of=(plan.old_sizes, plan.new_sizes))
    grown = [{name for name, size in each.old_sizes.items() if each.new_sizes[name] > size} for each in (plan, twin)]
    assert grown[0] <= grown[1]


def test_a_wrong_role_of_one_of_two_names_of_a_matrix_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tied head is loaded after the embedding, so that the outputs do not depend on what was declared of it. A file
    keeps the embedding. Without the comparison of names, this declaration passes."""
    stock = architectures.find("llama")
    mutant = replace(stock, modules={**stock.modules, "embed_tokens": {"weight": (Keeps(), Reads(NORMED))}})
    monkeypatch.setitem(registry._REGISTRY, "llama", mutant)
    sizes = {"hidden_size": 48, "num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 40}
    config = LlamaConfig(num_hidden_layers=2, vocab_size=60, tie_word_embeddings=True, **sizes).to_dict()
    report = partial(twin_report, {**config, "architectures": ["LlamaForCausalLM"]}, chosen({"width": 2}))
    assert report().difference > TOLERANCE
    monkeypatch.setattr(twin, "names_apart", lambda *_: 0.0)
    assert report().difference <= TOLERANCE
