"""T5 and mT5: encoder and decoder of one residual width, RMSNorm, relative position tables per
head, no attention scale.

The first T5 multiplies the decoder's output by d_model**(-1/2) before the tied head; the final norm
makes up for the change of that constant (`growth.algebra.derived_laws.Scaled`). Whether a model
does so is ``scale_decoder_outputs`` in transformers 5, and ``tie_word_embeddings`` before. mT5
never does in transformers 5. What transformers 5 saves always has ``tie_word_embeddings: true``, so
that transformers 4 scales where transformers 5 may not: a plan says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from growth.architectures import (
    FFN_LAWS,
    FINAL,
    HEAD_LAWS,
    HEADS,
    NORMED,
    POOLED,
    RESIDUAL,
    Architecture,
    Constant,
    Dual,
    Keeps,
    Linear,
    RMSNorm,
    Rule,
    Scaled,
    Sizes,
    Space,
    Variant,
    Writes,
    attention,
    attention_laws,
    embedding,
    feed_forward,
    linear,
    no_scale,
    norm,
    standard_sizes,
)

ENCODED = Space("encoded", "hidden_size")


HEAD_INPUT = Space("head input", "hidden_size")


def _sublayers(stack: str, names: tuple[str, ...]) -> dict[str, Rule]:
    """The sub-layers of one stack; each is a ``layer.i`` with its norm."""
    block = f"{stack}.block.*.layer"
    modules: dict[str, Rule] = {f"{stack}.final_layer_norm": norm(RESIDUAL, ENCODED if stack == "encoder" else FINAL)}
    for index, name in enumerate(names):
        memory = ENCODED if name == "EncDecAttention" else None
        rules = (
            feed_forward(("wi", "wi_0", "wi_1"), "wo", reads=NORMED, writes=RESIDUAL)
            if name == "DenseReluDense"
            else attention("q", "k", "v", "o", reads=NORMED, writes=RESIDUAL, keys_read=memory)
        )
        modules |= {f"{block}.{index}.{name}.{module}": rule for module, rule in rules.items()}
        modules[f"{block}.{index}.layer_norm"] = norm(RESIDUAL, NORMED)
    modules[f"{block}.0.SelfAttention.relative_attention_bias"] = {"weight": (Keeps(), Writes(HEADS))}
    return modules


def _output_scale(config: Any, sizes: Sizes) -> float:
    return (
        sizes["hidden_size"] ** -0.5 if getattr(config, "scale_decoder_outputs", config.tie_word_embeddings) else 1.0
    )


def output_remarks(scale: Constant, tied: bool) -> Callable[[Any, str], Iterator[str]]:
    """The remark on a config by which transformers 4 scales the decoder's output and transformers 5
    does not, or the other way round.

    Args:
        scale: the constant in transformers 5.
        tied: the default of ``tie_word_embeddings`` in transformers 4.
    """

    def remarks(config: Any, model_class: str) -> Iterator[str]:
        now, before = scale(config.parsed, {"hidden_size": 4}) != 1, bool(config.get("tie_word_embeddings", tied))
        if now != before and model_class.endswith("ForConditionalGeneration"):
            yield (
                "transformers 4 reads this config otherwise: it goes by tie_word_embeddings, which is "
                f"{str(before).lower()}, and {'multiplies' if before else 'does not multiply'} the decoder's output "
                f"by d_model**(-1/2), and transformers 5, by which this grows, {'does not' if before else 'does'}; "
                "loaded in transformers 4, small and wide model compute different logits, so use 5 for both"
            )

    return remarks


T5 = Architecture(
    model_type="t5",
    modules={
        "shared": embedding(RESIDUAL),
        "encoder.embed_tokens": embedding(RESIDUAL),
        "decoder.embed_tokens": embedding(RESIDUAL),
        **_sublayers("encoder", ("SelfAttention", "DenseReluDense")),
        **_sublayers("decoder", ("SelfAttention", "EncDecAttention", "DenseReluDense")),
        "lm_head": linear(HEAD_INPUT),
        "classification_head.dense": linear(FINAL, POOLED),
        "classification_head.out_proj": linear(POOLED),
        "classifier": linear(ENCODED),
        "qa_outputs": linear(FINAL),
    },
    laws={
        RESIDUAL: RMSNorm(),
        NORMED: Linear(),
        ENCODED: Linear(),
        HEAD_INPUT: Dual(RESIDUAL),
        FINAL: Scaled(HEAD_INPUT, "output_scale"),
        **HEAD_LAWS,
        **FFN_LAWS,
        **attention_laws(),
    },
    outputs={
        "last_hidden_state": FINAL,
        "encoder_last_hidden_state": ENCODED,
        "hidden_states": RESIDUAL,
        "encoder_hidden_states": RESIDUAL,
        "decoder_hidden_states": RESIDUAL,
    },
    epsilon="layer_norm_epsilon",
    prefixes=("transformer",),
    sizes=standard_sizes("d_model", "d_ff", "num_heads", head_dim="d_kv"),
    constants={"attention_scale": no_scale, "output_scale": _output_scale},
    vouched={
        "feed_forward_proj": None,
        "dense_act_fn": None,
        "is_gated_act": None,
        "scale_decoder_outputs": None,
        "dropout_rate": None,
        "classifier_dropout": None,
        "initializer_factor": None,
        "num_decoder_layers": None,
        "relative_attention_num_buckets": None,
        "relative_attention_max_distance": None,
        "n_positions": None,
    },
    variants={
        name: Variant(outputs={"last_hidden_state": ENCODED})
        for name in ("T5EncoderModel", "T5ForTokenClassification")
    },
    positions="relative table",
    buffers=("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",),
    branches=({}, {"feed_forward_proj": "gated-gelu"}),
    old_classes={"T5WithLMHeadModel": "T5ForConditionalGeneration"},
    remarks=output_remarks(_output_scale, tied=True),
)


MT5 = replace(
    T5,
    model_type="mt5",
    constants={**T5.constants, "output_scale": no_scale},
    variants={f"M{name}": variant for name, variant in T5.variants.items()},
    vouched={**T5.vouched, "tokenizer_class": None},
    remarks=output_remarks(no_scale, tied=False),
)
