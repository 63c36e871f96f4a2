"""What a config field means, by its name.

Libraries name the same few sizes in many ways: ``hidden_size``, ``d_model``, ``n_embd``, ``dim``.
A `Kind` says how a field takes part in a growth in width; a name that says nothing is asked of the
class instead (`growth.infer.probe`)."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

Kind = Literal["hidden", "width", "feed-forward", "experts", "heads", "rank", "kept", "unknown"]
"""What a field counts.

* ``hidden``: the features of the residual stream.
* ``width``: of another stream: a factorised embedding, the inside of a mixer, a projector.
* ``feed-forward``, ``experts``: of a hidden layer, and of that of one expert.
* ``heads``: not features but heads, of queries, keys or of a mixer.
* ``rank``: of a low-rank factor between two linear maps.
* ``kept``: nothing that grows: a head's own size, a state, a kernel, a count of layers or tokens.
* ``unknown``: the name does not say.
"""

STANDARD = {
    "hidden_size": ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embed_dim", "model_dim", "width"),
    "intermediate_size": (
        *("intermediate_size", "ffn_dim", "d_ff", "dim_ff", "dff", "ffn_hidden_size", "feed_forward_size"),
        *("n_inner", "d_inner", "mlp_dim", "ffn_hidden", "hidden_dim", "ff_dim", "mlp_hidden", "ffn_size"),
    ),
    "num_attention_heads": (
        *("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "heads", "nhead"),
    ),
    "num_key_value_heads": ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "kv_n_heads", "kv_heads"),
    "moe_intermediate_size": ("moe_intermediate_size", "expert_ffn_hidden_size", "expert_intermediate_size"),
    "head_dim": ("head_dim", "d_kv", "d_head", "dim_head", "kv_channels", "attention_head_size"),
}
"""Standard name of a size -> the config fields that mean just that."""

_KEPT = re.compile(
    r"head_?dim|d_kv$|d_head$|dim_head|kv_channels|head_size$|d_state|state_size|kernel|conv|stride|patch"
    r"|groups?$|group_size|window|chunk|block|buckets?|distance|vocab|position|context_length|n_ctx|max_|min_|min$"
    r"|_id$|_ids$|_index$|token|labels?$|layers?$|^depth|experts?$|experts?_|_experts|expert_num|top_?k|topk|moe_k$"
    r"|expand|factor|multipl|ratio|steps?$|period|offset|interval|every|frequency|channels$|image|frames|bins$"
    r"|_pre_attn|scal|iters?$|per_layer_input|ngram|length|seed|^ple_|^laurel|^altup|^hc_|rotary|rope|beams?$|top_n$"
    r"|cycles|stack|time|latents$|radius|rows|columns|hash|codebook|mult$|version|rank$|pretraining|bos|eos|pad"
    r"|prompt|segment|extent|^d_rel|d_conv|_dim_base|alibi|sampling|speakers|fifo|mem_len|dilation|resolution"
    r"|num_mel|num_blocks|queries$|query_num|_k$|cache|rate$|merge|mult$|^num_|^n_|_n$|_size_base|temporal|router_hidden|reduction"
)
_HEADS = re.compile(r"(^|_)(?<!d_)(?<!dim_)heads?(_per_layer)?$|^n_?heads?$|query_groups$")
_NO_HEADS = re.compile(r"^index|heads_per_(?!layer)|per_head|nextn|mtp")
_RANK = re.compile(r"(^|_)(q|kv|o)_lora_rank$")
_EXPERTS = re.compile(r"(moe|expert).*(intermediate|ffn|hidden)|shared_intermediate_size$")
_FEED_FORWARD = re.compile(
    r"intermediate_(size|dim)|(^|_)ffn?_|_ffn?$|^d_ff$|^dff$|feed_?forward|mlp_(dim|size|hidden)|^n_inner$|^d_inner$|^dim_ff$"
)
_WIDTH = re.compile(
    r"hidden_(size|dim)|d_model$|d_latents$|n_embd$|^dim$|emb(ed|edding)?_?(dim|size)$|width$|proj(ection|ected)?_(dim|size)$"
    r"|bottleneck_size|d_ssm$|out_?(put)?_(dim|size)$|pooler_\w*size$|embedding_size|in_dim$|input_(dim|size)$"
)


def kind(name: str, beside: Collection[str] = ()) -> Kind:
    """What a config field counts, by its name.

    Args:
        name: of the field, in its section.
        beside: names of the other fields of the section: DistilBERT's ``hidden_dim`` stands beside
            ``dim``, and is the size of a hidden layer.

    Example:
        >>> [kind(name) for name in ("n_embd", "d_ff", "mamba_n_heads", "head_dim", "gizmo")]
        ['hidden', 'feed-forward', 'heads', 'kept', 'unknown']
    """
    if _HEADS.search(name):
        return "kept" if _NO_HEADS.search(name) else "heads"
    if _RANK.search(name):
        return "rank"
    if "conv" in name or "filter" in name or "per_layer_input" in name or "router_hidden" in name:
        return "kept"
    if _EXPERTS.search(name):
        return "experts"
    if name == "hidden_dim":
        return "feed-forward" if {"dim", "d_model", "hidden_size", "embed_dim"} & {*beside} else "hidden"
    if _FEED_FORWARD.search(name) and not re.search(r"mult|^num_", name):
        return "feed-forward"
    if name in STANDARD["hidden_size"]:
        return "hidden"
    if _WIDTH.search(name) and not re.search(r"head|per_layer|image_|chunk|^ple_|bins|_dim_base|filter", name):
        return "width"
    return "kept" if _KEPT.search(name) else "unknown"


def standard_name(name: str, taken: Collection[str] = ()) -> str:
    """The standard name of a size that a field means just so; else the field's own.

    Args:
        name: of the field, in its section.
        taken: standard names that another field of the section has.

    Example:
        >>> standard_name("n_embd"), standard_name("mamba_n_heads"), standard_name("encoder_ffn_dim")
        ('hidden_size', 'mamba_n_heads', 'encoder.intermediate_size')
    """
    stack, _, rest = name.partition("_")
    plain = rest if stack in ("encoder", "decoder") else name
    found = next((standard for standard, names in STANDARD.items() if plain in names), None)
    if found is None:
        return name
    found = found if plain == name else f"{stack}.{found}"
    return name if found in taken else found
