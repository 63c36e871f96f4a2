"""Attention: ``softmax(scale * q . k) v`` per head, then the output projection.

Queries range over ``kv_heads * queries_per_kv * query``, keys over ``kv_heads * key``, values over
``kv_heads * value``; what the output projection reads is ``kv_heads * queries_per_kv * value``.
Grouped, multi-query and plain attention differ in sizes alone.

*More heads* (kv_heads grows): a copied head has the same scores, hence the same output; the
projection reads each copy with 1/count.
*Wider heads* (query, key and value grow inside each head, "head-local repetition"):
`growth.algebra.attention_laws.Scores` keeps the scores.
Where only a part of each head turns with the position, query and key are concatenations of a rotary
part and a rest, each with its law; where queries and keys are normed, what enters that norm is a
space of its own, laid out like what leaves it (`raw_laws`).

Original table, scaling="orthogonal" with wider heads, k copies: q and k weights ``k**(1/4)/k``
(that is sqrt(p/c) = k**(-1/4) for the scores times 1/sqrt(k) for reading the residual), their
biases ``k**(1/4)/sqrt(k)``; v and output weights 1/k, biases 1/sqrt(k)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from growth.algebra.attention_laws import Alibi, Scores
from growth.algebra.axes import Axis, Interleaved, Product, Space
from growth.algebra.laws import Copied, Isometric, Law, LayerNorm, Linear, RMSNorm
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

HEAD_LAW = Copied("softmax, head by head")


def attention_laws(rotary: Rotary | None = None, *, partial: bool = False) -> Mapping[Space, Law]:
    """The laws of the attention spaces. Values pass through linear maps alone, heads through a
    softmax each. ``partial``: only the first ``rotary_dim`` coordinates of each head turn
    (`growth.architectures.sizes.rotary_sizes`)."""
    heads: dict[Space, Law] = {KV_HEADS: HEAD_LAW, QUERIES_PER_KV: HEAD_LAW, VALUE: Linear()}
    if not partial:
        return {**heads, QUERY: Scores("query", rotary), KEY: Scores("key", rotary)}
    turning: dict[Space, Law] = {QUERY_ROTARY: Scores("query", rotary), KEY_ROTARY: Scores("key", rotary)}
    return {**heads, **turning, QUERY_PASS: Scores("query"), KEY_PASS: Scores("key")}


def alibi_laws() -> Mapping[Space, Law]:
    """The laws where each head has an ALiBi slope: queries and keys range over ``ALIBI_HEADS``,
    values over ``ALIBI_VALUES``."""
    heads: dict[Space, Law] = {ALIBI_HEADS: Alibi("scores"), ALIBI_VALUES: Alibi("values")}
    return {**heads, VALUE: Linear(), QUERY: Scores("query"), KEY: Scores("key")}


def raw_laws(
    law: type[RMSNorm] | type[LayerNorm],
    query: Axis = QUERY,
    key: Axis = KEY,
    *,
    shares_epsilon_with: Space = RESIDUAL,
) -> Mapping[Space, Law]:
    """The laws of queries and keys before a norm of their own, whose epsilon is that of the norms
    on ``like``. They stand after those of ``query`` and ``key``, which leave the norm; over all
    heads at once it is ``norm(RAW_HEADS * RAW_QUERY, QUERIES)``. Where some of what leaves is
    silent (rotary slots), the norm shares gradients out unevenly among the copies: the roles'
    coefficients say their sum alone."""
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
    """Four linear modules.

    Args:
        q, k, v, o: their names.
        reads, writes: the axis they read, and the one the output projection writes.
        keys_read: what keys and values read in cross-attention.
        query, key: the axis inside one head.
        heads, kv_heads: those that queries and keys range over as they are written, before a norm
            over all heads.
    """
    memory = reads if keys_read is None else keys_read
    return {
        q: linear(reads, heads * query),
        k: linear(memory, kv_heads * key),
        v: linear(memory, VALUES),
        o: linear(ATTENDED, writes),
    }


def attention_scale(config: object, sizes: Mapping[str, int]) -> float:
    """The usual constant: ``1 / sqrt(head_dim)``."""
    return float(sizes["head_dim"] ** -0.5)


def no_scale(config: object, sizes: Mapping[str, int]) -> float:
    """A constant that does not depend on width: none (T5), or one the config fixes
    (``query_pre_attn_scalar``)."""
    return 1.0
