"""Maps and axes against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from growth.algebra.axes import Fixed, Interleaved, Product, Space
from growth.algebra.maps import Map

FFN, HEADS, VALUE_HEADS, QUERY, VALUE = (
    Space(name, name) for name in ("ffn", "heads", "heads of values", "query", "value")
)

settings.register_profile("growth", deadline=None, max_examples=60)
settings.load_profile("growth")


@st.composite
def maps(draw: st.DrawFn, largest: int = 5) -> Map:
    """Any legal map: every old coordinate at least once, in any order, with any non-zero
    factors."""
    n = draw(st.integers(1, largest))
    extra = draw(st.lists(st.integers(0, n - 1), max_size=largest))
    source = np.array(draw(st.permutations([*range(n), *extra])), dtype=np.int64)
    factor = st.floats(0.25, 4.0) | st.floats(-4.0, -0.25)
    write = np.array(draw(st.lists(factor, min_size=len(source), max_size=len(source))))
    share = np.array(draw(st.lists(st.floats(0.1, 1.0), min_size=len(source), max_size=len(source))))
    return Map(n, source, write, share / np.bincount(source, share, minlength=n)[source] / write)


def dense(grown: Map, coefficients: np.ndarray) -> np.ndarray:
    matrix = np.zeros((grown.m, grown.n))
    matrix[np.arange(grown.m), grown.source] = coefficients
    return matrix


def write(grown: Map) -> np.ndarray:
    return dense(grown, grown.write)


def read(grown: Map) -> np.ndarray:
    return dense(grown, grown.read)


@given(maps())
def test_reading_undoes_writing(a: Map) -> None:
    np.testing.assert_allclose(read(a).T @ write(a), np.eye(a.n), atol=1e-12)


@given(maps(), maps())
def test_product_is_kronecker(a: Map, b: Map) -> None:
    np.testing.assert_allclose(write(a * b), np.kron(write(a), write(b)), atol=1e-12)
    np.testing.assert_allclose(read(a * b), np.kron(read(a), read(b)), atol=1e-12)


@given(maps(), maps())
def test_sum_is_block_diagonal(a: Map, b: Map) -> None:
    expected = np.block([[write(a), np.zeros((a.m, b.n))], [np.zeros((b.m, a.n)), write(b)]])
    np.testing.assert_allclose(write(a + b), expected)


@given(maps())
def test_dual_swaps_and_is_its_own_inverse(a: Map) -> None:
    np.testing.assert_array_equal(a.dual.write, a.read)
    np.testing.assert_array_equal(a.dual.dual.write, a.write)


@given(maps(), st.floats(0.1, 10))
def test_scaled(a: Map, factor: float) -> None:
    np.testing.assert_allclose(write(a.scaled(factor)), factor * write(a))
    np.testing.assert_allclose(read(a.scaled(factor)) * factor, read(a))


@given(maps(), maps(), st.integers(0, 2**31))
def test_a_grown_matrix_computes_the_same(a: Map, b: Map, seed: int) -> None:
    """W' x' = (W x)' for every x."""
    rng = np.random.default_rng(seed)
    w, x = rng.normal(size=(b.n, a.n)), rng.normal(size=a.n)
    grown = b.write[:, None] * w[b.source][:, a.source] * a.read[None, :]
    np.testing.assert_allclose(grown @ (a.write * x[a.source]), b.write * (w @ x)[b.source], atol=1e-9)


@given(maps())
def test_energy_is_the_ratio_of_mean_squares(a: Map) -> None:
    if a.energy is not None:
        x = np.random.default_rng(0).normal(size=a.n)
        assert np.isclose(np.mean((write(a) @ x) ** 2), a.energy * np.mean(x**2))


@given(st.integers(1, 9), st.integers(0, 20))
def test_repeat_lays_out_blocks(n: int, extra: int) -> None:
    grown = Map.repeat(n, n + extra)
    np.testing.assert_array_equal(grown.source, np.resize(np.arange(n), n + extra))
    assert grown.counts.sum() == n + extra and np.ptp(grown.counts) <= 1


def test_a_lossy_map_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="coordinate 1 add up to 2"):
        Map(2, np.array([0, 1, 1]), np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="add up to 0"):
        Map(2, np.array([0, 0]), np.ones(2), np.full(2, 0.5))
    with pytest.raises(ValueError, match="outside"):
        Map(1, np.array([0, 1]), np.ones(2), np.ones(2))
    with pytest.raises(ValueError, match="shape"):
        Map(1, np.array([0]), np.ones(2), np.ones(2))


def test_axes_print_and_map_like_their_expression() -> None:
    heads, head_dim, other = Space("heads", "h"), Space("head_dim", "d"), Space("other", "o")
    grown = {heads: Map.repeat(2, 4), head_dim: Map.identity(3), other: Map.repeat(1, 2)}
    axis = heads * head_dim + other
    assert str(axis) == "heads * head_dim + other"
    assert axis.map(grown).source.tolist() == [0, 1, 2, 3, 4, 5] * 2 + [6, 6]


def test_a_fixed_factor_stays() -> None:
    grown = (FFN * Fixed(2)).map({FFN: Map.repeat(3, 5)})
    assert (grown.n, grown.m) == (6, 10)
    assert grown.source.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert not (FFN * Fixed(2)).spaces() - {FFN}


def test_interleaved_parts_are_a_product_where_their_outer_maps_agree() -> None:
    maps = {HEADS: Map.repeat(2, 6), QUERY: Map.repeat(3, 6, 0.7), VALUE: Map.repeat(2, 2)}
    apart = Interleaved((Product(HEADS, QUERY), Product(HEADS, VALUE))).map(maps)
    whole = (HEADS * (QUERY + VALUE)).map(maps)
    assert np.array_equal(apart.source, whole.source)
    np.testing.assert_allclose(apart.write, whole.write)
    np.testing.assert_allclose(apart.read, whole.read)


def test_interleaved_parts_keep_their_own_coefficients() -> None:
    silent = Map(2, np.array([0, 0, 1, 1]), np.array([0.0, 1, 0, 1]), np.ones(4))
    maps = {HEADS: silent.dual, VALUE_HEADS: silent, QUERY: Map.identity(1)}
    grown = Interleaved((Product(HEADS, QUERY), Product(VALUE_HEADS, QUERY))).map(maps)
    assert grown.source.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert grown.write.tolist() == [1, 0, 1, 1, 1, 0, 1, 1]


def test_axes_print_as_they_multiply() -> None:
    """A sum inside a product is in brackets: heads * (q + k) is interleaved, heads * q + k is not."""
    heads, q, k = Space("heads", "num_attention_heads"), Space("q", "head_dim"), Space("k", "head_dim")
    assert str(heads * (q + k)) == "heads * (q + k)" and str(heads * q + k) == "heads * q + k"
    assert str((q + k) * heads) == "(q + k) * heads" and str(heads * (q * k)) == "heads * q * k"
