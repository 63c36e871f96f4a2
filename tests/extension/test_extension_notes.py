"""What a plan says of a model that has more of something, and what is refused in one sentence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DeepseekV3Config,
    MarianConfig,
    MBartForConditionalGeneration,
    MixtralConfig,
    MixtralForCausalLM,
    ModernBertConfig,
    PegasusForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

import growth
from growth.proof.twin import prove_twin
from support.optimizers import llama, step

T5 = {"vocab_size": 60, "d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 2, "num_heads": 4}


@pytest.mark.parametrize("more", [{"decoder.num_hidden_layers": 3}, {"num_layers": 3, "num_decoder_layers": 3}])
def test_a_decoder_deeper_than_its_encoder_generates_without_a_cache(more: dict[str, Any]) -> None:
    """transformers makes a T5's cache for as many layers as the encoder has."""
    model = T5ForConditionalGeneration(T5Config(**T5, decoder_start_token_id=0)).eval()
    grown = growth.widen(model, sizes=more)
    ids = torch.arange(3, 9)[None]

    def generated(one: Any, **options: Any) -> list[int]:
        found: list[int] = one.generate(input_ids=ids, max_new_tokens=5, **options)[0].tolist()
        return found

    noted = any("use_cache=False" in note for note in grown.plan.notes)
    assert noted == ("num_layers" not in more)
    assert generated(model) == generated(grown.model, **({"use_cache": False} if noted else {}))
    if noted:
        with pytest.raises(IndexError):  # else the note is no longer true
            generated(grown.model)


def test_an_untied_head_names_each_copy_with_its_own_source() -> None:
    config = BertConfig(num_hidden_layers=1, architectures=["BertForMaskedLM"])
    (note,) = (note for note in growth.plan_widening(config, untie=True).notes if "starts as a copy" in note)
    assert "cls.predictions.decoder.weight starts as a copy of bert.embeddings.word_embeddings.weight" in note
    assert "decoder.bias starts as a copy of bert" not in note


def test_experts_of_a_model_without_any() -> None:
    with pytest.raises(growth.IllegalGrowthError, match="expert"):
        growth.plan_widening(MarianConfig(encoder_layers=1, decoder_layers=1), experts=4)


def test_a_rotary_part_that_no_small_head_has() -> None:
    raw = {"model_type": "stablelm", "num_hidden_layers": 1, "partial_rotary_factor": 1e-45}
    with pytest.raises(growth.UnsupportedModelError, match="partial_rotary_factor"):
        prove_twin(growth.plan_widening(raw, width=2))


def test_an_untied_head_and_its_source_do_not_go_on_exactly() -> None:
    """Their moments are those of the sum of both gradients."""
    model = llama(tied=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    step(model, optimizer)
    grown = growth.widen(model, untie=True, optimizer=optimizer)
    assert set(grown.uneven) == {"model.embed_tokens.weight", "lm_head.weight"} and not grown.born


@pytest.mark.parametrize("kind", [MBartForConditionalGeneration, PegasusForConditionalGeneration])
def test_a_config_that_unties_the_embeddings_as_well_is_refused(kind: type[Any]) -> None:
    """The matrix that they share would be left with nothing that reads it."""
    config = kind.config_class(encoder_layers=1, decoder_layers=1, architectures=[kind.__name__])
    with pytest.raises(growth.IllegalGrowthError, match=r"unties more than the head: .*encoder\.embed_tokens\.weight"):
        growth.plan_widening(config, untie=True)


def test_the_bias_of_an_untied_head_is_the_old_one() -> None:
    config = BertConfig(
        vocab_size=60, hidden_size=24, intermediate_size=40, num_hidden_layers=1, num_attention_heads=4
    )
    grown = growth.widen(BertForMaskedLM(config), untie=True)
    new = grown.new_coordinates()
    assert new["cls.predictions.decoder.weight"].all() and not new["cls.predictions.decoder.bias"].any()
    assert any("no longer reads cls.predictions.bias" in note for note in grown.plan.notes)


@pytest.mark.parametrize(
    ("experts", "n_group", "fits"), [(16, 4, True), (16, 8, True), (16, 16, False), (8, 8, False)]
)
def test_fields_that_follow_experts_are_compared_with_what_a_growth_makes(
    experts: int, n_group: int, fits: bool
) -> None:
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "first_k_dense_replace": 1,
    }
    small, large = (
        DeepseekV3Config(
            **sizes,
            vocab_size=99,
            n_routed_experts=count,
            num_experts_per_tok=3 * count // 8,
            n_group=groups,
            topk_group=2,
        )
        for count, groups in ((8, 4), (experts, n_group))
    )
    large.hidden_size, large.topk_group = 64, 2 * experts // 8
    if not fits:
        with pytest.raises(growth.IllegalGrowthError, match="n_group"):
            growth.plan_widening(small, like=large)
        return
    plan = growth.plan_widening(small, like=large)
    assert plan.new["n_group"] == 8 and plan.new["topk_group"] == 4
    assert any("n_group becomes 8" in note for note in plan.notes) == (n_group != 8)


@pytest.mark.parametrize(
    "choice", [{"experts": 8}, {"layers": 3}, {"kv_heads": 4}, {"width": 2, "layers": 3}], ids=str
)
def test_clipping_follows_what_there_is_more_of(choice: dict[str, Any]) -> None:
    config = MixtralConfig(
        vocab_size=60,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    torch.manual_seed(0)
    model = MixtralForCausalLM(config).double().eval()
    model.set_experts_implementation("eager")
    ids = torch.arange(3, 30)[None]
    model(input_ids=ids, labels=ids).loss.backward()
    gradients = {name: value.grad for name, value in model.named_parameters()}
    grown = growth.widen(model, symmetry="none", **choice)
    grown.model(input_ids=ids, labels=ids).loss.backward()
    norms = [
        torch.stack([value.grad.norm() for value in one.parameters() if value.grad is not None]).norm()
        for one in (model, grown.model)
    ]
    factor = growth.training.clip_factor(grown, gradients)
    exact = not {"layers", "kv_heads"} & choice.keys()
    assert factor == pytest.approx(float(norms[1] / norms[0]), rel=1e-9 if exact else 0.3)
    with pytest.raises(growth.IllegalGrowthError, match="not one of the old model's"):
        growth.training.clip_factor(grown, {name: value[:1] for name, value in gradients.items() if value is not None})


def test_a_place_that_a_pattern_does_not_allow_is_refused_for_that_reason_alone() -> None:
    config = ModernBertConfig(num_hidden_layers=4, architectures=["ModernBertForMaskedLM"])
    with pytest.raises(growth.IllegalGrowthError, match=r"follows from its number\. The nearest places are"):
        growth.plan_widening(config, layers=5, insert="start")
