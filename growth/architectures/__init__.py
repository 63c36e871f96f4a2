"""Declaring a family of models: everything a declaration needs, in one import.

A declaration is one value, an `Architecture`. It says which dimension of which parameter writes or
reads which space, which law each space obeys, and where the config keeps the sizes.
`growth.architectures.families` holds one file per family; start from ``llama.py``.

May import: `growth.algebra`, `growth.rules`, `growth.errors`. Imported by: every room above.
Read in this order: ``architecture.py`` (the value), ``sizes.py`` (the numbers of a config),
``families/llama.py`` (one declaration), ``towers.py`` (a model made of several), ``registry.py``
(finding one by ``model_type``).

    from growth.architectures import Architecture, RESIDUAL, NORMED, RMSNorm, Linear, embedding,
    norm, linear, feed_forward, attention
"""

from growth.algebra.attention_laws import Alibi, Frequencies, Scores, Sinusoids
from growth.algebra.axes import Axis, Concatenation, Fixed, Interleaved, Product, Space
from growth.algebra.derived_laws import Dual, Normalised, Scaled, UnitLength
from growth.algebra.laws import Copied, FixedSize, Growth, Law, Linear
from growth.algebra.maps import Map
from growth.algebra.norm_laws import Isometric, LayerNorm, RMSNorm
from growth.algebra.roles import Gain, Keeps, Picks, Reads, Role, Scale, Writes
from growth.architectures.architecture import Architecture, Variant
from growth.architectures.registry import find, known
from growth.architectures.sizes import (
    Constant,
    Size,
    Sizes,
    TwinContext,
    quotient,
    rotary_fraction,
    rotary_sizes,
    small_head_dim,
    stack_sizes,
    standard_sizes,
)
from growth.architectures.towers import tower, tower_constant, within
from growth.errors import IllegalGrowthError, IllegalShapeError, UnsupportedModelError
from growth.rules.attention import (
    ALIBI_ATTENDED,
    ALIBI_HEADS,
    ALIBI_QKV,
    ATTENDED,
    HEAD_BY_HEAD,
    HEADS,
    KEY,
    KEY_PASS,
    KEY_ROTARY,
    KEYS,
    KV_HEADS,
    PARTIAL_KEY,
    PARTIAL_QUERY,
    QUERIES,
    QUERIES_PER_KV,
    QUERY,
    QUERY_PASS,
    QUERY_ROTARY,
    RAW_HEADS,
    RAW_KEY,
    RAW_KV_HEADS,
    RAW_QUERY,
    VALUE,
    VALUES,
    alibi_laws,
    attention,
    attention_laws,
    attention_scale,
    no_scale,
    raw_laws,
)
from growth.rules.embedding import embedding
from growth.rules.experts import EXPERT, EXPERT_LAWS, SHARED, experts
from growth.rules.feed_forward import FFN, FFN_LAWS, feed_forward
from growth.rules.heads import HEAD_LAWS, POOLED, TRANSFORM, mlm_transform
from growth.rules.linear import Rule, conv1d, convolution, linear
from growth.rules.norm import BRANCH, FINAL, NORMED, RESIDUAL, norm
from growth.rules.rotary import REFUSES, keeps_frequencies

__all__ = [
    "ALIBI_ATTENDED",
    "ALIBI_HEADS",
    "ALIBI_QKV",
    "ATTENDED",
    "BRANCH",
    "EXPERT",
    "EXPERT_LAWS",
    "FFN",
    "FFN_LAWS",
    "FINAL",
    "HEADS",
    "HEAD_BY_HEAD",
    "HEAD_LAWS",
    "KEY",
    "KEYS",
    "KEY_PASS",
    "KEY_ROTARY",
    "KV_HEADS",
    "NORMED",
    "PARTIAL_KEY",
    "PARTIAL_QUERY",
    "POOLED",
    "QUERIES",
    "QUERIES_PER_KV",
    "QUERY",
    "QUERY_PASS",
    "QUERY_ROTARY",
    "RAW_HEADS",
    "RAW_KEY",
    "RAW_KV_HEADS",
    "RAW_QUERY",
    "REFUSES",
    "RESIDUAL",
    "SHARED",
    "TRANSFORM",
    "VALUE",
    "VALUES",
    "Alibi",
    "Architecture",
    "Axis",
    "Concatenation",
    "Constant",
    "Copied",
    "Dual",
    "Fixed",
    "FixedSize",
    "Frequencies",
    "Gain",
    "Growth",
    "IllegalGrowthError",
    "IllegalShapeError",
    "Interleaved",
    "Isometric",
    "Keeps",
    "Law",
    "LayerNorm",
    "Linear",
    "Map",
    "Normalised",
    "Picks",
    "Product",
    "RMSNorm",
    "Reads",
    "Role",
    "Rule",
    "Scale",
    "Scaled",
    "Scores",
    "Sinusoids",
    "Size",
    "Sizes",
    "Space",
    "TwinContext",
    "UnitLength",
    "UnsupportedModelError",
    "Variant",
    "Writes",
    "alibi_laws",
    "attention",
    "attention_laws",
    "attention_scale",
    "conv1d",
    "convolution",
    "embedding",
    "experts",
    "feed_forward",
    "find",
    "keeps_frequencies",
    "known",
    "linear",
    "mlm_transform",
    "no_scale",
    "norm",
    "quotient",
    "raw_laws",
    "rotary_fraction",
    "rotary_sizes",
    "small_head_dim",
    "stack_sizes",
    "standard_sizes",
    "tower",
    "tower_constant",
    "within",
]
