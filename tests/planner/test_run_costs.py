"""The cost of a token, beside what PyTorch counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    T5Config,
)

from growth.errors import CheckpointError, UnsupportedModelError
from growth.planner import run_costs
from growth.planner.run_costs import axis_of, cost_of

CONTEXT = 32
SIZES: dict[str, Any] = {
    **{"hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40},
    **{"num_hidden_layers": 2, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
}
DENSE: list[PreTrainedModel] = [
    LlamaForCausalLM(LlamaConfig(**SIZES)),
    LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    GPT2LMHeadModel(GPT2Config(n_embd=48, n_head=4, n_layer=2, vocab_size=64, n_positions=64, bos_token_id=1)),
    Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=16)),
]
EXPERTS: list[tuple[PreTrainedModel, int]] = [
    (MixtralForCausalLM(MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2)), 2 * 2 * 3 * 48 * 40),
    (
        Qwen2MoeForCausalLM(Qwen2MoeConfig(**SIZES, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24)),
        2 * 2 * 3 * 48 * 24,
    ),
    (
        DeepseekV3ForCausalLM(
            DeepseekV3Config(
                **{**SIZES, "num_key_value_heads": 4},
                **{"n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1},
                **{"q_lora_rank": 16, "kv_lora_rank": 16, "first_k_dense_replace": 1, "moe_intermediate_size": 24},
            )
        ),
        1 * 2 * 3 * 48 * 24,
    ),
]


def counted(model: PreTrainedModel) -> float:
    """FLOPs of a token, forward and backward, as PyTorch counts them."""
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.ones(2, CONTEXT, dtype=torch.long), use_cache=False).logits.sum().backward()
    return counter.get_total_flops() / (2 * CONTEXT)


def config_of(model: PreTrainedModel) -> dict[str, Any]:
    return {**model.config.to_dict(), "architectures": [type(model).__name__]}


@pytest.mark.parametrize("model", DENSE, ids=lambda model: type(model).__name__)
def test_flops_are_those_that_torch_counts(model: PreTrainedModel) -> None:
    assert cost_of(config_of(model), CONTEXT).flops == counted(model)


@pytest.mark.parametrize(("model", "weights"), EXPERTS, ids=lambda value: type(value).__name__)
def test_experts_that_a_token_takes(model: PreTrainedModel, weights: int) -> None:
    """PyTorch does not count the grouped product of experts; theirs are worked out by hand."""
    assert cost_of(config_of(model), CONTEXT).flops == counted(model) + 6 * weights


def test_a_count_of_all_experts_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_costs, "_CHOSEN", ())
    with pytest.raises(AssertionError):
        test_experts_that_a_token_takes(*EXPERTS[0])


def test_the_context() -> None:
    config = {**SIZES, "model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    assert cost_of({**config, "max_position_embeddings": 512}).context == 512
    assert cost_of({**config, "max_position_embeddings": 131072}).context == 2048
    longer = cost_of(config, 128).flops - cost_of(config, 64).flops
    assert longer == 12 * 2 * 64 * 48


def test_what_grows() -> None:
    config = {**SIZES, "model_type": "mixtral", "num_local_experts": 4, "architectures": ["MixtralForCausalLM"]}
    small = cost_of(config)
    changes = {
        "width": {"hidden_size": 96, "intermediate_size": 80},
        "depth": {"num_hidden_layers": 4},
        "both": {"hidden_size": 96, "num_hidden_layers": 4},
        "experts": {"num_local_experts": 8, "num_experts_per_tok": 4},
        "unknown": {"num_local_experts": 8, "hidden_size": 96},
    }
    assert {name: axis_of(small, cost_of({**config, **change})) for name, change in changes.items()} == {
        name: name for name in changes
    }
    assert axis_of(small, small) == "unknown"


def test_refusals() -> None:
    with pytest.raises(UnsupportedModelError, match=r"an encoder and a decoder.*--cost-ratio"):
        cost_of({**T5Config().to_dict(), "architectures": ["T5ForConditionalGeneration"]})
    with pytest.raises(CheckpointError, match=r"\./gone"):
        cost_of("./gone")
    with pytest.raises(UnsupportedModelError, match="--cost-ratio"):
        cost_of({**SIZES, "model_type": "llama", "hidden_act": "none such", "architectures": ["LlamaForCausalLM"]})
