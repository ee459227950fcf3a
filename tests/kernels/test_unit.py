"""Unit rows: each row by itself, the same bits however it is stored."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from distclust.kernels.unit import unit_rows, unit_sparse_rows


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lengths_are_one_and_directions_kept(dtype: str) -> None:
    X = np.random.default_rng(0).normal(size=(200, 7)).astype(dtype)
    unit, first_zero = unit_rows(X)
    exact = X.astype(np.float64)
    expected = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    assert (unit.dtype, first_zero) == (dtype, -1)
    np.testing.assert_allclose(unit, expected, rtol=2 * np.finfo(dtype).eps)


@pytest.mark.parametrize("factor", [2.0**1020, 2.0**-1000, 2.0**-1074])
def test_no_magnitude_is_lost(factor: float) -> None:
    np.testing.assert_array_equal(unit_rows(np.array([[3.0, -4.0]]) * factor)[0], [[0.6, -0.8]])


def test_the_first_row_of_zeros_is_found() -> None:
    X = np.array([[1.0, 0.0], [0.0, -0.0], [0.0, 0.0]])
    assert unit_rows(X)[1] == 1
    assert unit_sparse_rows(np.array([1.0, 0.0]), np.array([0, 1, 2]))[1] == 1
    assert unit_sparse_rows(np.array([1.0]), np.array([0, 1, 1]))[1] == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_rows_have_the_bits_of_dense_ones(dtype: str) -> None:
    rng = np.random.default_rng(1)
    X = (rng.normal(size=(300, 40)) * (rng.random((300, 40)) < 0.2)).astype(dtype)
    X[:, 0] += 1
    csr = sp.csr_array(X)
    csr.data, first_zero = unit_sparse_rows(csr.data, csr.indptr)
    assert first_zero == -1
    np.testing.assert_array_equal(csr.toarray(), unit_rows(X)[0])
