"""BART: post-norm encoder and decoder of one residual width, learned positions, a bias on the
logits.

No final norm follows the last decoder layer: that layer's last norm leaves into what the head
reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    FIXED_EPSILON,
    HEAD_LAWS,
    POOLED,
    RESIDUAL,
    Architecture,
    Axis,
    Dual,
    Keeps,
    LayerNorm,
    Rule,
    Scaled,
    Size,
    Sizes,
    Space,
    attention,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    stack_sizes,
    tower_constant,
    under,
    within,
)

EMBEDDED = Space("embedded", "hidden_size")
"""What the token tables write, before ``scale_embedding`` multiplies it by sqrt(d_model)."""


def stack(name: str, reads: Axis, memory: Axis, stream: Space = RESIDUAL) -> dict[str, Rule]:
    """All layers of the encoder or the decoder, whose heads and hidden layers are separate spaces.

    Args:
        name: which of the two.
        reads: what the sub-layers read: the residual stream in a post-norm model, the output of a
            norm in a pre-norm model.
        memory: what the decoder's cross-attention reads.
        stream: the residual stream.
    """
    rules = under("self_attn", _attention(reads, None, stream))
    rules |= feed_forward(("fc1",), "fc2", reads=reads, writes=stream)
    normed = ["self_attn_layer_norm", "final_layer_norm"]
    if name == "decoder":
        rules |= under("encoder_attn", _attention(reads, memory, stream))
        normed.append("encoder_attn_layer_norm")
    rules |= dict.fromkeys(normed, norm(stream, reads))
    shared = {stream, *reads.spaces(), *memory.spaces()}
    return {f"{name}.layers.*.{module}": within(f"{name}.", rule, shared) for module, rule in rules.items()}


def _attention(reads: Axis, memory: Axis | None, stream: Axis) -> dict[str, Rule]:
    return attention("q_proj", "k_proj", "v_proj", "out_proj", reads=reads, writes=stream, keys_read=memory)


TABLES: dict[str, Rule] = {
    **dict.fromkeys(("shared", "encoder.embed_tokens", "decoder.embed_tokens"), embedding(EMBEDDED)),
    **dict.fromkeys(("encoder.embed_positions", "decoder.embed_positions"), embedding(RESIDUAL)),
}


HEADS: dict[str, Rule] = {
    "": {"final_logits_bias": (Keeps(), Keeps())},
    "lm_head": linear(FINAL),
    "classification_head.dense": linear(FINAL, POOLED),
    "classification_head.out_proj": linear(POOLED),
    "qa_outputs": linear(FINAL),
}


def _last_norm(architecture: Architecture, config: Any) -> Architecture:
    """The last norm of the decoder leaves into FINAL."""
    last = (
        f"decoder.layers.{config.decoder_layers - 1}.final_layer_norm"
        if config.decoder_layers
        else "decoder.layernorm_embedding"
    )
    return replace(architecture, modules={**architecture.modules, last: norm(RESIDUAL, FINAL)})


def embedding_scale(config: Any, sizes: Sizes) -> float:
    return float(sizes["hidden_size"] ** 0.5) if config.scale_embedding else 1.0


STACK_LAWS = {
    **within("encoder.", {**FFN_LAWS, **attention_laws()}),
    **within("decoder.", {**FFN_LAWS, **attention_laws()}),
}


BART = Architecture(
    model_type="bart",
    modules={
        **TABLES,
        **dict.fromkeys(("encoder.layernorm_embedding", "decoder.layernorm_embedding"), norm(RESIDUAL, RESIDUAL)),
        **stack("encoder", RESIDUAL, RESIDUAL),
        **stack("decoder", RESIDUAL, RESIDUAL),
        **HEADS,
    },
    laws={
        RESIDUAL: LayerNorm(),
        EMBEDDED: Scaled(RESIDUAL, "embedding_scale"),
        FINAL: Dual(EMBEDDED),
        POOLED: HEAD_LAWS[POOLED],
        **STACK_LAWS,
    },
    outputs={
        "last_hidden_state": FINAL,
        "encoder_last_hidden_state": RESIDUAL,
        "hidden_states": RESIDUAL,
        "encoder_hidden_states": RESIDUAL,
        "decoder_hidden_states": RESIDUAL,
    },
    epsilon=1e-5,
    prefixes=("model",),
    sizes={
        "hidden_size": Size("d_model", small=18),
        **stack_sizes("encoder", "encoder_ffn_dim", "encoder_attention_heads", small=(29, 3)),
        **stack_sizes("decoder", "decoder_ffn_dim", "decoder_attention_heads", small=(31, 2)),
    },
    for_config=_last_norm,
    constants={
        "embedding_scale": embedding_scale,
        "encoder.attention_scale": tower_constant("encoder.", attention_scale),
        "decoder.attention_scale": tower_constant("decoder.", attention_scale),
    },
    vouched={
        "activation_function": None,
        "scale_embedding": None,
        **dict.fromkeys(
            ("dropout", "attention_dropout", "activation_dropout", "classifier_dropout", "classif_dropout")
        ),
        **dict.fromkeys(
            ("encoder_layers", "decoder_layers", "encoder_layerdrop", "decoder_layerdrop", "init_std", "is_decoder")
        ),
        # From a config class that this family shared with its relatives.
        "normalize_before": (False,),
        "normalize_embedding": (True,),
        "add_final_layer_norm": (False,),
        "static_position_embeddings": (False,),
        "add_bias_logits": (False,),
        "extra_pos_embeddings": None,
        "save_step": None,
        "force_bos_token_to_be_generated": None,
    },
    buffers=("encoder.version", "decoder.version"),
    refuses=(FIXED_EPSILON,),
    branches=({}, {"scale_embedding": True, "activation_function": "relu", "tie_word_embeddings": False}),
)
