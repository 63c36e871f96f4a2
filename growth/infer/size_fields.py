"""Names of config fields by what they measure. These are names that configs of all kinds share; what
a field does in one model is found by building it."""

from __future__ import annotations

HIDDEN = ("hidden_size", "d_model", "n_embd", "embed_dim", "dim", "word_embed_proj_dim", "output_hidden_size")
"""The width of a stream. The first that a section has is its own; one of the same value follows it."""

HEAD_DIMS = ("head_dim", "d_kv", "qk_nope_head_dim", "kv_channels", "attention_head_dim", "qk_head_dim")
"""A section that has one of these says how wide a head is, so that the hidden size is free of it."""

HEAD_PAIRS = (
    ("num_attention_heads", "num_key_value_heads"),
    ("swa_num_attention_heads", "swa_num_key_value_heads"),
    ("linear_num_value_heads", "linear_num_key_heads"),
    ("num_heads", "num_key_value_heads"),
    ("n_head", "num_kv_heads"),
    ("n_heads", "n_kv_heads"),
    ("num_attention_heads", "num_global_key_value_heads"),
    ("num_sliding_attention_heads", "num_key_value_heads"),
    ("attention_heads", ""),
    ("encoder_attention_heads", ""),
    ("decoder_attention_heads", ""),
    ("linear_num_heads", ""),
    ("mamba_num_heads", "n_groups"),
    ("resampler_n_heads", "num_key_value_heads"),
    ("resampler_heads", ""),
    ("conf_num_attention_heads", ""),
    ("attention_heads", "kv_heads"),
)
"""Counts of heads, each with the count of the heads or groups that share a key and value."""

FEED_FORWARD = (
    "intermediate_size",
    "d_ff",
    "ffn_dim",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "mlp_dim",
    "n_inner",
    "intermediate_size_mlp",
    "dense_intermediate_size",
    "ffn_hidden_size",
)
EXPERT = (
    "moe_intermediate_size",
    "shared_intermediate_size",
    "shared_expert_intermediate_size",
    "moe_shared_expert_intermediate_size",
    "shared_experts_intermediate_size",
    "share_expert_dim",
    "expert_intermediate_size",
    "moe_hidden_size",
)
"""Widths inside a block, which nothing outside it sees."""

INTO_TEXT = ("out_hidden_size", "text_hidden_size", "output_dim", "adapter_out_dim", "text_dim", "decoder_hidden_size")
"""Fields of a section for images or sound that say how wide the text is, which it writes into."""

OUTER_ENDS = ("hidden_size", "_size", "_dim", "_width", "hidden_dim", "input_size", "embed_dim")
OUTER_NOT = (
    "vocab_size",
    "patch_size",
    "image_size",
    "window_size",
    "chunk_size",
    "kernel_size",
    "context_size",
    "block_size",
    "head_dim",
    "stride_size",
    "merge_size",
    "grid_size",
    "channel_size",
    "feat_size",
    "feature_size",
    "codebook_size",
    "embedding_size",
    "patch_dim",
    "cache_size",
    "model_parallel_size",
    "qk_rope_head_dim",
    "sequence_length_size",
    "max_state_dim",
    "max_action_dim",
    "stride",
    "input_dim",
)
"""How the names of fields that are widths end, and endings of those that are not."""


def is_width(name: str) -> bool:
    """Whether a field of this name says how wide something is.

    Example:
        >>> is_width("projector_hidden_size"), is_width("vocab_size")
        (True, False)
    """
    known = {*HIDDEN, *FEED_FORWARD, *EXPERT, *INTO_TEXT}
    return name in known or (name.endswith(OUTER_ENDS) and not name.endswith(OUTER_NOT))
