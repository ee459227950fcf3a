"""Labels are the argmin of the canonical distance, whatever proposes them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distclust.kernels.assign import assign, center_table, sq_distances
from distclust.kernels.scaling import Frame
from distclust.kernels.tile import TILE_ROWS

DTYPES = [np.float32, np.float64]


def canonical(X: np.ndarray, centers: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """((x - c) * scale)**2 summed feature by feature, in order, in float64."""
    total = np.zeros((len(X), len(centers)))
    for j in range(X.shape[1]):
        diff = (X[:, j, np.newaxis].astype(np.float64) - centers[:, j].astype(np.float64)) * scale
        total += diff * diff
    return total


def around_mean(X: np.ndarray) -> Frame:
    """The frame that a pass over the data would give."""
    offset = (X.astype(np.float64) / len(X)).sum(axis=0).astype(X.dtype).astype(np.float64)
    spread = np.abs(X - offset).max(axis=0)
    longest = spread.max()
    diagonal = longest * np.sqrt(((spread / longest) ** 2).sum()) if longest else 0.0
    return Frame.around(offset, float(diagonal))


def check(X: np.ndarray, centers: np.ndarray, frame: Frame) -> np.ndarray:
    """Compare `assign` with the definition, and return the labels."""
    labels, sq_dist = assign(X, center_table(centers, frame))
    expected = canonical(X, centers, frame.scale)
    np.testing.assert_array_equal(labels, expected.argmin(axis=1))
    np.testing.assert_array_equal(sq_dist, expected.min(axis=1))
    assert (labels.dtype, sq_dist.dtype) == (np.int32, np.float64)
    return labels


def test_by_hand() -> None:
    X = np.array([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0], [6.0, 0.0]])
    centers = np.array([[0.0, 0.0], [10.0, 0.0]])
    frame = Frame.of_centers(centers)
    labels, sq_dist = assign(X, center_table(centers, frame))
    assert labels.tolist() == [0, 0, 1, 1]
    assert [frame.in_data_units(each) for each in sq_dist] == [0.0, 25.0, 0.0, 16.0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 8, 9, 31])
@pytest.mark.parametrize("d", [1, 2, 7, 40])
def test_labels_are_the_canonical_argmin(dtype: type, k: int, d: int) -> None:
    rng = np.random.default_rng(k * 100 + d)
    X = rng.normal(size=(700, d)).astype(dtype)
    check(X, X[:k].copy(), around_mean(X))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [3, 600, 3000])
@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("tiles", [1, 2])
def test_any_number_of_rows_fits_the_tiles(dtype: type, k: int, extra: int, tiles: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(tiles * TILE_ROWS + extra, 3)).astype(dtype)
    centers = rng.normal(size=(k, 3)).astype(dtype)
    check(X, centers, around_mean(X))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows(n: int) -> None:
    centers = np.array([[1.0], [5.0], [2.0]])
    frame = Frame.of_centers(centers)
    labels, sq_dist = assign(np.full((n, 1), 1.75), center_table(centers, frame))
    assert labels.tolist() == [2] * n
    assert [frame.in_data_units(each) for each in sq_dist] == [0.0625] * n


@pytest.mark.parametrize(
    ("dtype", "offset"), [(np.float32, 1e4), (np.float32, -1e6), (np.float64, 1e8)]
)
@pytest.mark.parametrize("k", [2, 10, 33])
def test_far_from_the_origin(dtype: type, offset: float, k: int) -> None:
    """Expanded distances would have no correct digit left here."""
    rng = np.random.default_rng(1)
    X = (rng.normal(size=(2000, 6)) + offset).astype(dtype)
    centers = X[:k].copy()
    for frame in (around_mean(X), Frame.of_centers(centers), Frame(np.zeros(6), 1.0)):
        check(X, centers, frame)


@pytest.mark.parametrize("factor", [1e200, 1e-170, 1e300, 1e-300, 2.0**600, 1.0])
@pytest.mark.parametrize("k", [2, 9])
def test_any_magnitude(factor: float, k: int) -> None:
    X = np.random.default_rng(2).normal(size=(600, 4))
    for frame in (around_mean(X * factor), Frame.of_centers(X[:k] * factor)):
        labels, _ = assign(X * factor, center_table(X[:k] * factor, frame))
        expected = canonical(X * factor, X[:k] * factor, frame.scale)
        np.testing.assert_array_equal(labels, expected.argmin(axis=1))
        np.testing.assert_array_equal(labels, canonical(X, X[:k]).argmin(axis=1))


@pytest.mark.parametrize("exponent", [-140, -126, -60, 60, 120])
def test_any_magnitude_of_float32(exponent: int) -> None:
    """At 2**-140 every value is subnormal, and the frame's scale no float32."""
    rng = np.random.default_rng(3)
    X = np.ldexp(rng.integers(-40, 40, size=(600, 4)).astype(np.float32), exponent)
    centers = X[:7].copy()
    for frame in (around_mean(X), Frame.of_centers(centers)):
        check(X, centers, frame)


@pytest.mark.parametrize("dtype", DTYPES)
def test_duplicate_centers_lose_to_the_first(dtype: type) -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(500, 5)).astype(dtype)
    centers = np.concatenate([X[:3], X[:3], X[2:0:-1]])
    labels = check(X, centers, around_mean(X))
    assert set(labels) == {0, 1, 2}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0, 10_000])
def test_exact_ties_go_to_the_lowest_index(dtype: type, offset: int) -> None:
    """On a grid most rows are equally far from several centers; integers say from which."""
    grid = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3), axis=-1).reshape(-1, 3)
    corners = np.stack(np.meshgrid(*[[-4, 0, 4]] * 3), axis=-1).reshape(-1, 3)[::-1]
    sq_dist = ((grid[:, np.newaxis] - corners) ** 2).sum(axis=2)
    expected = sq_dist.argmin(axis=1)  # the first of equals
    assert ((sq_dist == sq_dist.min(axis=1, keepdims=True)).sum(axis=1) > 1).sum() > 500
    X, centers = (grid + offset).astype(dtype), (corners + offset).astype(dtype)
    for frame in (around_mean(X), Frame.of_centers(centers), Frame(np.full(3, 0.25), 0.5)):
        np.testing.assert_array_equal(check(X, centers, frame), expected)


def test_a_tie_of_real_numbers_that_rounding_breaks_is_broken_the_same_way() -> None:
    """0.1 and 0.3 are not equally far from 0.2 as doubles: the distances decide, exactly."""
    row, low, high = 0.2, 0.1, 0.3
    gap = abs(Fraction(row) - Fraction(low)) - abs(Fraction(row) - Fraction(high))
    assert gap > 0
    for centers, label in ((np.array([[low], [high]]), 1), (np.array([[high], [low]]), 0)):
        labels, _ = assign(np.array([[row]]), center_table(centers, Frame.of_centers(centers)))
        assert labels.tolist() == [label]


@pytest.mark.parametrize("dtype", DTYPES)
def test_centers_within_one_rounding_of_each_other(dtype: type) -> None:
    rng = np.random.default_rng(5)
    base = rng.normal(size=8).astype(dtype)
    steps = rng.integers(-2, 3, size=(12, 8)).astype(dtype)
    centers = base + steps * np.spacing(base)
    X = (base + rng.normal(size=(400, 8)) * 1e-3).astype(dtype)
    for frame in (around_mean(X), Frame.of_centers(centers), Frame(np.zeros(8), 0.125)):
        check(X, centers, frame)


rows_and_centers = st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.float64, (shape[0], shape[2]), elements=st.integers(-6, 6).map(float)),
        hnp.arrays(np.float64, (shape[1], shape[2]), elements=st.integers(-6, 6).map(float)),
    )
)


@given(
    rows_and_centers,
    st.sampled_from(DTYPES),
    st.integers(-40, 40),
    st.floats(-50, 50, width=32),
    st.integers(-20, 20),
)
def test_no_frame_changes_a_label(
    given_rows: tuple[np.ndarray, np.ndarray],
    dtype: type,
    exponent: int,
    offset: float,
    magnitude: int,
) -> None:
    X, centers = (np.ldexp(array, magnitude).astype(dtype) for array in given_rows)
    expected = canonical(X, centers).argmin(axis=1)
    strange = Frame(np.full(X.shape[1], offset), 2.0**exponent)
    for frame in (Frame.of_centers(centers), strange):
        labels, _ = assign(X, center_table(centers, frame))
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_centers_far_outside_the_frame(dtype: type) -> None:
    """Initial centers may be anywhere, also where their squares overflow."""
    X = np.linspace(0, 1e-3, 300, dtype=dtype)[:, np.newaxis]
    centers = np.array([[1e25], [5e-4], [-1e25], [0.0]], dtype=dtype)
    labels, _ = assign(X, center_table(centers, around_mean(X)))
    np.testing.assert_array_equal(labels, canonical(X, centers).argmin(axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_read_only_rows_and_centers(dtype: type) -> None:
    X = np.random.default_rng(6).normal(size=(300, 3)).astype(dtype)
    expected = check(X, X[:4].copy(), around_mean(X))
    frozen: list[Any] = [X.copy(), X[:4].copy()]
    for array in frozen:
        array.flags.writeable = False
    np.testing.assert_array_equal(check(frozen[0], frozen[1], around_mean(X)), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_of_a_row_do_not_depend_on_its_neighbours(dtype: type) -> None:
    rng = np.random.default_rng(7)
    X = rng.normal(size=(1500, 5)).astype(dtype)
    table = center_table(X[:6].copy(), around_mean(X))
    labels, sq_dist = assign(X, table)
    for start, stop in ((0, 1), (3, 700), (511, 1500), (1499, 1500)):
        part_labels, part_sq_dist = assign(X[start:stop], table)
        np.testing.assert_array_equal(part_labels, labels[start:stop])
        np.testing.assert_array_equal(part_sq_dist, sq_dist[start:stop])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1.0, 0.25, 2.0**40])
def test_sq_distances_are_canonical(dtype: type, scale: float) -> None:
    rng = np.random.default_rng(8)
    X, centers = rng.normal(size=(50, 6)).astype(dtype), rng.normal(size=(7, 6))
    np.testing.assert_array_equal(sq_distances(X, centers, scale), canonical(X, centers, scale))
    by_hand = sq_distances(np.array([[1.0, 2.0]], dtype=dtype), np.array([[4.0, 6.0], [1.0, 2.0]]))
    assert by_hand.tolist() == [[25.0, 0.0]]
