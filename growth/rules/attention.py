"""Attention: ``softmax(scale * q . k) v`` per head, then the output projection.

Queries range over ``kv_heads * queries_per_kv * query``, keys over ``kv_heads * key``, values over ``kv_heads * value``; what the
output projection reads is ``kv_heads * queries_per_kv * value``. Grouped, multi-query and plain attention differ in sizes alone.

*More heads* (kv_heads grows): a copied head has the same scores, hence the same output; the projection reads each copy with 1/count.
*Wider heads* (query, key and value grow inside each head, "head-local repetition"): `growth.law.Scores` keeps the scores.

Original table, scaling="orthogonal" with wider heads, k copies: q and k weights ``k**(1/4)/k`` (that is sqrt(p/c) = k**(-1/4) for the
scores times 1/sqrt(k) for reading the residual), their biases ``k**(1/4)/sqrt(k)``; v and output weights 1/k, biases 1/sqrt(k).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from growth.axis import Axis, Space
from growth.law import Copied, Law, Linear, Scores
from growth.rules.linear import Rule, linear

KV_HEADS = Space("kv_heads", "num_key_value_heads")
QUERIES_PER_KV = Space("queries_per_kv", "queries_per_kv")
QUERY = Space("query", "head_dim")
KEY = Space("key", "head_dim")
VALUE = Space("value", "head_dim")

HEADS = KV_HEADS * QUERIES_PER_KV
QUERIES = HEADS * QUERY
KEYS = KV_HEADS * KEY
VALUES = KV_HEADS * VALUE
ATTENDED = HEADS * VALUE


def attention_laws(rotary: Literal["half", "interleaved"] | None = None) -> Mapping[Space, Law]:
    """The laws of the five attention spaces. Values pass through linear maps alone, heads through a softmax each."""
    head = Copied("softmax, head by head")
    return {
        KV_HEADS: head,
        QUERIES_PER_KV: head,
        QUERY: Scores("query", rotary),
        KEY: Scores("key", rotary),
        VALUE: Linear(),
    }


def attention(q: str, k: str, v: str, o: str, *, reads: Axis, writes: Axis, keys_read: Axis | None = None) -> dict[str, Rule]:
    """Four linear modules. In cross-attention keys and values read another space, ``keys_read``."""
    memory = reads if keys_read is None else keys_read
    return {q: linear(reads, QUERIES), k: linear(memory, KEYS), v: linear(memory, VALUES), o: linear(ATTENDED, writes)}
