"""Coordinates that carry the mean: what a layer norm computes from them, which laws and roles
accept them, and the arithmetic on weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from growth.algebra.axes import Concatenation, Fixed, Interleaved, Product, Space
from growth.algebra.derived_laws import Dual, Normalised, Scaled, UnitLength
from growth.algebra.laws import Growth, Linear
from growth.algebra.maps import Map
from growth.algebra.norm_laws import Isometric, LayerNorm, RMSNorm
from growth.algebra.roles import Gain, Keeps, Reads, Role, Scale, Writes
from growth.errors import IllegalGrowthError, IllegalShapeError
from growth.plan.tensor_plan import TensorPlan
from growth.proof import outputs
from growth.weights import grow
from growth.weights.fold import Fold
from growth.weights.grow import grow_tensor

settings.register_profile("growth", deadline=None, max_examples=60)
settings.load_profile("growth")

STREAM, NORMED, HEAD, FFN = (Space(name, "hidden_size") for name in ("stream", "normed", "head", "ffn"))
sizes = st.tuples(st.integers(2, 12), st.integers(0, 30)).map(lambda pair: (pair[0], pair[0] + pair[1]))
scalings = st.sampled_from(["unit", "orthogonal"])
seeds = st.integers(0, 2**31)
EPSILON = 0.3


def growth(
    n: int, m: int, scaling: str = "unit", maps: dict[Space, Map] | None = None, isometric: bool = False
) -> Growth:
    return Growth(STREAM, n, m, scaling, maps=maps or {}, isometric=isometric)  # type: ignore[arg-type]


def stream(n: int = 24, m: int = 42, scaling: str = "unit", isometric: bool = False) -> Map:
    return LayerNorm().grow(growth(n, m, scaling, isometric=isometric))


def dense(grown: Map, coefficients: np.ndarray) -> np.ndarray:
    """``[m, n]``: a row has the coefficient at its source, or 1/n of it everywhere for a mean."""
    matrix = np.zeros((grown.m, grown.n))
    matrix[np.arange(grown.m), grown.source] = 1.0
    matrix[grown.means] = 1.0 / grown.n
    return coefficients[:, None] * matrix


def layer(x: np.ndarray, eps: float) -> np.ndarray:
    normalised: np.ndarray = (x - x.mean()) / np.sqrt(x.var() + eps)
    return normalised


@given(sizes, scalings, st.booleans(), seeds)
@example((24, 42), "unit", False, 0)
@example((24, 42), "orthogonal", False, 0)
@example((24, 42), "unit", True, 0)
@example((24, 60), "orthogonal", False, 0)
def test_the_layer_norm_of_the_grown_stream_is_the_grown_norm(
    size: tuple[int, int], scaling: str, isometric: bool, seed: int
) -> None:
    a = stream(*size, scaling, isometric)
    assert a.energy is not None
    x = np.random.default_rng(seed).normal(size=a.n)
    normalised = np.where(a.means, 0.0, a.write / a.energy**0.5 * layer(x, EPSILON)[a.source])
    np.testing.assert_allclose(layer(dense(a, a.write) @ x, EPSILON * a.energy), normalised, atol=1e-12)


@given(sizes, seeds)
@example((24, 42), 0)
def test_reading_undoes_writing_beside_means(size: tuple[int, int], seed: int) -> None:
    for a in (stream(*size), stream(*size, "orthogonal"), stream(*size).scaled(0.7), stream(*size).dual.dual):
        np.testing.assert_allclose(dense(a, a.read).T @ dense(a, a.write), np.eye(a.n), atol=1e-12)
        assert not a.read[a.means].any() and (a.write[a.means] != 0).all()


@given(sizes, scalings)
@example((24, 42), "unit")
@example((768, 1152), "unit")
@example((340, 599), "unit")
def test_whole_copies_come_first_and_the_mean_fills_the_rest(size: tuple[int, int], scaling: str) -> None:
    (n, m), a = size, stream(*size, scaling)
    whole = m // n * n
    assert (
        a.source[:whole].tolist() == list(range(n)) * (m // n) and not a.means[:whole].any() and a.means[whole:].all()
    )
    assert np.ptp(a.write) == 0
    if scaling == "unit":
        assert (a.write == 1).all(), "what is written rounds nothing"
        assert a.energy == pytest.approx(whole / m, rel=1e-12)
    else:
        assert a.energy == pytest.approx(n / m, rel=1e-12)


@given(sizes)
@example((24, 42))
def test_an_epsilon_that_cannot_move_takes_an_energy_of_one(size: tuple[int, int]) -> None:
    for law in (LayerNorm(), RMSNorm(), Isometric()):
        assert law.grow(growth(*size, isometric=True)).energy == pytest.approx(1, rel=1e-12)
    for scaling in ("unit", "orthogonal"):
        assert Isometric().grow(growth(*size, scaling)).energy == pytest.approx(1, rel=1e-12)


def test_where_no_norm_may_see_the_mean_layer_norm_refuses_by_name() -> None:
    for law, maps in ((LayerNorm(elementwise=True), {}), (LayerNorm(layout=NORMED), {NORMED: Map.repeat(768, 1000)})):
        with pytest.raises(
            IllegalShapeError, match=r"'stream' \(hidden_size\) from 768 to 1000: .*Use a multiple of 768: 1536"
        ) as refusal:
            law.grow(growth(768, 1000, maps=maps))
        assert refusal.value.blame == {"hidden_size"}


@given(sizes)
@example((24, 37))
@example((24, 60))
def test_an_rms_norm_writes_most_coordinates_without_rounding(size: tuple[int, int]) -> None:
    (n, m), a = size, RMSNorm().grow(growth(*size))
    common = np.bincount(a.counts[a.source]).argmax()  # the count that most new coordinates have
    assert (a.write[a.counts[a.source] == common] == 1).all()
    assert a.energy == pytest.approx(common * n / m, rel=1e-12)
    assert m % n or a.energy == 1


@given(sizes, scalings)
@example((24, 42), "unit")
def test_the_output_of_a_norm_is_silent_where_the_mean_entered(size: tuple[int, int], scaling: str) -> None:
    entering = stream(*size, scaling)
    a = Linear(STREAM).grow(growth(*size, scaling, {STREAM: entering}))
    assert not a.averages and (a.write[entering.means] == 0).all() and (a.write[~entering.means] != 0).all()
    np.testing.assert_allclose(
        a.read, a.read[a.source]
    )  # read like the other copies, so that their writers get a gradient
    assert (a.read != 0).all()
    np.testing.assert_allclose(dense(a, a.read).T @ dense(a, a.write), np.eye(a.n), atol=1e-12)


@given(sizes, scalings, seeds)
@example((24, 42), "unit", 0)
def test_the_output_of_a_norm_without_a_gain_follows_its_law(size: tuple[int, int], scaling: str, seed: int) -> None:
    entering = stream(*size, scaling)
    a = Normalised(STREAM).grow(growth(*size, scaling, {STREAM: entering}))
    assert entering.energy is not None
    x = np.random.default_rng(seed).normal(size=a.n)
    left = layer(dense(entering, entering.write) @ x, EPSILON * entering.energy)
    np.testing.assert_allclose(left, dense(a, a.write) @ layer(x, EPSILON), atol=1e-12)


@given(sizes, scalings, seeds)
@example((24, 42), "unit", 0)
def test_a_head_that_shares_its_matrix_takes_its_mean_where_the_embedding_writes_it(
    size: tuple[int, int], scaling: str, seed: int
) -> None:
    """The output of the final norm is 0 where the mean entered, so any weight of the head there
    adds nothing."""
    embedded = stream(*size, scaling)
    a = Dual(STREAM).grow(growth(*size, scaling, {STREAM: embedded}))
    assert (a.means == embedded.means).all() and (a.read == embedded.write).all() and not a.write[a.means].any()
    rng = np.random.default_rng(seed)
    w, h = rng.normal(size=(5, a.n)), rng.normal(size=a.n)
    np.testing.assert_allclose(w @ dense(embedded, embedded.write).T @ (dense(a, a.write) @ h), w @ h, atol=1e-9)
    scaled = Scaled(HEAD, "scale").grow(Growth(STREAM, a.n, a.m, ratios={"scale": 0.25}, maps={HEAD: a}))
    np.testing.assert_allclose(0.25 * scaled.write, a.write)


def test_a_length_would_contain_the_mean() -> None:
    with pytest.raises(
        IllegalShapeError, match=r"from 24 to 42: its length would contain the mean .* multiple of 24: 48"
    ):
        UnitLength(STREAM).grow(growth(24, 42, maps={STREAM: stream()}))


def test_no_part_of_a_larger_axis_may_carry_its_mean() -> None:
    maps = {STREAM: stream(), FFN: Map.repeat(2, 4)}
    for axis in (
        STREAM * FFN,
        FFN * STREAM,
        STREAM + FFN,
        FFN + STREAM,
        STREAM * Fixed(2),
        Concatenation(STREAM, Fixed(1)),
        Interleaved((Product(FFN, STREAM),)),
    ):
        with pytest.raises(IllegalGrowthError, match="part of a larger axis here, whose mean would be another"):
            axis.map(maps)
        assert not axis.map(maps | {STREAM: stream(24, 48)}).averages


def test_a_mean_that_is_read_cannot_be_built() -> None:
    mean = np.array([False, False, True])
    Map(2, np.array([0, 1, 0]), np.ones(3), np.array([1.0, 1.0, 0.0]), mean)
    with pytest.raises(ValueError, match="carries the mean is read"):
        Map(2, np.array([0, 1, 0]), np.ones(3), np.array([0.5, 1.0, 0.5]), mean)


def test_neither_a_norm_nor_a_factor_per_coordinate_can_write_a_mean() -> None:
    maps = {
        STREAM: stream(),
        NORMED: Linear(STREAM).grow(growth(24, 42, maps={STREAM: stream()})),
        FFN: Map.repeat(24, 42),
    }
    with pytest.raises(IllegalShapeError, match=r"carry the mean of itself, which a norm .* 24: 48") as refusal:
        Gain(STREAM, STREAM).resolve(24, maps)
    assert refusal.value.blame == {"hidden_size"}
    for role in (Scale(NORMED, STREAM), Scale(FFN, STREAM)):
        with pytest.raises(IllegalShapeError, match=r"'stream'.* which a factor per coordinate cannot write"):
            role.resolve(24, maps)
    with pytest.raises(IllegalShapeError, match="'ffn'"):
        Gain(STREAM, FFN).resolve(24, maps)  # it would have to turn a mean into copies


@given(sizes, scalings)
@example((24, 42), "unit")
@example((24, 60), "orthogonal")
def test_a_gain_is_1_where_the_mean_entered(size: tuple[int, int], scaling: str) -> None:
    entering = stream(*size, scaling)
    maps = {STREAM: entering, NORMED: Linear(STREAM).grow(growth(*size, scaling, {STREAM: entering}))}
    gain = Gain(STREAM, NORMED).resolve(size[0], maps)
    assert (gain.value[entering.means] == 1).all() and (gain.gradient[entering.means] == 0).all()
    copies = ~entering.means
    assert entering.energy is not None
    expected = maps[NORMED].write[copies] / (entering.write[copies] / entering.energy**0.5)
    np.testing.assert_allclose(gain.value[copies], expected)


def matrix(size: int, role: Role, maps: dict[Space, Map]) -> np.ndarray:
    """One dimension as a dense matrix ``[new, old]``, from its coefficients."""
    resolved = role.resolve(size, maps)
    copied = np.zeros((resolved.new, resolved.old))
    copied[np.arange(resolved.new), resolved.source] = 1.0
    if resolved.mean is not None:
        copied[resolved.mean] = 1.0 / resolved.old
    return resolved.value[:, None] * copied


def plan_of(shape: tuple[int, ...], roles: tuple[Role, ...], maps: dict[Space, Map]) -> TensorPlan:
    return TensorPlan(
        "w", "w", shape, roles, tuple(role.resolve(n, maps) for role, n in zip(roles, shape, strict=True))
    )


TENSORS: dict[str, tuple[tuple[int, ...], tuple[Role, ...]]] = {
    "embedding": ((11, 24), (Keeps(), Writes(STREAM))),
    "output projection": ((24, 6), (Writes(STREAM), Reads(FFN))),
    "output projection, Conv1D": ((6, 24), (Reads(FFN), Writes(STREAM))),
    "its bias": ((24,), (Writes(STREAM),)),
    "patches": ((24, 3, 2, 2), (Writes(STREAM), Keeps(), Keeps(), Keeps())),
    "head that shares its matrix": ((11, 24), (Keeps(), Reads(HEAD))),
    "stream to stream": ((24, 24), (Writes(STREAM), Reads(HEAD))),
    "reads the output of a norm": ((6, 24), (Writes(FFN), Reads(NORMED))),
}


def tensor_maps(m: int, scaling: str) -> dict[Space, Map]:
    maps = {STREAM: stream(24, m, scaling)}
    follow = {law: law.grow(growth(24, m, scaling, maps)) for law in (Linear(STREAM), Dual(STREAM))}
    return {**maps, NORMED: follow[Linear(STREAM)], HEAD: follow[Dual(STREAM)], FFN: Map.repeat(6, 10)}


def check_arithmetic(name: str, m: int, scaling: str, dtype: torch.dtype, block: int) -> None:
    """Compare with the definition: one dense matrix per dimension."""
    (shape, roles), maps = TENSORS[name], tensor_maps(m, scaling)
    old = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    expected: Any = old.double().numpy()
    for axis, role in enumerate(roles):
        expected = np.moveaxis(np.tensordot(matrix(shape[axis], role, maps), expected, (1, axis)), 0, axis)
    fold = Fold()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grow, "BLOCK", block)
        grown = grow_tensor(old, plan_of(shape, roles, maps), fold=fold)
    assert grown.dtype == dtype and fold.ok and fold.error < torch.finfo(dtype).eps * 8
    tolerance = torch.finfo(dtype).eps * np.abs(expected).max()  # one rounding
    np.testing.assert_allclose(
        grown.double().numpy(), expected, rtol=0, atol=tolerance * (1 if dtype == torch.float32 else 8)
    )


@pytest.mark.parametrize("block", [1 << 21, 64, 1], ids=["whole", "in blocks", "row by row"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("m", "scaling"), [(42, "unit"), (60, "orthogonal")])
@pytest.mark.parametrize("name", TENSORS)
def test_weights_take_the_mean_of_rows_and_of_columns(
    name: str, m: int, scaling: str, dtype: torch.dtype, block: int
) -> None:
    check_arithmetic(name, m, scaling, dtype, block)


def test_whole_blocks_make_the_same_bits_as_single_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape, roles in TENSORS.values():
        plan, old = (
            plan_of(shape, roles, tensor_maps(42, "unit")),
            torch.randn(shape, generator=torch.Generator().manual_seed(2)),
        )
        grown = []
        for block in (1 << 21, 100, 1):
            monkeypatch.setattr(grow, "BLOCK", block)
            grown.append(grow_tensor(old, plan))
        assert all(torch.equal(grown[0], other) for other in grown[1:])


def test_outputs_are_compared_with_their_mean() -> None:
    a, value = stream(), torch.randn(2, 5, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    np.testing.assert_allclose(outputs.grown_output(value, a).numpy(), value.numpy() @ dense(a, a.write).T, atol=1e-12)
    assert outputs.grown_output(value, None) is value
