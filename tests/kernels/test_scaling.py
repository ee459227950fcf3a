"""Scales under which integer sums are as fine as they can be, and never overflow."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distclust.kernels.lloyd import rounded_rows
from distclust.kernels.scaling import (
    Extremes,
    FixedPoint,
    Frame,
    MomentScale,
    extremes,
    merge_extremes,
    merge_moments,
    moments,
)

INT64 = 2**63
tables = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20),
    elements=st.floats(-1e300, 1e300),
)


def test_extremes_by_hand() -> None:
    X = np.array([[1, -5], [3, 2], [2, 0]], dtype=np.float32)
    found = extremes(X, np.array([0.5, 4.0, 0.0]))
    np.testing.assert_array_equal(found.low, [1, -5])
    np.testing.assert_array_equal(found.high, [3, 2])
    assert (found.max_weight, found.n_rows) == (4.0, 3)
    assert found.low.dtype == np.float64
    assert extremes(X, None).max_weight == 1.0


@given(tables, st.integers(1, 19))
def test_extremes_of_parts_merge_to_those_of_the_whole(X: np.ndarray, cut: int) -> None:
    parts = [part for part in (X[:cut], X[cut:]) if len(part)]
    merged = reduce(merge_extremes, (extremes(part, None) for part in parts))
    for one, other in zip(merged, extremes(X, None), strict=True):
        np.testing.assert_array_equal(one, other)


# FixedPoint ------------------------------------------------------------------------------


def test_fixed_point_by_hand() -> None:
    """8 rows leave 62 - 4 bits, more than a double's 51: terms below 4 step by 2**-49."""
    found = Extremes(np.array([-1.0]), np.array([3.5]), 1.0, 8)
    rounding = FixedPoint.around(np.array([0.0]), found, weighted=False)
    assert rounding.exponents.tolist() == [49]
    assert rounding.weight_exponent == 0
    assert rounding.grid[1].tolist() == [2.0**49]
    sums, totals = rounded_rows(np.array([[3.5], [-0.75]]), None, rounding)
    assert sums.tolist() == [[7 * 2**48], [-3 * 2**47]]
    assert totals.tolist() == [1, 1]
    assert rounding.sums(sums).tolist() == [[3.5], [-0.75]]


def test_fixed_point_with_weights_by_hand() -> None:
    found = Extremes(np.array([0.0]), np.array([2.0]), 3.0, 2)
    rounding = FixedPoint.around(np.array([1.0]), found, weighted=True)
    assert (rounding.exponents.tolist(), rounding.weight_exponent) == ([48], 49)
    sums, totals = rounded_rows(np.array([[2.0], [0.0]]), np.array([3.0, 0.5]), rounding)
    assert rounding.sums(sums).tolist() == [[3.0], [-0.5]]
    assert rounding.weights(totals).tolist() == [3.0, 0.5]


def test_many_rows_cost_bits() -> None:
    """2**31 rows have a bit length of 32 and leave 30 bits a term."""
    for n_rows, bits in ((1, 51), (2**10, 51), (2**11 - 1, 51), (2**11, 50), (2**31, 30)):
        found = Extremes(np.array([-0.75]), np.array([0.75]), 1.0, n_rows)
        assert FixedPoint.around(np.zeros(1), found, weighted=False).exponents.tolist() == [bits]


@pytest.mark.parametrize("n_rows", [1, 2, 2**10, 2**24 + 1, 2**31 - 1, 2**31, 10**12])
@pytest.mark.parametrize("largest", [0.0, 5e-324, 1e-300, 1.0, 1 - 2**-53, 2.0**52, 1e300])
@pytest.mark.parametrize("weight", [None, 1e-5, 1.0, 7.3, 1e6])
def test_no_sum_can_overflow(n_rows: int, largest: float, weight: float | None) -> None:
    """The largest term, as often as there are rows, stays inside an int64."""
    X = np.array([[largest], [-largest]])
    found = extremes(X, None)._replace(n_rows=n_rows, max_weight=weight or 1.0)
    rounding = FixedPoint.around(np.zeros(1), found, weighted=weight is not None)
    weights = None if weight is None else np.full(2, weight)
    sums, totals = rounded_rows(X, weights, rounding)
    assert n_rows * int(np.abs(sums).max()) < INT64
    assert n_rows * int(totals.max()) < INT64
    assert sums[0, 0] == -sums[1, 0]


@pytest.mark.parametrize("weight", [None, 1.0, 1e-5, 1e6])
@pytest.mark.parametrize("magnitude", [1e-280, 1e-200, 1.0, 1e200, 1e300])
def test_terms_keep_their_precision_at_any_magnitude(
    magnitude: float, weight: float | None
) -> None:
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (50, 3)) * magnitude
    weights = None if weight is None else np.full(50, weight)
    rounding = FixedPoint.around(np.zeros(3), extremes(X, weights), weighted=weights is not None)
    sums, totals = rounded_rows(X, weights, rounding)
    terms = rounding.sums(sums) / (weight or 1.0)
    np.testing.assert_allclose(terms, X, rtol=0, atol=magnitude * 2.0**-49)
    np.testing.assert_allclose(rounding.weights(totals), weight or 1.0, rtol=1e-15)


@pytest.mark.parametrize(
    ("magnitude", "weight"), [(1e10, 1e-300), (1e-200, 1e-200), (1e300, 1e10), (1e-10, 1e300)]
)
def test_magnitudes_of_rows_and_weights_may_be_far_apart(magnitude: float, weight: float) -> None:
    X = np.array([[1.0], [-0.5], [0.25]]) * magnitude
    weights = np.array([1.0, 0.5, 0.75]) * weight
    rounding = FixedPoint.around(np.zeros(1), extremes(X, weights), weighted=True)
    sums, totals = rounded_rows(X, weights, rounding)
    relative = [Fraction(int(total), int(totals[0])) for total in totals]
    np.testing.assert_allclose([float(part) for part in relative], [1.0, 0.5, 0.75], rtol=1e-12)
    relative = [Fraction(int(term), int(sums[0, 0])) for term in sums[:, 0]]
    np.testing.assert_allclose([float(part) for part in relative], [1, -0.25, 0.1875], rtol=1e-12)


@given(tables, st.integers(1, 2**31))
def test_rounded_terms_are_bounded_whatever_the_rows(X: np.ndarray, n_rows: int) -> None:
    offset = X.mean(axis=0) if np.abs(X).max() < 1e299 else np.zeros(X.shape[1])
    found = extremes(X, None)._replace(n_rows=max(n_rows, len(X)))
    rounding = FixedPoint.around(offset, found, weighted=False)
    sums, _ = rounded_rows(X, None, rounding)
    assert found.n_rows * int(np.abs(sums).max()) < INT64
    step = np.ldexp(1.0, -rounding.exponents)
    assert (np.abs(rounding.sums(sums) - (X - offset)) <= step / 2).all()


# Moments ---------------------------------------------------------------------------------


def test_moments_by_hand() -> None:
    """0 … 6 around the middle 3 are -3/4 … 3/4 in units of 1/4."""
    X = np.array([[0.0], [1.0], [6.0]])
    weights = np.array([1.0, 2.0, 0.5])
    scale = MomentScale.of(extremes(X, weights))
    assert (scale.middle.tolist(), scale.unit.tolist()) == ([3.0], [0.25])
    found = moments(X, weights, scale)
    assert (found.plain[:, 0] / scale.one).tolist() == [-0.5, 1.375]
    weighted = found.weighted[:, 0] / scale.one / scale.weight_unit
    assert weighted.tolist() == [-1.375, 1.34375]
    assert found.weight / scale.one / scale.weight_unit == 3.5


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("factor", [2.0**-100, 1.0, 2.0**90])
def test_moments_agree_with_numpy(
    weighted: bool, dtype: type, offset: float, factor: float
) -> None:
    rng = np.random.default_rng(1)
    X = ((rng.normal(size=(500, 4)) + offset) * factor).astype(dtype)
    weights = rng.uniform(0, 3, 500) if weighted else None
    scale = MomentScale.of(extremes(X, weights))
    found = moments(X, weights, scale)
    exact = X.astype(np.float64)
    mean = scale.middle + found.plain[0] / scale.one / 500 / scale.unit
    np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=1e-13)
    z = found.plain / scale.one / 500
    variance = (z[1] - z[0] ** 2) / scale.unit**2
    np.testing.assert_allclose(variance, exact.var(axis=0), rtol=1e-9)
    if weights is None:
        assert found.weight == 500
        assert found.weighted is found.plain
    else:
        total = found.weight / scale.one / scale.weight_unit
        assert total == pytest.approx(weights.sum(), rel=1e-13)
        mean = scale.middle + found.weighted[0] / found.weight / scale.unit
        np.testing.assert_allclose(mean, np.average(exact, axis=0, weights=weights), rtol=1e-13)


@given(tables, st.integers(0, 20), st.booleans())
def test_moments_of_parts_merge_to_those_of_the_whole(
    X: np.ndarray, cut: int, weighted: bool
) -> None:
    weights = np.linspace(0, 1, len(X) + 1)[1:] if weighted else None
    scale = MomentScale.of(extremes(X, weights))
    halves = (slice(None, cut), slice(cut, None))
    parts = [moments(X[s], None if weights is None else weights[s], scale) for s in halves]
    for order in (parts, parts[::-1]):
        for one, other in zip(merge_moments(*order), moments(X, weights, scale), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n_rows", [1, 2**24, 2**31])
@pytest.mark.parametrize("magnitude", [0.0, 5e-324, 1e-300, 1.0, 1e300, 1.7e308])
def test_no_moment_can_overflow(n_rows: int, magnitude: float) -> None:
    X = np.array([[magnitude], [-magnitude]])
    weights = np.array([1e6, 1e6])
    scale = MomentScale.of(extremes(X, weights)._replace(n_rows=n_rows))
    found = moments(X, weights, scale)
    per_row = max(int(np.abs(found.plain).max()), int(np.abs(found.weighted).max()), found.weight)
    assert n_rows * per_row / 2 < INT64


# Frame -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reach", "scale"),
    [
        (3.0, 0.25),
        (4.0, 0.125),  # strictly below one
        (0.75, 1.0),
        (2.0**-60, 2.0**59),
        (0.0, 0.5),  # all rows the same: as for a reach of one
        (np.inf, 0.5),
        (1.7e308, 2.0**-1000),
        (5e-324, 2.0**1000),
    ],
)
def test_frame_scales_by_a_power_of_two(reach: float, scale: float) -> None:
    assert Frame.around(np.zeros(2), reach).scale == scale


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frame_of_centers_looks_from_their_middle(dtype: type) -> None:
    frame = Frame.of_centers(np.array([[1, 10], [3, 30]], dtype=dtype))
    assert frame.offset.tolist() == [2, 20]
    assert frame.offset.dtype == np.float64


def test_frame_of_centers_survives_the_largest_doubles() -> None:
    frame = Frame.of_centers(np.array([[1.7e308], [-1.7e308]]))
    assert np.isfinite(frame.offset).all()
    assert 0 < frame.scale <= 1
