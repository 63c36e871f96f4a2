"""OPT: a decoder with learned positions. LayerNorm comes before each sub-layer (after it in one
size), with or without gains. Embeddings may be narrower than the residual stream, with a
projection at either end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    FIXED_EPSILON,
    NORMED,
    RESIDUAL,
    Architecture,
    Asked,
    Axis,
    Dual,
    LayerNorm,
    Linear,
    Normalised,
    Refusal,
    Rule,
    Size,
    Space,
    Times,
    TwinContext,
    UnsupportedModelError,
    attention,
    attention_laws,
    attention_scale,
    embedding,
    feed_forward,
    linear,
    norm,
    standard_sizes,
    under,
)

EMBEDDED = Space("embedded", "word_embed_proj_dim")


PROJECTED = Space("projected", "word_embed_proj_dim")


_EPSILON = 1e-5


def _layer(reads: Space, leaves: Space) -> dict[str, Rule]:
    """One layer.

    Args:
        reads: what a sub-layer reads: the output of a norm before it, or the residual stream.
        leaves: what a norm writes: the input of a sub-layer, or the residual stream.
    """
    modules = {
        **{
            f"self_attn.{n}": r
            for n, r in attention("q_proj", "k_proj", "v_proj", "out_proj", reads=reads, writes=RESIDUAL).items()
        },
        "self_attn_layer_norm": norm(RESIDUAL, leaves),
        **feed_forward(("fc1",), "fc2", reads=reads, writes=RESIDUAL),
        "final_layer_norm": norm(RESIDUAL, leaves),
    }
    return under("decoder.layers.*", modules)


def _ends(embedded: Axis, projected: Axis) -> dict[str, Rule]:
    return {
        "decoder.embed_tokens": embedding(embedded),
        "decoder.embed_positions": embedding(RESIDUAL),
        "lm_head": linear(projected),
        "score": linear(projected),
        "qa_outputs": linear(projected),
    }


def _keeps_scale_one(asked: Asked) -> bool:
    """Whether nothing turns one scale of the residual stream into another, so that none is chosen."""
    return not (asked.config.do_layer_norm_before or asked.config.layer_norm_elementwise_affine)


def _ties_a_head_without_gain(config: Any) -> bool:
    """Whether the head is the embedding, and reads what no norm with a gain has left."""
    factorised = config.word_embed_proj_dim != config.hidden_size
    normed = config.layer_norm_elementwise_affine and not (
        config.do_layer_norm_before and config._remove_final_layer_norm
    )
    return (
        config.tie_word_embeddings and "OPTForCausalLM" in (config.architectures or ()) and not (factorised or normed)
    )


def _layout(architecture: Architecture, config: Any) -> Architecture:
    """Norms before or after sub-layers, with or without gains, with or without a final one;
    factorised embeddings or not."""
    before, gains = config.do_layer_norm_before, config.layer_norm_elementwise_affine
    factorised = config.word_embed_proj_dim != config.hidden_size
    modules = _layer(NORMED, NORMED) if before else _layer(RESIDUAL, RESIDUAL)
    end = RESIDUAL
    if before and not config._remove_final_layer_norm:
        end = FINAL
        modules["decoder.final_layer_norm"] = norm(RESIDUAL, FINAL)
    elif not before and gains and not factorised:
        end = FINAL
        modules[f"decoder.layers.{config.num_hidden_layers - 1}.final_layer_norm"] = norm(RESIDUAL, FINAL)
    if factorised:
        modules |= {**_ends(EMBEDDED, PROJECTED), "decoder.project_in": linear(EMBEDDED, RESIDUAL)}
        modules["decoder.project_out"] = linear(end, PROJECTED)
    else:
        modules |= _ends(RESIDUAL, end)
        if _ties_a_head_without_gain(config):
            raise UnsupportedModelError(
                "the opt config ties the head to the embedding, with no gain between the last norm and the head that "
                "could carry the "
                "1/count of a tied matrix. Untie it first: tie_word_embeddings false, lm_head.weight a copy of the "
                "embedding."
            )
    laws, width = dict(architecture.laws), architecture.sizes["word_embed_proj_dim"]
    if not gains:
        laws |= (
            {NORMED: Normalised(RESIDUAL), FINAL: Normalised(RESIDUAL)}
            if before
            else {RESIDUAL: LayerNorm(elementwise=True)}
        )
    outputs = {"hidden_states": RESIDUAL, "last_hidden_state": PROJECTED if factorised else end}
    sizes = {**architecture.sizes, "word_embed_proj_dim": width if factorised else replace(width, grows="follows")}
    return replace(architecture, modules=modules, laws=laws, outputs=outputs, sizes=sizes)


def _small_embedding(user: TwinContext) -> int:
    return user.small["hidden_size"] if user.sizes["word_embed_proj_dim"] == user.sizes["hidden_size"] else 13


OPT = Architecture(
    model_type="opt",
    modules={**_layer(NORMED, NORMED), **_ends(RESIDUAL, FINAL), "decoder.final_layer_norm": norm(RESIDUAL, FINAL)},
    laws={
        RESIDUAL: LayerNorm(),
        NORMED: Linear(RESIDUAL),
        FINAL: Dual(RESIDUAL),
        EMBEDDED: Linear(),
        PROJECTED: Dual(EMBEDDED),
        **FFN_LAWS,
        **attention_laws(),
    },
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon=_EPSILON,
    prefixes=("model",),
    sizes={
        **standard_sizes(intermediate="ffn_dim"),
        "word_embed_proj_dim": Size("word_embed_proj_dim", follows=Times(1, "hidden_size"), small=_small_embedding),
    },
    for_config=_layout,
    constants={"attention_scale": attention_scale},
    vouched={
        "output_projection": None,  # from conversion; the class does not read it
        "activation_function": None,
        "enable_bias": None,
        "do_layer_norm_before": None,
        "layer_norm_elementwise_affine": None,
        "dropout": None,
        "attention_dropout": None,
        "activation_dropout": None,
        "layerdrop": None,
        "init_std": None,
        "learned_embeddings": (True,),
        "scale_embeddings": (False,),
    },
    buffers=("decoder.version",),
    refuses=(
        FIXED_EPSILON.unless("norms after the sub-layers have no gain", _keeps_scale_one),
        Refusal(
            "a tied head with no gain before it",
            "nothing there can carry the 1/count of a tied matrix",
            lambda asked: _ties_a_head_without_gain(asked.config),
        ),
    ),
    branches=(
        {},
        {"word_embed_proj_dim": 512, "do_layer_norm_before": False},
        {
            "word_embed_proj_dim": 512,
            "tie_word_embeddings": False,
            "_remove_final_layer_norm": True,
            "enable_bias": False,
        },
        {"word_embed_proj_dim": 512, "layer_norm_elementwise_affine": False},
        {"do_layer_norm_before": False},
        {"do_layer_norm_before": False, "layer_norm_elementwise_affine": False, "tie_word_embeddings": False},
        {"layer_norm_elementwise_affine": False, "enable_bias": False, "tie_word_embeddings": False},
        {"_remove_final_layer_norm": True, "tie_word_embeddings": False},
    ),
)
