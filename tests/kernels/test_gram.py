"""Second moments: exact integers, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest

from distclust.kernels.gram import (
    ROWS_AT_ONCE,
    GramScale,
    GramSum,
    SecondMoments,
    covariance,
    merge_second_moments,
)
from distclust.kernels.scaling import extremes


def summed(X: np.ndarray, scale: GramScale, *cuts: int) -> SecondMoments:
    total = GramSum(scale)
    for part in np.split(X, cuts):
        total.add(part)
    return total.total()


def rows(n: int, d: int) -> np.ndarray:
    rng = np.random.default_rng(n + d)
    return rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 4, d) + 1e3


@pytest.mark.parametrize(("n", "d"), [(2, 1), (5, 3), (300, 7), (ROWS_AT_ONCE + 1, 40), (9000, 5)])
def test_is_the_exact_sum_of_rounded_rows(n: int, d: int) -> None:
    X = rows(n, d)
    scale = GramScale.of(extremes(X, None))
    found = summed(X, scale)
    seen = np.rint((X - scale.middle) * np.ldexp(1.0, scale.exponents)).astype(np.int64)
    seen = seen.astype(object)
    shift = scale.slice_bits + 1
    high, mixed, low = found.products.astype(object)
    total = (high << 2 * shift) + ((mixed + mixed.T) << shift) + low
    np.testing.assert_array_equal(np.triu(total), np.triu(seen.T @ seen))
    sums = (found.sums[0].astype(object) << shift) + found.sums[1]
    np.testing.assert_array_equal(sums, seen.sum(axis=0))


def test_blocks_do_not_matter() -> None:
    X = rows(1000, 20)
    scale = GramScale.of(extremes(X, None))
    whole = summed(X, scale)
    merged = merge_second_moments(
        summed(X[700:], scale), summed(X[:700], scale, 0, 1, ROWS_AT_ONCE, 650)
    )
    for a, b in zip(covariance(whole, scale), covariance(merged, scale), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_covariance(dtype: str) -> None:
    X = rows(2000, 12).astype(dtype)
    scale = GramScale.of(extremes(X, None))
    mean, found = covariance(summed(X, scale), scale)
    expected = np.cov(X.astype(np.float64), rowvar=False)
    deviation = np.sqrt(np.diag(expected))
    assert np.abs((found - expected) / np.outer(deviation, deviation)).max() < 1e-11
    np.testing.assert_allclose(mean, X.mean(axis=0, dtype=np.float64), rtol=1e-12)


def test_one_row_far_away_leaves_the_digits_of_the_others() -> None:
    """Its reach sets the grid, but its variance then is what the grid is fine beside."""
    X = rows(10000, 2)
    X[17, 0] = 1e9
    scale = GramScale.of(extremes(X, None))
    found = covariance(summed(X, scale), scale)[1]
    np.testing.assert_allclose(found, np.cov(X, rowvar=False), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 3.5, 1e300, 1e-300])
def test_a_constant_feature_has_no_variance(value: float) -> None:
    X = np.full((10, 2), value)
    X[:, 1] = np.arange(10)
    scale = GramScale.of(extremes(X, None))
    mean, found = covariance(summed(X, scale), scale)
    np.testing.assert_array_equal(found[0], [0, 0])
    assert mean[0] == value


def test_many_rows_have_a_coarser_grid() -> None:
    few, many = (extremes(np.ones((1, 1)), None)._replace(n_rows=n) for n in (1000, 10**9))
    assert GramScale.of(few).slice_bits == 20
    assert GramScale.of(many).slice_bits == 16  # 2 * 16 + 30 bits fit an int64
