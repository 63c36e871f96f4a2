"""Declaring a family of models: everything a declaration needs, in one import.

A declaration is one value, an `Architecture`. It says which dimension of which parameter writes or
reads which space, which law each space obeys, and where the config keeps the sizes.

The vocabulary:

the declaration
    `Architecture`, `Variant` (what one model class declares otherwise), `find`, `known` (existing
    declarations, to start from with `dataclasses.replace`)
sizes of the config
    `Size`, `standard_sizes`, `stack_sizes`, `rotary_sizes`; for a size that follows from others:
    `Times`, `Over`, `Plus`, `Minus`, or a function of `Sizes` with `quotient`; for its value in the
    twin: `TwinContext`, `small_head_dim`; further fields of the twin's config: `TwinFields`
constants of the forward pass
    `Constant`, `Power`, `attention_scale`, `no_scale`
axes
    `Space`, `Fixed`, `Axis`, `Interleaved` of `Product`; ``a * b`` and ``a + b`` of axes a and b
standard spaces: residual stream, feed-forward, output heads
    `RESIDUAL`, `NORMED`, `BRANCH`, `FINAL`, `FFN`, `EXPERT`, `SHARED`, `POOLED`, `TRANSFORM`
standard spaces: attention
    `KV_HEADS`, `QUERIES_PER_KV`, `QUERY`, `KEY`, `VALUE`; heads that turn in part: `QUERY_ROTARY`,
    `QUERY_PASS`, `KEY_ROTARY`, `KEY_PASS`; before a query and key norm: `RAW_KV_HEADS`,
    `RAW_QUERIES_PER_KV`, `RAW_QUERY`, `RAW_KEY`; with ALiBi: `ALIBI_HEADS`, `ALIBI_VALUES`
standard axes of attention
    `HEADS`, `QUERIES`, `KEYS`, `VALUES`, `ATTENDED`, `PARTIAL_QUERY`, `PARTIAL_KEY`, `RAW_HEADS`,
    `ALIBI_QKV`, `ALIBI_ATTENDED`
laws
    `Copied`, `Linear`, `FixedSize`; norms: `RMSNorm`, `LayerNorm`, `Isometric`; following another
    space: `Dual`, `Scaled`, `Normalised`, `UnitLength`; attention: `Scores`, `Alibi`, `Sinusoids`,
    `Frequencies`; for a law of your own: `Law`, `Growth`, `Map`
laws of the standard spaces
    `FFN_LAWS`, `EXPERT_LAWS`, `HEAD_LAWS`, `HEAD_BY_HEAD`, `attention_laws`, `alibi_laws`,
    `raw_laws`
roles of one dimension
    `Writes`, `Reads`, `Picks`, `Gain`, `Scale`, `Keeps`, `Role`
rules of a module
    `linear`, `conv1d`, `convolution`, `norm`, `embedding`, `feed_forward`, `experts`, `attention`,
    `mlm_transform`, `Rule`; `under` puts the rules of a block under the block's name
models made of several
    `tower`, `within`, `tower_constant`; sizes and constants of a nested config: `InSection`,
    `SmallInSection`
printing
    `as_python`: a declaration as the text of a Python file
rotary configs
    `keeps_frequencies`
what a family refuses
    `Refusal`, `Asked` (a growth, as a refusal looks at it); those of several families:
    `ROTARY_SCALING`, `FIXED_FREQUENCIES`, `FIXED_EPSILON`, `EVERY_GROWTH`, `clamped_attention`,
    `shared_epsilon` with `MASKED_HEADS`
errors
    `UnsupportedModelError`, `IllegalGrowthError`, `IllegalShapeError`

`growth.architectures.families` holds one file per family; start from ``llama.py``.

May import: `growth.algebra`, `growth.rules`, `growth.errors`. Imported by: every room above.
Read in this order: ``architecture.py`` (the value), ``sizes.py``, ``derived_sizes.py`` and
``sections.py`` (the numbers of a config, those that follow from others, and the configs in it),
``families/llama.py`` (one declaration), ``patterns.py`` (from a parameter's name to its rule),
``declaration_checks.py`` (what a declaration must not lack), ``refusals.py`` (what it refuses),
``towers.py`` (models made of several),
``registry.py`` (finding a declaration by ``model_type``),
``code_layout.py``, ``value_text.py`` and ``python_text.py`` (a declaration as the text of a file).
"""

from growth.algebra.attention_laws import Alibi, Frequencies, Scores, Sinusoids
from growth.algebra.axes import Axis, Fixed, Interleaved, Product, Space
from growth.algebra.derived_laws import Dual, Normalised, Scaled, UnitLength
from growth.algebra.laws import Copied, FixedSize, Growth, Law, Linear
from growth.algebra.maps import Map
from growth.algebra.norm_laws import Isometric, LayerNorm, RMSNorm
from growth.algebra.roles import Gain, Keeps, Picks, Reads, Role, Scale, Writes
from growth.architectures.architecture import Architecture
from growth.architectures.derived_sizes import Minus, Over, Plus, Power, Times, TwinFields, quotient
from growth.architectures.python_text import as_python
from growth.architectures.refusals import (
    EVERY_GROWTH,
    FIXED_EPSILON,
    FIXED_FREQUENCIES,
    MASKED_HEADS,
    ROTARY_SCALING,
    Asked,
    Refusal,
    clamped_attention,
    shared_epsilon,
)
from growth.architectures.registry import find, known
from growth.architectures.sizes import (
    Constant,
    Size,
    Sizes,
    TwinContext,
    rotary_sizes,
    small_head_dim,
    stack_sizes,
    standard_sizes,
)
from growth.architectures.towers import InSection, SmallInSection, tower, tower_constant, within
from growth.architectures.variant import Variant
from growth.errors import IllegalGrowthError, IllegalShapeError, UnsupportedModelError
from growth.rules.attention import (
    ALIBI_ATTENDED,
    ALIBI_HEADS,
    ALIBI_QKV,
    ALIBI_VALUES,
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
    RAW_QUERIES_PER_KV,
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
from growth.rules.linear import Rule, conv1d, convolution, linear, under
from growth.rules.norm import BRANCH, FINAL, NORMED, RESIDUAL, norm
from growth.rules.rotary import keeps_frequencies

__all__ = [
    "ALIBI_ATTENDED",
    "ALIBI_HEADS",
    "ALIBI_QKV",
    "ALIBI_VALUES",
    "ATTENDED",
    "BRANCH",
    "EVERY_GROWTH",
    "EXPERT",
    "EXPERT_LAWS",
    "FFN",
    "FFN_LAWS",
    "FINAL",
    "FIXED_EPSILON",
    "FIXED_FREQUENCIES",
    "HEADS",
    "HEAD_BY_HEAD",
    "HEAD_LAWS",
    "KEY",
    "KEYS",
    "KEY_PASS",
    "KEY_ROTARY",
    "KV_HEADS",
    "MASKED_HEADS",
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
    "RAW_QUERIES_PER_KV",
    "RAW_QUERY",
    "RESIDUAL",
    "ROTARY_SCALING",
    "SHARED",
    "TRANSFORM",
    "VALUE",
    "VALUES",
    "Alibi",
    "Architecture",
    "Asked",
    "Axis",
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
    "InSection",
    "Interleaved",
    "Isometric",
    "Keeps",
    "Law",
    "LayerNorm",
    "Linear",
    "Map",
    "Minus",
    "Normalised",
    "Over",
    "Picks",
    "Plus",
    "Power",
    "Product",
    "RMSNorm",
    "Reads",
    "Refusal",
    "Role",
    "Rule",
    "Scale",
    "Scaled",
    "Scores",
    "Sinusoids",
    "Size",
    "Sizes",
    "SmallInSection",
    "Space",
    "Times",
    "TwinContext",
    "TwinFields",
    "UnitLength",
    "UnsupportedModelError",
    "Variant",
    "Writes",
    "alibi_laws",
    "as_python",
    "attention",
    "attention_laws",
    "attention_scale",
    "clamped_attention",
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
    "rotary_sizes",
    "shared_epsilon",
    "small_head_dim",
    "stack_sizes",
    "standard_sizes",
    "tower",
    "tower_constant",
    "under",
    "within",
]
