"""Configs whose tensors have other names or shapes on disk than in memory, and some whose have the
same."""

from __future__ import annotations

from typing import Any

IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BERT = {
    "vocab_size": 19,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 32,
    **IDS,
}
LLAMA = {**BERT, "num_key_value_heads": 1}
QWEN_MOE = {**LLAMA, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 9}
DEEPSEEK = {
    **BERT,
    "num_key_value_heads": 2,
    "q_lora_rank": 6,
    "kv_lora_rank": 5,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 6,
    "v_head_dim": 7,
    "n_routed_experts": 3,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 9,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "image_size": 8,
    "patch_size": 4,
    "num_labels": 3,
}
DINO = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_ratio": 2,
    "image_size": 8,
    "patch_size": 4,
}
QWEN_VL_MOE = {
    "text_config": {**QWEN_MOE, "head_dim": 8},
    "vision_config": {
        "depth": 1,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_heads": 2,
        "out_hidden_size": 16,
        "patch_size": 4,
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 16,
    },
}
WHISPER = {
    "vocab_size": 19,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "num_mel_bins": 8,
    "decoder_start_token_id": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 12,
    "decoder_ffn_dim": 12,
    "max_source_positions": 12,
    "max_target_positions": 12,
    **IDS,
}

CASES: list[tuple[str, dict[str, Any], dict[str, tuple[int, ...]]]] = [
    (
        "MixtralForCausalLM",
        {**LLAMA, "num_local_experts": 12},  # 10 comes after 9, not after 1
        {
            "model.layers.1.block_sparse_moe.experts.11.w1.weight": (12, 16),
            "model.layers.1.block_sparse_moe.experts.11.w2.weight": (16, 12),
            "model.layers.1.block_sparse_moe.experts.11.w3.weight": (12, 16),
            "model.layers.1.block_sparse_moe.gate.weight": (12, 16),
        },
    ),
    *(
        (
            model_class,
            config,
            {
                "model.layers.1.mlp.experts.2.gate_proj.weight": (size, 16),
                "model.layers.1.mlp.experts.2.up_proj.weight": (size, 16),
                "model.layers.1.mlp.experts.2.down_proj.weight": (16, size),
            },
        )
        for model_class, size, config in (
            ("Qwen2MoeForCausalLM", 9, {**QWEN_MOE, "shared_expert_intermediate_size": 10, "mlp_only_layers": [0]}),
            ("Qwen3MoeForCausalLM", 9, QWEN_MOE),
            ("OlmoeForCausalLM", 12, {**LLAMA, "num_experts": 3, "num_experts_per_tok": 2}),
            ("DeepseekV2ForCausalLM", 9, DEEPSEEK),
            ("DeepseekV3ForCausalLM", 9, DEEPSEEK),
        )
    ),
    (
        "GraniteMoeForCausalLM",
        {**LLAMA, "num_local_experts": 3, "num_experts_per_tok": 2},
        {
            "model.layers.1.block_sparse_moe.input_linear.weight": (3, 24, 16),
            "model.layers.1.block_sparse_moe.output_linear.weight": (3, 16, 12),
            "model.layers.1.block_sparse_moe.router.layer.weight": (3, 16),
        },
    ),
    ("GptOssForCausalLM", {**LLAMA, "num_local_experts": 3, "num_experts_per_tok": 2, "head_dim": 8}, {}),
    ("Qwen3VLMoeForConditionalGeneration", QWEN_VL_MOE, {}),  # a converter matches, and has nothing to do
    ("LlamaForCausalLM", LLAMA, {}),
    ("LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": True}, {}),
    ("BertModel", BERT, {}),
    ("BertForMaskedLM", BERT, {}),
    (
        "EsmForMaskedLM",
        {**BERT, "position_embedding_type": "rotary", "mask_token_id": 3},
        {
            "esm.encoder.layer.1.attention.LayerNorm.gamma": (16,),
            "esm.encoder.layer.1.LayerNorm.beta": (16,),
            "esm.encoder.layer.*.attention.self.rotary_embeddings.inv_freq": (4,),  # sic
        },
    ),
    ("GPTNeoXForCausalLM", BERT, {"embed_out.weight": (19, 16)}),
    ("CLIPModel", {"text_config": {**BERT, "projection_dim": 6}, "vision_config": VIT, "projection_dim": 6}, {}),
    ("CLIPTextModel", BERT, {}),
    (
        "ViTForImageClassification",
        VIT,
        {
            "vit.encoder.layer.1.attention.attention.query.weight": (16, 16),
            "vit.encoder.layer.1.attention.output.dense.weight": (16, 16),
            "vit.encoder.layer.1.intermediate.dense.weight": (12, 16),
            "vit.encoder.layer.1.output.dense.weight": (16, 12),
        },
    ),
    ("WhisperForConditionalGeneration", WHISPER, {}),
    ("XLNetLMHeadModel", {"vocab_size": 19, "d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 12}, {}),
    ("Dinov2Model", DINO, {"encoder.layer.1.attention.attention.query.weight": (16, 16)}),
    (
        "Dinov2ForImageClassification",
        {**DINO, "use_swiglu_ffn": True},
        {
            "dinov2.encoder.layer.1.mlp.weights_in.weight": (48, 16),
            "dinov2.encoder.layer.1.mlp.weights_out.weight": (16, 24),
        },
    ),
]
"""(class, config, some of the names that exist on disk only -> their shapes); no names for a class whose
tensors are the same in memory."""
