"""Tiny models of types that nobody declared, built by their real classes with loud weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    ApertusConfig,
    ApertusForCausalLM,
    Glm4MoeConfig,
    Glm4MoeForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Mamba2Config,
    Mamba2ForCausalLM,
    PreTrainedModel,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

from growth.proof.miniature import loud

TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TEXT = {
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "num_hidden_layers": 2,
    "tie_word_embeddings": False,
    **TOKENS,
}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}


def apertus(**changes: Any) -> PreTrainedModel:
    """An activation with parameters of its own, and norms of queries and keys."""
    sizes = {"hidden_size": 24, "intermediate_size": 40, **TEXT, **HEADS}
    return ApertusForCausalLM(ApertusConfig(**{**sizes, **changes}))


def glm4_moe(**changes: Any) -> PreTrainedModel:
    """A dense layer, then one of shared and routed experts with a correction bias."""
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "n_group": 1, "topk_group": 1}
    sizes = {"hidden_size": 24, "intermediate_size": 40, "moe_intermediate_size": 20, **TEXT, **HEADS, **experts}
    return Glm4MoeForCausalLM(Glm4MoeConfig(**{**sizes, "first_k_dense_replace": 1, **changes}))


def mamba2(**changes: Any) -> PreTrainedModel:
    """No attention: a state-space mixer with a fused input projection of five parts."""
    sizes = {
        "hidden_size": 24,
        "num_heads": 6,
        "head_dim": 8,
        "state_size": 10,
        "n_groups": 2,
        "expand": 2,
        "chunk_size": 4,
    }
    plain = {"vocab_size": 128, "num_hidden_layers": 2, "tie_word_embeddings": False, **TOKENS}
    return Mamba2ForCausalLM(Mamba2Config(**{**sizes, **plain, **changes}))


def qwen3_next(**changes: Any) -> PreTrainedModel:
    """A gated delta net, gated attention, and experts in every layer."""
    delta = {
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 6,
        "linear_value_head_dim": 8,
    }
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 20, "decoder_sparse_step": 1}
    sizes = {
        "hidden_size": 24,
        "intermediate_size": 40,
        "shared_expert_intermediate_size": 28,
        **TEXT,
        **HEADS,
        **delta,
    }
    kinds = {"layer_types": ["linear_attention", "full_attention"]}
    return Qwen3NextForCausalLM(Qwen3NextConfig(**{**sizes, **experts, **kinds, **changes}))


def llava() -> PreTrainedModel:
    """A picture tower, a projector and a Llama."""
    text = {"model_type": "llama", "hidden_size": 24, "intermediate_size": 40, **TEXT, **HEADS}
    sizes = {"hidden_size": 20, "intermediate_size": 36, "num_attention_heads": 5, "num_hidden_layers": 2}
    vision = {"model_type": "clip_vision_model", "image_size": 16, "patch_size": 8, "projection_dim": 12, **sizes}
    special = {"image_token_index": 9, "image_seq_length": 4, "vision_feature_layer": -1}
    return LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=vision, **special))


MODELS: dict[str, Callable[..., PreTrainedModel]] = {
    "apertus": apertus,
    "glm4_moe": glm4_moe,
    "mamba2": mamba2,
    "qwen3_next": qwen3_next,
    "llava": llava,
}


def tiny(name: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """One of `MODELS` with weights under which every parameter changes the outputs, in eval mode."""
    torch.manual_seed(3)
    model = MODELS[name]()
    loud(model, 5)
    return model.to(dtype=dtype).eval()  # type: ignore[call-arg, no-any-return]
