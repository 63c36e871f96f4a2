"""Laws: each keeps what its non-linearity computes, for any legal growth, or refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.bloom import modeling_bloom
from transformers.models.falcon import modeling_falcon
from transformers.models.mpt import modeling_mpt

from growth.algebra.attention_laws import Alibi, Scores
from growth.algebra.axes import Space
from growth.algebra.derived_laws import Dual, Scaled
from growth.algebra.laws import Copied, Growth, Linear
from growth.algebra.maps import Map
from growth.algebra.norm_laws import LayerNorm, RMSNorm
from growth.errors import IllegalGrowthError
from growth.proof.float64 import exact_arithmetic

settings.register_profile("growth", deadline=None, max_examples=60)
settings.load_profile("growth")

SPACE = Space("stream", "hidden_size")
sizes = st.tuples(st.integers(1, 12), st.integers(0, 30)).map(lambda pair: (pair[0], pair[0] + pair[1]))
scalings = st.sampled_from(["unit", "orthogonal"])
seeds = st.integers(0, 2**31)


def grown(x: np.ndarray, a: Map) -> np.ndarray:
    return a.write * x[a.source]


def rms(x: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt(np.mean(x**2) + eps)


def layer(x: np.ndarray, eps: float) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + eps)


@given(sizes, scalings, seeds)
def test_rms_norm_of_the_grown_stream_is_the_grown_norm(size: tuple[int, int], scaling: str, seed: int) -> None:
    n, m = size
    a = RMSNorm().grow(Growth(SPACE, n, m, scaling))  # type: ignore[arg-type]
    assert a.energy is not None
    x, eps = np.random.default_rng(seed).normal(size=n), 0.3
    np.testing.assert_allclose(
        rms(grown(x, a), eps * a.energy), a.write / a.energy**0.5 * rms(x, eps)[a.source], atol=1e-12
    )
    isometric = RMSNorm().grow(Growth(SPACE, n, m, scaling, isometric=True))  # type: ignore[arg-type]
    if scaling == "orthogonal":
        assert a.energy == pytest.approx(n / m, rel=1e-12)
    else:
        assert isometric.energy == pytest.approx(1, abs=1e-12)
        assert m % n or a.energy == 1


@given(st.integers(1, 12), st.integers(1, 5), scalings, seeds)
def test_layer_norm_likewise_at_whole_multiples(n: int, k: int, scaling: str, seed: int) -> None:
    a = LayerNorm().grow(Growth(SPACE, n, k * n, scaling))  # type: ignore[arg-type]
    assert a.energy is not None
    x, eps = np.random.default_rng(seed).normal(size=n), 0.3
    np.testing.assert_allclose(
        layer(grown(x, a), eps * a.energy), a.write / a.energy**0.5 * layer(x, eps)[a.source], atol=1e-12
    )


def test_layer_norm_refuses_uneven_counts_beside_an_elementwise_function_and_names_the_next_size() -> None:
    with pytest.raises(
        IllegalGrowthError,
        match=r"cannot grow 'stream' \(hidden_size\) from 768 to 1000: .*Use a multiple of 768: 1536",
    ):
        LayerNorm(elementwise=True).grow(Growth(SPACE, 768, 1000))


@given(sizes, st.integers(1, 6), st.integers(1, 3), scalings, st.sampled_from([RMSNorm, LayerNorm]))
def test_norms_that_share_an_epsilon_take_one_energy(
    size: tuple[int, int], n: int, k: int, scaling: str, law: type[RMSNorm] | type[LayerNorm]
) -> None:
    """Whether or not heads widen when the stream does, and wherever their copies lie."""
    head, laid_out = Space("raw query", "head_dim"), Space("query", "head_dim")
    stream = RMSNorm().grow(Growth(SPACE, *size, scaling))  # type: ignore[arg-type]
    maps = {SPACE: stream, laid_out: Map.copies(n, np.repeat(np.arange(n), k))}
    a = law(layout=laid_out, shares_epsilon_with=SPACE).grow(Growth(head, n, k * n, scaling, maps=maps))  # type: ignore[arg-type]
    assert a.energy == pytest.approx(stream.energy, rel=1e-12)
    np.testing.assert_array_equal(a.source, maps[laid_out].source)


@given(sizes, scalings)
def test_copies_under_a_nonlinearity_carry_one(size: tuple[int, int], scaling: str) -> None:
    a = Copied().grow(Growth(SPACE, *size, scaling))  # type: ignore[arg-type]
    assert (a.write == 1).all()
    np.testing.assert_allclose(a.read, 1 / a.counts[a.source])


@given(sizes)
def test_linear_spaces_take_the_callers_scale(size: tuple[int, int]) -> None:
    assert (Linear().grow(Growth(SPACE, *size)).write == 1).all()
    orthogonal = Linear().grow(Growth(SPACE, *size, "orthogonal"))
    np.testing.assert_allclose(orthogonal.write, orthogonal.read)


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    scalings,
    st.sampled_from(["slots", "pairs"]),
    st.sampled_from([None, "half", "interleaved"]),
    seeds,
)
def test_scores_are_kept(pairs: int, k: int, scaling: str, rope: str, rotary: str | None, seed: int) -> None:
    """q'.k' / sqrt(kd) = q.k / sqrt(d), and the active copies of a pair turn as the pair does."""
    d = 2 * pairs
    g = Growth(SPACE, d, k * d, scaling, rope, {"attention_scale": k**-0.5})  # type: ignore[arg-type]
    query, key = (Scores(side, rotary).grow(g) for side in ("query", "key"))  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    q, v = rng.normal(size=d), rng.normal(size=d)
    assert grown(q, query) @ grown(v, key) / k**0.5 == pytest.approx(q @ v, abs=1e-10)
    if rotary:
        half = np.arange(k * pairs)
        first = query.source[half] if rotary == "half" else query.source[2 * half]
        second = query.source[half + k * pairs] if rotary == "half" else query.source[2 * half + 1]
        assert (second - first == (pairs if rotary == "half" else 1)).all()
        pair = first if rotary == "half" else first // 2
        active = key.write[half if rotary == "half" else 2 * half] != 0
        if rope == "slots":  # the stock frequency of new pair j is that of old pair j / k
            assert (half[active] == k * pair[active]).all() and active.sum() == pairs


def test_queries_carry_the_square_root_by_default_so_that_keys_are_copies() -> None:
    g = Growth(SPACE, 4, 8, ratios={"attention_scale": 2**-0.5})
    assert (Scores("key").grow(g).write == 1).all()
    np.testing.assert_allclose(Scores("query").grow(g).write, 2**-0.5)


def test_rotary_refuses_a_fraction() -> None:
    with pytest.raises(IllegalGrowthError, match="whole multiples"):
        Scores("query", "half").grow(Growth(SPACE, 4, 6, ratios={"attention_scale": (4 / 6) ** 0.5}))


def test_dual_and_scaled_follow_their_space() -> None:
    stream, head = Map.repeat(3, 6, 2.0), Space("head", "hidden_size")
    dual = Dual(SPACE).grow(Growth(head, 3, 6, maps={SPACE: stream}))
    np.testing.assert_array_equal(dual.write, stream.read)
    scaled = Scaled(head, "output_scale").grow(
        Growth(Space("final", "hidden_size"), 3, 6, ratios={"output_scale": 0.25}, maps={head: dual})
    )
    np.testing.assert_allclose(0.25 * scaled.write, dual.write)


@given(st.integers(1, 40), st.integers(0, 60))
def test_alibi_heads_keep_their_slopes(n: int, more: int) -> None:
    """Every old head is active once, at its old slope by the table of each stock implementation;
    the values of all other heads are silent."""
    m = n + more
    scores, values = (Alibi(side).grow(Growth(SPACE, n, m)) for side in ("scores", "values"))  # type: ignore[arg-type]
    active = values.write == 1
    assert sorted(values.source[active]) == list(range(n)) and (values.write[~active] == 0).all()
    assert (scores.source == values.source).all() and (scores.write == 1).all()
    for table in (bloom_slopes, falcon_slopes, mpt_slopes):
        np.testing.assert_allclose(table(m)[active], table(n)[values.source[active]], rtol=1e-6)


def bloom_slopes(heads: int) -> np.ndarray:
    return modeling_bloom._get_alibi_slopes(heads, torch.device("cpu")).numpy()


def falcon_slopes(heads: int) -> np.ndarray:
    with exact_arithmetic():  # bfloat16 otherwise
        return modeling_falcon.build_alibi_tensor(torch.ones(1, 2, dtype=torch.long), heads, torch.float64)[
            :, 0, 1
        ].numpy()


def mpt_slopes(heads: int) -> np.ndarray:
    return -modeling_mpt.build_mpt_alibi_tensor(heads, 2)[:, 0, 0].numpy()
