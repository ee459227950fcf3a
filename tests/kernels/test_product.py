"""Products of rows and a matrix: what each sum is, and that no way of making it matters."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from distclust.kernels.product import (
    DEPTH,
    ROWS_AT_ONCE,
    Panels,
    SparseMatrix,
    centered_product,
    product,
    product_of_sparse,
    product_of_sparse_rows,
    product_with_sparse,
)

SHAPES = [(1, 1, 1), (5, 3, 2), (7, DEPTH + 1, 33), (ROWS_AT_ONCE + 8, 70, 17), (13, 40, 64)]


def matrices(n: int, d: int, m: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and a matrix, half of each zeros."""
    rng = np.random.default_rng(n + d + m)
    X, W = rng.standard_normal((n, d)), rng.standard_normal((m, d))
    X[rng.random(X.shape) < 0.5], W[rng.random(W.shape) < 0.5] = 0, 0
    return X.astype(dtype), W.astype(dtype)


def entries(matrix: np.ndarray) -> SparseMatrix:
    csr = sp.csr_matrix(matrix)
    return SparseMatrix(csr.indptr.astype(np.int64), csr.indices.astype(np.int32), csr.data)


def test_every_term_is_rounded_once_in_the_order_of_the_features() -> None:
    X, W = matrices(4, 30, 3, "float64")
    expected = np.empty((4, 3))
    for i, c in np.ndindex(4, 3):
        total = 0.0
        for x, w in zip(X[i], W[c], strict=True):
            total = float(Fraction(x) * Fraction(w) + Fraction(total))
        expected[i, c] = total
    np.testing.assert_array_equal(product(X, Panels.of(W)), expected)


def test_a_product_that_one_more_rounding_would_lose() -> None:
    tiny = 2.0**-30
    X, W = np.array([[1.0, 1 + tiny]]), np.array([[-1.0, 1 - tiny]])
    assert product(X, Panels.of(W)) == -(tiny**2)  # (1 + t)(1 - t) = 1 - t**2, not 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "d", "m"), SHAPES)
def test_close_to_blas(n: int, d: int, m: int, dtype: str) -> None:
    X, W = matrices(n, d, m, dtype)
    found = product(X, Panels.of(W))
    assert found.dtype == X.dtype
    tolerance = 1e-4 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(found, X.astype(float) @ W.T.astype(float), atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "d", "m"), SHAPES)
def test_sparse_or_dense_is_the_same(n: int, d: int, m: int, dtype: str) -> None:
    X, W = matrices(n, d, m, dtype)
    expected = product(X, Panels.of(W))
    np.testing.assert_array_equal(product_with_sparse(X, entries(W)), expected)
    rows, transposed = sp.csr_matrix(X), np.ascontiguousarray(W.T)
    np.testing.assert_array_equal(product_of_sparse_rows(rows, transposed), expected)
    np.testing.assert_array_equal(product_of_sparse(rows, entries(transposed), m), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_neither_the_other_rows_nor_alignment_matter(dtype: str) -> None:
    X, W = matrices(ROWS_AT_ONCE + 20, 50, 21, dtype)
    panels = Panels.of(W)
    expected = product(X, panels)
    for start, stop in [(0, 1), (3, 10), (7, 100), (1, len(X))]:
        np.testing.assert_array_equal(product(X[start:stop], panels), expected[start:stop])
    moved = np.empty(X.nbytes + 4, np.uint8)[4:].view(dtype).reshape(X.shape)
    moved[:] = X
    moved.flags.writeable = False
    np.testing.assert_array_equal(product(moved, panels), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_centered(dtype: str) -> None:
    X, W = matrices(ROWS_AT_ONCE + 3, 30, 5, dtype)
    offset = np.linspace(-3, 3, 30)
    centered = (X - offset).astype(dtype)
    np.testing.assert_array_equal(
        centered_product(X, offset, Panels.of(W)), product(centered, Panels.of(W))
    )


def test_no_rows() -> None:
    assert product(np.empty((0, 3)), Panels.of(np.ones((2, 3)))).shape == (0, 2)
