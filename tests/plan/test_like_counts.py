"""``like=`` where the other model has more key/value heads, more experts, or finer ones."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import LlamaConfig, MixtralConfig, Qwen3MoeConfig

from growth import plan_widening
from growth.plan import beside
from growth.plan.plan import TOLERANCE
from growth.proof.twin import prove_twin
from support.other_models import missed
from support.size_cases import refused

SIZES: dict[str, Any] = {"vocab_size": 97, "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4}


def mixtral(**changes: Any) -> MixtralConfig:
    sizes = {**SIZES, "intermediate_size": 24, "num_key_value_heads": 2, "num_local_experts": 4}
    return MixtralConfig(**{**sizes, "num_experts_per_tok": 2, **changes}, architectures=["MixtralForCausalLM"])


def qwen3_moe(**changes: Any) -> Qwen3MoeConfig:
    sizes = {**SIZES, "intermediate_size": 24, "num_key_value_heads": 2, "head_dim": 8, "moe_intermediate_size": 16}
    return Qwen3MoeConfig(
        **{**sizes, "num_experts": 4, "num_experts_per_tok": 2, **changes}, architectures=["Qwen3MoeForCausalLM"]
    )


def llama(**changes: Any) -> LlamaConfig:
    sizes = {**SIZES, "intermediate_size": 48, "num_key_value_heads": 1}
    return LlamaConfig(**{**sizes, **changes}, architectures=["LlamaForCausalLM"])


REACHED: dict[str, tuple[Any, Any]] = {
    "more experts": (mixtral(), mixtral(num_local_experts=8, num_experts_per_tok=4)),
    "more experts, wider and deeper": (
        mixtral(),
        mixtral(
            num_local_experts=8,
            num_experts_per_tok=4,
            hidden_size=64,
            intermediate_size=48,
            num_attention_heads=8,
            num_key_value_heads=4,
            num_hidden_layers=3,
        ),
    ),
    "finer experts": (qwen3_moe(), qwen3_moe(num_experts=8, num_experts_per_tok=4, moe_intermediate_size=8)),
    "fewer queries to a key": (llama(), llama(num_key_value_heads=4)),
    "fewer queries to a key, wider": (
        llama(),
        llama(hidden_size=64, intermediate_size=96, num_attention_heads=8, num_key_value_heads=4),
    ),
}


@pytest.mark.parametrize("name", REACHED)
def test_the_other_model_is_reached(name: str) -> None:
    small, other = REACHED[name]
    plan = plan_widening(small, like=other)
    balance = {"router_aux_loss_coef"} if "experts" in name else set()  # that the balance loss stays
    assert missed(plan, other).keys() == balance
    assert sum(note.startswith("router_aux_loss_coef becomes 0.0005") for note in plan.notes) == len(balance)
    assert prove_twin(plan).difference <= TOLERANCE


def test_what_experts_cannot_become_is_refused_with_the_word_that_keeps_it() -> None:
    """As many chosen as before is another function, and half as many again are no whole copies."""
    as_many = mixtral(num_local_experts=8, intermediate_size=48)
    said = refused(mixtral(), like=as_many)
    assert said.endswith("Add --keep experts (in Python keep=('experts',)) to take all else of the other model.")
    fewer = mixtral(num_local_experts=2, num_experts_per_tok=1, intermediate_size=48)
    assert "--keep experts,experts_per_token " in refused(mixtral(), like=fewer)
    for other in (as_many, fewer):
        plan = plan_widening(mixtral(), like=other, keep=("experts", "experts_per_token"))
        assert plan.new_sizes["intermediate_size"] == 48


def test_keys_that_do_not_part_are_refused_with_the_word_that_keeps_them() -> None:
    heads = {"hidden_size": 48, "num_attention_heads": 6}
    small, other = (llama(**heads, num_key_value_heads=count, intermediate_size=24 * count) for count in (2, 3))
    assert "Add --keep kv_heads " in refused(small, like=other)
    assert plan_widening(small, like=other, keep="kv_heads").new_sizes["num_key_value_heads"] == 2


def test_experts_that_are_forgotten_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside.Beside, "experts", lambda self: iter(()))
    with pytest.raises(Exception, match="no larger"):
        test_the_other_model_is_reached("more experts")
