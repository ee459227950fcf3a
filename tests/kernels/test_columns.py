"""Statistics of columns: exact against fractions, and the same however rows are split."""

from __future__ import annotations

from fractions import Fraction
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distclust.kernels.affine import scale_rows, unscale_rows
from distclust.kernels.column_ranks import KEY_BITS, collect_keys, count_keys, floats_of_keys
from distclust.kernels.column_sums import ColumnSums, column_sums, merge_column_sums
from distclust.preprocessing.moments import Moments

NO_PREFIX = np.zeros((1, 1), dtype=np.uint64)


def split_sums(X: np.ndarray, n: int) -> ColumnSums:
    return reduce(merge_column_sums, map(column_sums, np.array_split(X, n)))


@given(
    hnp.arrays(np.float64, st.integers(2, 30), elements=st.floats(-1e150, 1e150)),
    st.integers(1, 5),
)
@settings(deadline=None)
def test_mean_and_variance_are_correctly_rounded(values: np.ndarray, n_parts: int) -> None:
    exact = [Fraction(float(value)) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum(value * value for value in exact) / len(exact) - mean * mean
    found = split_sums(values[:, np.newaxis], n_parts)
    assert found.means()[0] == float(mean)
    assert Moments.of_sums(found).variances()[0] == float(variance)


def test_sums_that_exceed_doubles_are_infinite() -> None:
    found = column_sums(np.array([[1.7e308, 1e200], [1.7e308, -1e200]]))
    assert found.means().tolist() == [1.7e308, 0.0]
    assert Moments.of_sums(found).variances().tolist() == [0.0, np.inf]


def test_many_rows_of_one_value_do_not_overflow_a_digit() -> None:
    X = np.full((100_000, 1), np.nextafter(2.0, 0))
    found = reduce(merge_column_sums, [column_sums(X)] * 20)
    assert found.counts.tolist() == [2_000_000]
    assert found.means()[0] == X[0, 0]
    assert Moments.of_sums(found).variances()[0] == 0.0


@pytest.mark.parametrize("missing", [np.nan, -1.0])
def test_missing_values_are_left_out(missing: float) -> None:
    X = np.array([[1.0, missing], [missing, np.nan], [3.0, missing]], dtype=np.float32)
    found = column_sums(X, missing)
    assert found.counts.tolist() == [2, 0]
    assert found.means()[0] == 2.0
    assert np.isnan(found.means()[1])
    keys = count_keys(X, missing, np.zeros((2, 1), dtype=np.uint64), 0, 3)
    assert keys.sum(axis=(1, 2)).tolist() == [2, 0]


@given(hnp.arrays(np.float64, 20, elements=st.floats(allow_nan=False)))
@settings(deadline=None)
def test_keys_are_in_the_order_of_floats(values: np.ndarray) -> None:
    everything = collect_keys(values[:, np.newaxis], np.nan, np.ones((1, 1), dtype=np.uint64), 1)
    rest = collect_keys(values[:, np.newaxis], np.nan, NO_PREFIX, 1)
    keys = np.sort(np.concatenate([everything[:, 2], rest[:, 2]]))
    np.testing.assert_array_equal(floats_of_keys(keys), np.sort(values))


def test_keys_are_counted_below_their_prefix() -> None:
    X = np.array([[1.0], [1.0], [1.5], [-1.0], [0.0], [-0.0]])
    by_sign = count_keys(X, np.nan, NO_PREFIX, 0, 1)
    assert by_sign.tolist() == [[[1, 5]]]  # both zeros are positive
    positive = np.ones((1, 1), dtype=np.uint64)
    below = count_keys(X, np.nan, positive, 1, 12)
    assert below.sum() == 5
    assert sorted(below[below > 0].tolist()) == [1, 2, 2]  # 1.5; 1.0 twice; 0.0 twice
    all_bits = collect_keys(X[:1], np.nan, positive, 1)[:, 2]
    exact = count_keys(X, np.nan, (all_bits >> np.uint64(1))[np.newaxis], KEY_BITS - 1, 1)
    assert exact.tolist() == [[[2, 0]]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaling_is_rounded_once(dtype: type) -> None:
    X = np.random.default_rng(0).normal(size=(50, 3)).astype(dtype)
    X.flags.writeable = False
    shift, scale = np.array([0.1, 5.0, -3e8]), np.array([3.0, 1e-3, 7.0])
    scaled = scale_rows(X, shift, scale)
    np.testing.assert_array_equal(scaled, ((X.astype(float) - shift) / scale).astype(dtype))
    back = unscale_rows(scaled, shift, scale)
    np.testing.assert_array_equal(back, (scaled.astype(float) * scale + shift).astype(dtype))
