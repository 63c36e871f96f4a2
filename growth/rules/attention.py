"""Attention: ``softmax(scale * q . k) v`` per head, then the output projection.

==========  ==============================================
parameter   ranges over
==========  ==============================================
queries     ``kv_heads * queries_per_kv * query``
keys        ``kv_heads * key``
values      ``kv_heads * value``
attended    ``kv_heads * queries_per_kv * value``
==========  ==============================================

The output projection reads *attended*. Plain, grouped and multi-query attention differ only in
sizes.

*More heads* (kv_heads grows): a copied head has the same scores and the same output, and the
projection reads each copy with 1/count.

*Wider heads* (query, key and value grow inside each head): `growth.algebra.attention_laws.Scores`
keeps the scores. Where only a part of each head turns with the position, query and key are
concatenations of a rotary part and the rest, each with its law. Where queries and keys are normed,
the input of that norm is a further space, laid out as its output is (`raw_laws`).

The original derivation (Su 2021), scaling ``orthogonal`` with wider heads and k copies: weights of
q and k ``k**(1/4)/k`` (sqrt(p/c) = k**(-1/4) for the scores times 1/sqrt(k) for reading the
residual stream), their biases ``k**(1/4)/sqrt(k)``; weights of v and the output 1/k, biases
1/sqrt(k).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from growth.algebra.attention_laws import Alibi, Scores
from growth.algebra.axes import Axis, Interleaved, Product, Space
from growth.algebra.laws import Copied, Law, Linear
from growth.algebra.norm_laws import Isometric, LayerNorm, RMSNorm
from growth.rules.linear import Rule, linear
from growth.rules.norm import RESIDUAL

Rotary = Literal["half", "interleaved"]

KV_HEADS = Space("kv_heads", "num_key_value_heads")
QUERIES_PER_KV = Space("queries_per_kv", "queries_per_kv")
QUERY = Space("query", "head_dim")
KEY = Space("key", "head_dim")
VALUE = Space("value", "head_dim")
QUERY_ROTARY, QUERY_PASS = Space("rotary query", "rotary_dim"), Space("other query", "pass_dim")
KEY_ROTARY, KEY_PASS = Space("rotary key", "rotary_dim"), Space("other key", "pass_dim")
RAW_QUERY, RAW_KEY = Space("raw query", "head_dim"), Space("raw key", "head_dim")
RAW_KV_HEADS, RAW_QUERIES_PER_KV = (
    Space("raw kv_heads", "num_key_value_heads"),
    Space("raw queries_per_kv", "queries_per_kv"),
)
ALIBI_HEADS, ALIBI_VALUES = Space("heads", "num_attention_heads"), Space("heads of values", "num_attention_heads")

HEADS = KV_HEADS * QUERIES_PER_KV
RAW_HEADS = RAW_KV_HEADS * RAW_QUERIES_PER_KV
QUERIES = HEADS * QUERY
KEYS = KV_HEADS * KEY
VALUES = KV_HEADS * VALUE
ATTENDED = HEADS * VALUE
PARTIAL_QUERY = QUERY_ROTARY + QUERY_PASS
PARTIAL_KEY = KEY_ROTARY + KEY_PASS
ALIBI_ATTENDED = Product(ALIBI_VALUES, VALUE)
ALIBI_QKV = Interleaved((Product(ALIBI_HEADS, QUERY), Product(ALIBI_HEADS, KEY), ALIBI_ATTENDED))

HEAD_BY_HEAD = Copied("softmax, head by head")


def attention_laws(rotary: Rotary | None = None, *, partial: bool = False) -> Mapping[Space, Law]:
    """The laws of the attention spaces: heads pass through a softmax each, values through linear
    maps only.

    Args:
        rotary: how rotary pairs lie in a head (`growth.algebra.attention_laws.Scores`); None
            without rotary positions.
        partial: whether only the first ``rotary_dim`` coordinates of each head turn
            (`growth.architectures.sizes.rotary_sizes`).

    Example:
        >>> str(attention_laws("half")[QUERY])
        'attention scores, rotary (half)'
    """
    heads: dict[Space, Law] = {KV_HEADS: HEAD_BY_HEAD, QUERIES_PER_KV: HEAD_BY_HEAD, VALUE: Linear()}
    if not partial:
        return {**heads, QUERY: Scores("query", rotary), KEY: Scores("key", rotary)}
    turning: dict[Space, Law] = {QUERY_ROTARY: Scores("query", rotary), KEY_ROTARY: Scores("key", rotary)}
    return {**heads, **turning, QUERY_PASS: Scores("query"), KEY_PASS: Scores("key")}


def alibi_laws() -> Mapping[Space, Law]:
    """The laws of attention with ALiBi slopes. Queries and keys range over ``ALIBI_HEADS``, values
    over ``ALIBI_VALUES``: new heads may have silent values, but not silent queries and keys."""
    heads: dict[Space, Law] = {ALIBI_HEADS: Alibi("scores"), ALIBI_VALUES: Alibi("values")}
    return {**heads, VALUE: Linear(), QUERY: Scores("query"), KEY: Scores("key")}


def raw_laws(
    law: type[RMSNorm] | type[LayerNorm],
    query: Axis = QUERY,
    key: Axis = KEY,
    *,
    shares_epsilon_with: Space = RESIDUAL,
) -> Mapping[Space, Law]:
    """The laws of queries and keys before a norm of each head (query and key norms).

    A norm per head is ``norm(RAW_QUERY, QUERY)``; one over all heads is ``norm(RAW_HEADS *
    RAW_QUERY, QUERIES)``. Declare these laws after those of ``query`` and ``key``. With rotary
    slots some outputs of the norm are silent, and the norm divides the gradient unevenly between
    the copies of its input. The roles' coefficients then give only the sum over copies.

    Args:
        law: `RMSNorm` or `LayerNorm`.
        query, key: the axes that leave the norm; they decide where copies lie.
        shares_epsilon_with: the space whose norm has the same epsilon in the config.
    """
    heads: dict[Space, Law] = {RAW_KV_HEADS: Isometric(KV_HEADS), RAW_QUERIES_PER_KV: Isometric(QUERIES_PER_KV)}
    return {
        **heads,
        RAW_QUERY: law(layout=query, shares_epsilon_with=shares_epsilon_with),
        RAW_KEY: law(layout=key, shares_epsilon_with=shares_epsilon_with),
    }


def attention(
    q: str,
    k: str,
    v: str,
    o: str,
    *,
    reads: Axis,
    writes: Axis,
    keys_read: Axis | None = None,
    query: Axis = QUERY,
    key: Axis = KEY,
    heads: Axis = HEADS,
    kv_heads: Axis = KV_HEADS,
) -> dict[str, Rule]:
    """The four linear modules of attention.

    Args:
        q, k, v, o: their names.
        reads: the axis that queries, keys and values read.
        writes: the axis that the output projection writes.
        keys_read: the axis that keys and values read instead, in cross-attention.
        query, key: the axis inside one head.
        heads, kv_heads: the heads of the queries and keys as they are written: ``RAW_HEADS`` and
            ``RAW_KV_HEADS`` before a norm over all heads.

    Example:
        >>> from growth.rules.norm import NORMED
        >>> rules = attention("q", "k", "v", "o", reads=NORMED, writes=RESIDUAL)
        >>> [str(role) for role in rules["q"]["weight"]]
        ['writes kv_heads * queries_per_kv * query', 'reads normed']
    """
    memory = reads if keys_read is None else keys_read
    return {
        q: linear(reads, heads * query),
        k: linear(memory, kv_heads * key),
        v: linear(memory, VALUES),
        o: linear(ATTENDED, writes),
    }


def attention_scale(config: object, sizes: Mapping[str, int]) -> float:
    """The usual scale of the scores, ``1 / sqrt(head_dim)``, as a constant of the forward pass.

    Example:
        >>> attention_scale(None, {"head_dim": 64})
        0.125
    """
    return float(sizes["head_dim"] ** -0.5)


def no_scale(config: object, sizes: Mapping[str, int]) -> float:
    """A scale that does not depend on the width: none (T5), or a number in the config
    (``query_pre_attn_scalar``). As only ratios matter, it is 1."""
    return 1.0
