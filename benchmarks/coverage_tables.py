"""Small values for the config fields of every model type of transformers, by the name of the field: what
`coverage_models.py` makes tiny models of. Nothing here is read by the library, nor taken from it, so that the models
that are grown are not those that a growth was inferred on."""

from __future__ import annotations

VOCABULARY, HIDDEN, HEADS, GROUPS, HEAD, INNER, LAYERS = 97, 32, 4, 2, 8, 44, 2

_NAMES: list[tuple[int, str]] = [
    (
        HIDDEN,
        "hidden_size d_model n_embd dim emb_dim embed_dim word_embed_proj_dim out_hidden_size text_hidden_size "
        "encoder_hidden_size output_hidden_size cross_attention_hidden_size attention_hidden_size lru_width "
        "embedding_dim vision_output_dim pooler_hidden_size pooler_output_size decoder_hidden_size "
        "backbone_hidden_size projector_input_dim projector_output_dim hidden_size_global hidden_size_local "
        "patch_embed_hidden_size image_text_hidden_size text_dim true_hidden_size vision_embed_dim "
        "encoder_hidden_dim audio_hidden_size vision_hidden_size output_embedding_size adapter_out_dim",
    ),
    (
        16,
        "projection_dim embedding_size entity_emb_size input_embedding_size hidden_size_per_layer_input "
        "classifier_proj_size xvector_output_dim codevector_dim proj_codevector_dim projector_hidden_size "
        "projection_size intra_bottleneck_size pronunciation_embed_dim shape_embed_dim embedding_rank adapter_rank "
        "router_hidden_size ple_embed_dim kv_lora_rank o_lora_rank image_size resolution num_conv_pos_embeddings "
        "hidden_dim_conv subsampling_conv_channels num_negatives num_codevectors_per_group d_latents",
    ),
    (
        HEADS,
        "num_attention_heads n_head num_heads n_heads encoder_attention_heads decoder_attention_heads attention_heads "
        "num_encoder_attention_heads num_decoder_attention_heads num_key_value_heads_vision swa_num_attention_heads "
        "speech_encoder_attention_heads t2u_encoder_attention_heads t2u_decoder_attention_heads "
        "encoder_num_attention_heads decoder_num_attention_heads conf_num_attention_heads num_self_attention_heads "
        "num_cross_attention_heads resampler_n_heads encoder_num_heads",
    ),
    (
        GROUPS,
        "num_key_value_heads num_kv_heads kv_n_heads swa_num_key_value_heads num_query_groups "
        "encoder_num_key_value_heads decoder_num_key_value_heads num_key_value_heads_global "
        "num_global_key_value_heads",
    ),
    (
        HEAD,
        "head_dim d_kv qk_nope_head_dim v_head_dim index_head_dim attention_head_dim dim_head attention_head_size "
        "d_head swa_head_dim linear_key_head_dim linear_value_head_dim kv_channels linear_head_dim mamba_d_head "
        "mamba_head_dim mamba_headdim global_head_dim encoder_head_dim decoder_head_dim resampler_head_dim "
        "resampler_dim_head swa_v_head_dim sliding_window window_size local_attention attention_window_size "
        "sliding_window_size attention_chunk_size mamba_chunk_size chunk_size index_topk num_position_embeddings "
        "attention_window mamba_d_state state_size ssm_state_size mamba_n_heads mamba_num_heads n_mamba_heads "
        "num_mel_bins rel_extent emb_per_head",
    ),
    (
        4,
        "qk_rope_head_dim rotary_dim linear_num_value_heads linear_num_heads d_rel laurel_rank patch_size num_experts "
        "num_local_experts n_routed_experts moe_num_experts num_codebooks num_landmarks num_query_tokens num_latents "
        "num_residual_layers n_experts moe_n_experts expert_capacity latent_query_num resampler_n_latents "
        "num_conv_pos_embedding_groups",
    ),
    (12, "q_lora_rank qk_head_dim"),
    (
        INNER,
        "intermediate_size d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim hidden_dim dim_ff dff d_inner ffn_hidden_size "
        "feed_forward_size mlp_dim intermediate_size_mlp dense_intermediate_size n_inner shared_intermediate_size "
        "speech_encoder_intermediate_size t2u_encoder_ffn_dim t2u_decoder_ffn_dim ffn_intermediate_size "
        "encoder_ffn_hidden_size double_wide_mlp_size",
    ),
    (
        20,
        "moe_intermediate_size shared_expert_intermediate_size moe_shared_expert_intermediate_size "
        "expert_ffn_hidden_size expert_intermediate_size moe_latent_size shared_experts_intermediate_size",
    ),
    (
        LAYERS,
        "num_hidden_layers n_layer num_layers n_layers encoder_layers decoder_layers num_encoder_layers "
        "num_decoder_layers depth layers speech_encoder_layers t2u_encoder_layers t2u_decoder_layers "
        "conf_num_hidden_layers resampler_depth encoder_num_hidden_layers decoder_num_hidden_layers num_blocks "
        "num_global_layers aligner_num_add_layers num_self_attends_per_block num_transformer_layers "
        "num_layers_per_stack linear_num_key_heads index_n_heads num_experts_per_tok moe_topk moe_k moe_top_k "
        "num_experts_per_token top_k_experts experts_per_token num_selected_experts n_group num_expert_group "
        "time_step_rank mamba_dt_rank",
    ),
    (
        VOCABULARY,
        "vocab_size decoder_vocab_size src_vocab_size tgt_vocab_size codebook_size vocab_size_per_layer_input "
        "t2u_vocab_size char_vocab_size audio_vocab_size unpadded_vocab_size num_embeddings encoder_vocab_size "
        "entity_vocab_size pronunciation_vocab_size shape_vocab_size unit_hifi_gan_vocab_size",
    ),
    (
        64,
        "max_position_embeddings n_positions n_ctx max_seq_len max_sequence_length max_source_positions "
        "max_target_positions max_encoder_position_embeddings max_decoder_position_embeddings context_length "
        "original_max_position_embeddings model_max_length max_2d_position_embeddings position_embedding_size "
        "log_scaling_n_floor mamba_d_ssm mamba_intermediate_size",
    ),
    (
        1,
        "topk_group n_shared_experts num_shared_experts moe_num_shared_experts first_k_dense_replace num_dense_layers "
        "zero_expert_num decoder_sparse_step interleave_moe_layer_step moe_layer_start_index expert_layer_period "
        "encoder_sparse_step num_kv_shared_layers mamba_n_groups mamba_ngroups n_groups o_groups",
    ),
    (0, "expert_layer_offset num_nextn_predict_layers mtp_num_hidden_layers num_mtp_layers"),
]

SMALL: dict[str, int] = {name: value for value, names in _NAMES for name in names.split()}
"""Field -> its value in a tiny model."""
