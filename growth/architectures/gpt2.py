"""GPT-2: pre-norm LayerNorm, learned positions, queries, keys and values fused in one Conv1D."""

from growth.architecture import Architecture
from growth.following import Dual
from growth.law import LayerNorm, Linear
from growth.rules.attention import ATTENDED, KEYS, QUERIES, VALUES, attention_laws
from growth.rules.embedding import embedding
from growth.rules.feedforward import FFN, FFN_LAWS
from growth.rules.linear import conv1d, linear
from growth.rules.norm import FINAL, NORMED, RESIDUAL, norm
from growth.sizes import standard_sizes

GPT2 = Architecture(
    model_type="gpt2",
    modules={
        "wte": embedding(RESIDUAL),
        "wpe": embedding(RESIDUAL),
        "h.*.ln_1": norm(RESIDUAL, NORMED),
        "h.*.attn.c_attn": conv1d(NORMED, QUERIES + KEYS + VALUES),
        "h.*.attn.c_proj": conv1d(ATTENDED, RESIDUAL),
        "h.*.ln_2": norm(RESIDUAL, NORMED),
        "h.*.mlp.c_fc": conv1d(NORMED, FFN),
        "h.*.mlp.c_proj": conv1d(FFN, RESIDUAL),
        "ln_f": norm(RESIDUAL, FINAL),
        "lm_head": linear(FINAL),
        "multiple_choice_head.summary": linear(FINAL),
        "score": linear(FINAL),
        "classifier": linear(FINAL),
        "qa_outputs": linear(FINAL),
    },
    laws={RESIDUAL: LayerNorm(), NORMED: Linear(RESIDUAL), FINAL: Dual(RESIDUAL), **FFN_LAWS, **attention_laws()},
    outputs={"hidden_states": RESIDUAL, "last_hidden_state": FINAL},
    epsilon="layer_norm_epsilon",
    prefixes=("transformer",),
    sizes=standard_sizes("n_embd", "n_inner", "n_head", intermediate_ratio=4),
    constants={"attention_scale": lambda config, sizes: sizes["head_dim"] ** -0.5 if config.scale_attn_weights else 1.0},
    vouched={
        "activation_function": None,
        "scale_attn_weights": None,
        "scale_attn_by_inverse_layer_idx": None,
        "reorder_and_upcast_attn": None,
        "resid_pdrop": None,
        "embd_pdrop": None,
        "attn_pdrop": None,
        "initializer_range": None,
        "summary_type": ("last", "first", "mean", "cls_index"),
        "summary_use_proj": (True,),
        "summary_activation": None,
        "summary_proj_to_labels": (True,),
        "summary_first_dropout": None,
        "n_ctx": None,
    },
    arithmetic={"reorder_and_upcast_attn": False},
    buffers=("h.*.attn.bias", "h.*.attn.masked_bias"),
    branches=(
        {},
        {"scale_attn_weights": False, "tie_word_embeddings": False, "n_inner": 1000},
        {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
    ),
    classes=("GPT2DoubleHeadsModel",),
)
