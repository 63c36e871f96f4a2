"""What the names of config fields do not say of the tiny models of `coverage_models.py`, by model type: sizes that a
class ties, towers that a default config lacks, tokens under other names."""

from __future__ import annotations

from typing import Any

_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_HEADS_OF_8 = {"num_heads": 8, "head_dim": 8}
_CHUNKS = {
    "axial_pos_shape": [8, 8],
    "axial_pos_embds_dim": [16, 16],
    "attn_layers": ["local", "lsh"],
    "num_buckets": 4,
    "is_decoder": True,
    "local_attn_chunk_length": 8,
    "lsh_attn_chunk_length": 8,
}
_TWICE = {"attention_hidden_size": 64, "attention_head_dim": 16}
_CONTEXT = {"context_size": 16}

OVER: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "bit": {"num_groups": 8, "embedding_size": 16},
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "codestral_mamba": _HEADS_OF_8,
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE},
    },
    "convbert": {"embedding_size": 32},
    "cvt": {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 4]},
    "deepseek_ocr2_encoder": {"layer_types": ["full_attention"] * 2},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"]},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "donut-swin": {"num_heads": [2, 4, 4, 8]},
    "dots1": {
        **{"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
        **{"moe_intermediate_size": 20, "first_k_dense_replace": 1},
    },
    "dots3_note_text": {
        "per_layer_config": {
            "1": {"kv_lora_rank": 8, "num_attention_heads": 2, "num_key_value_heads": 2, "qk_nope_head_dim": 4}
        },
    },
    "efficientnet": {"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 64},
    "esm": {"pad_token_id": 1, "mask_token_id": 5, "position_embedding_type": "rotary", "vocab_size": 97},
    "esmc": {"num_key_value_heads": 4},
    "falcon_mamba": {"intermediate_size": 64},
    "flint": {"mlp_only_layers": [0]},
    "funnel": {"block_sizes": [1, 1], "block_repeats": [1, 1], "num_decoder_layers": 1},
    "gemma3n_text": {
        **{"num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0, 0.0]},
        **{"layer_types": ["sliding_attention", "full_attention"]},
    },
    "glm5_next_text": {"num_key_value_heads": 4, "index_topk": 16, "index_kpool": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "granite_speech5_ctc": _CONTEXT,
    "granite_speech5_ctc_encoder": _CONTEXT,
    "granite_speech5_encoder": _CONTEXT,
    "hunyuan_v1_dense": {"rope_parameters": _ROPE, "head_dim": 8},
    "hunyuan_v1_moe": {
        **{"rope_parameters": _ROPE, "head_dim": 8, "num_experts": 4, "moe_topk": 2, "moe_intermediate_size": 20},
    },
    "hunyuan_vl_text": {"rope_parameters": _ROPE, "head_dim": 8},
    "inkling2_text": {"n_layers_per_attn_res_block": 1},
    "jamba": {
        **{"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
        **{"num_hidden_layers": 4, "mamba_expand": 2},
    },
    "laguna": {"num_attention_heads_per_layer": [4, 4]},
    "led": {"attention_window": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "rope_parameters": _ROPE},
    "longformer": {"attention_window": 8},
    "mamba": {"intermediate_size": 64},
    "mamba2": {**_HEADS_OF_8, "n_groups": 2},
    "mimi": {"codebook_size": 64},
    "ministral": {"rope_parameters": _ROPE, "head_dim": 8},
    "mistral4": {"qk_nope_head_dim": 4, "qk_head_dim": 8, "head_dim": 8},
    "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16, "hidden_size": 32},
    "nemotron": {"num_key_value_heads": 2},
    "nystromformer": {"segment_means_seq_len": 4, "num_landmarks": 4},
    "olmo_hybrid": {"linear_num_key_heads": 4, "linear_num_value_heads": 4, "linear_value_head_dim": 16},
    "pvt": {"num_attention_heads": [1, 2, 4, 4]},
    "pvt_v2": {"num_attention_heads": [1, 2, 4, 4]},
    "qwen4_exp_text": {
        **{"num_key_value_heads": 2, "num_attention_heads": 4, "head_dim": 24, "indexer_budget": 8},
        **{"indexer_compress_ratio": 2, "indexer_head_dim": 24, "indexer_kv_heads": 1, "indexer_n_heads": 4},
        **{"hc_lowrank": 8, "ngram_vocab_size_base": 97, "split_ngram_parts": 1},
    },
    "reformer": _CHUNKS,
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 32},
    "roformer": {"embedding_size": 32},
    "squeezebert": {"embedding_size": 32, "intermediate_size": 48},
    "swinv2": {"num_heads": [2, 4, 4, 8], "window_size": 4, "image_size": 64},
    "wav2vec2-bert": {"vocab_size": 97},
    "wav2vec2-conformer": {"vocab_size": 97},
    "xlstm": {"num_heads": 4, "num_blocks": 2},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        **{"layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"], "num_hidden_layers": 4},
        **_TWICE,
    },
    "zamba2": {
        **{"layers_block_type": ["linear_attention", "hybrid"], "hybrid_layer_ids": [1], "mamba_headdim": 16},
        **{"n_mamba_heads": 4, "num_key_value_heads": 4, **_TWICE},
    },
    "zaya": {"num_experts_per_tok": 1},
}
"""Type of a section -> fields whose value does not follow from their name."""

_AXES = {"text_config.rope_parameters": {**_ROPE, "mrope_section": [2, 1, 1]}}

DEEP: dict[str, dict[str, Any]] = {
    "qwen3_asr": {"audio_config.output_dim": 32},
    "hunyuan_vl": {"im_start_id": 5, "im_end_id": 6, "im_newline_id": 7},
    "fun_asr_nano": {"adaptor_config.intermediate_size": 8, "adaptor_config.hidden_size": 32},
    "unlimited_ocr": {
        "vision_config.sam_config.downsample_channels": [16, 32],
        "vision_config.sam_config.output_channels": 16,
    },
    "deepseek_ocr2": {
        "vision_config.sam_config.downsample_channels": [16, 32],
        "vision_config.sam_config.output_channels": 16,
        "text_config.num_experts_per_tok": 2,
    },
    "minicpmv4_7": {"image_token_id": 5},
    "minicpmv4_6": {"image_token_id": 5},
    "minicpm_ocr": {"image_token_id": 5},
    "qwen3_omni_moe_thinker": {"vision_start_token_id": 6, "vision_end_token_id": 7},
    "mllama": {
        **{"vision_config.intermediate_layers_indices": [0, 1], "vision_config.vision_output_dim": 96},
        **{"text_config.cross_attention_layers": [1]},
    },
    "muse_glimmer": {"out_hidden_size": 128},
    "llama4": {
        **{"vision_config.intermediate_size": 128, "vision_config.vision_output_dim": 24},
        **{"vision_config.projector_input_dim": 24, "vision_config.projector_output_dim": 24},
    },
    "granite_speech_plus": {"encoder_config.input_dim": 16, "encoder_config.hidden_dim": 32},
    "granite_speech": {"encoder_config.input_dim": 16, "encoder_config.hidden_dim": 32},
    "kimi_k25": {"projection_hidden_size": 32},
    "step3p7": {"text_config.sliding_window": 8},
    "voxtral": {"audio_config.intermediate_size": 128, "audio_token_id": 5},
    "musicflamingo": {"audio_config.intermediate_size": 128},
    "glmasr": {"audio_config.intermediate_size": 128},
    "deepseek_vl_hybrid": {
        "high_res_vision_config.output_channels": 16,
        "high_res_vision_config.global_attn_indexes": [0, 1],
    },
    "vipllava": {"vision_feature_layers": [-2, -1]},
    "t5gemma2": {"encoder.mm_tokens_per_image": 4},
    "shieldgemma2": {"mm_tokens_per_image": 4},
    "ovis2": {"visual_indicator_token_ids": [91, 92, 93, 94, 95]},
    "instructblipvideo": {"video_token_index": 5},
    "instructblip": {"image_token_index": 5},
    "blip-2": {"image_token_index": 5},
    "aria": {"projector_patch_to_query_dict": {"16": 4, "64": 8}},
    "llava_onevision": {"image_grid_pinpoints": [[32, 16], [16, 32], [32, 32]]},
    "llava_next_video": {"image_grid_pinpoints": [[32, 16], [16, 32], [32, 32]]},
    "llava_next": {"image_grid_pinpoints": [[32, 16], [16, 32], [32, 32]]},
    "blt": {"encoder_hash_byte_group_vocab": 97},
    "chameleon": {
        **{"vocabulary_map": {"<image>": 5, "IMGIMGAZ": 6, "IMGIMGBZ": 7}},
        **{"vq_config.base_channels": 32, "vq_config.channel_multiplier": [1, 2], "vq_config.resolution": 16},
        **{"vq_config.num_embeddings": 2, "vq_config.latent_channels": 16, "vq_config.embed_dim": 16},
    },
    "dbrx": {"attn_config.rope_theta": 10000.0, "attn_config.clip_qkv": 8.0},
    "diffusion_gemma": {
        **{"text_config.num_experts": 4, "text_config.top_k_experts": 2, "text_config.moe_intermediate_size": 20},
    },
    "dots3_note": {"vision_config.adapter_in_dim": 32, "audio_config.adapter_input_size": 32},
    "emu3": {
        **{"vocabulary_map": {"<image>": 5, "IMGIMGAZ": 6}},
        **{"vq_config.base_channels": 32, "vq_config.channel_multiplier": [1, 2], "vq_config.hidden_size": 64},
    },
    "ernie4_5_vl_moe": {"text_config.rope_parameters.mrope_section": [1, 1, 2]},
    "gemma3": {"mm_tokens_per_image": 4},
    "florence2": {
        "vision_config.projection_dim": 32,
        "vision_config.embed_dim": [16, 32, 48, 64],
        "vision_config.depths": [1, 1, 1, 1],
    },
    "granite4_vision": {
        **{
            "deepstack_layer_map": [[1, 0]],
            "downsample_rate": "1/2",
            "spatial_target_layers": [1],
            "image_grid_pinpoints": [[32, 16], [16, 32]],
        },
        **{"vision_config.hidden_size": 64, "qformer_config.encoder_hidden_size": 64},
        **{"qformer_config.hidden_size": 64},
    },
    "janus": {
        **{"vq_config.base_channels": 32, "vq_config.channel_multiplier": [1, 2], "vq_config.latent_channels": 16},
        **{"vq_config.num_embeddings": 16, "vq_config.image_token_embed_dim": 32, "vq_config.projection_dim": 32},
        **{"vision_config.projection_dim": 32},
    },
    "kyutai_speech_to_text": {"codebook_size": 64},
    "molmo2": {
        "image_patch_id": 5,
        "vision_config.image_size": [16, 16],
        "vision_config.num_position_embeddings": 16,
        "adapter_config.vision_feature_layer": [1, 0],
    },
    "glm46v": _AXES,
    "glm4v": _AXES,
    "glm_ocr": _AXES,
    "glmga": _AXES,
    "paddleocr_vl": _AXES,
    "qwen2_5_omni_thinker": {
        "audio_config.output_dim": 32,
        **_AXES,
        "vision_start_token_id": 6,
        "vision_end_token_id": 7,
    },
    "qwen2_5_vl": _AXES,
    "qwen2_vl": _AXES,
    "glm4v_moe": {"text_config.rope_parameters": {**_ROPE, "mrope_section": [1, 1, 0], "partial_rotary_factor": 0.5}},
    "moonshine_streaming": {"num_key_value_heads": 4},
    "muse_spark": {
        "out_hidden_size": 128,
        "audio_config.num_hidden_layers": 4,
        "text_config.layer_rope_theta": [500000.0, 0],
    },
    "nemotron_h_omni": {"image_token_id": 5, "vision_config.max_img_size": 64, "vision_config.patch_dim": 48},
    "neomme": {"head_dim": 16},
}
"""Model type -> path in its whole config -> value."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma4": {"vision_config": {}, "audio_config": {}},
    "gemma4_unified": {"vision_config": {}, "audio_config": {}},
    "gemma4_assistant": {
        "text_config": {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0, "num_kv_shared_layers": 30}
    },
}
"""Model type -> what its default config lacks: towers, or what it cannot be made without."""
