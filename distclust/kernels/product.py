"""Rows times a matrix: one definition of every bit, and the fastest way there.

The *canonical* product of a row x and a row w of the matrix is ``s = fma(x[j], w[j], s)``
for j = 0, 1, ..., from s = 0, in the matrix's dtype: one rounding a term, in the order of
the features. Blocks, threads, the processor and whether either side is sparse only change
how many such sums are under way at once: a zero adds nothing to a sum.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.registers import PANEL_BYTES, TILE_ROWS, add_gathered, add_products, fma

__all__ = [
    "Panels",
    "SparseMatrix",
    "centered_product",
    "product",
    "product_of_sparse",
    "product_of_sparse_rows",
    "product_with_sparse",
]

DEPTH = 512  # terms for which six rows stay in the first-level cache
ROWS_AT_ONCE = 32 * TILE_ROWS  # rows, DEPTH terms of which stay in the second-level cache

Rows = npt.NDArray[Any]


class Panels(NamedTuple):
    """A matrix of shape (m, d) as `product` reads it, `PANEL_BYTES` of its rows at a time."""

    n_rows: int  # m
    values: Rows  # (panels, d, panel width): each transposed; the last one filled with zeros

    @classmethod
    def of(cls, matrix: Rows) -> Panels:
        """Arrange a matrix of shape (m, d), float32 or float64."""
        m, d = matrix.shape
        width = PANEL_BYTES // matrix.itemsize
        filled = np.zeros((-(-m // width) * width, d), dtype=matrix.dtype)
        filled[:m] = matrix
        panels = filled.reshape(-1, width, d).transpose(0, 2, 1)
        return cls(m, np.ascontiguousarray(panels))


class SparseMatrix(NamedTuple):
    """A matrix of shape (m, d) in compressed rows, columns in order."""

    indptr: npt.NDArray[np.int64]  # (m + 1,)
    indices: npt.NDArray[np.int32]  # (nonzeros,)
    data: Rows  # (nonzeros,)


def product(X: Rows, panels: Panels) -> Rows:
    """Multiply rows with a matrix.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64, C order
    panels : Panels
        Of a matrix of shape (m, d) and the same dtype.

    Returns
    -------
    ndarray of shape (n, m), of the same dtype

    Examples
    --------
    >>> product(np.array([[1.0, 2.0]]), Panels.of(np.array([[3.0, 4.0], [0.0, 1.0]])))
    array([[11.,  2.]])
    """
    out = np.zeros((X.shape[0], panels.n_rows), dtype=X.dtype)
    _multiply(X, panels.values, out)
    return out


def centered_product(X: Rows, offset: npt.NDArray[np.float64], panels: Panels) -> Rows:
    """Multiply ``X - offset``, which is rounded to the matrix's dtype, with a matrix.

    The result has the matrix's dtype.
    """
    out = np.zeros((X.shape[0], panels.n_rows), dtype=panels.values.dtype)
    _multiply_centered(X, offset, panels.values, out)
    return out


def product_with_sparse(X: Rows, matrix: SparseMatrix) -> Rows:
    """Multiply rows with a sparse matrix: the same bits as with all its zeros."""
    out = np.empty((X.shape[0], len(matrix.indptr) - 1), dtype=X.dtype)
    _multiply_gathered(X, matrix.indptr, matrix.indices, matrix.data, out)
    return out


def product_of_sparse_rows(X: Any, transposed: Rows) -> Rows:
    """Multiply a CSR matrix, whose columns are in order in each row, with a dense matrix.

    Parameters
    ----------
    X : CSR matrix of shape (n, d)
    transposed : ndarray of shape (d, m), C order, of the same dtype
        The matrix, transposed.
    """
    out = np.zeros((X.shape[0], transposed.shape[1]), dtype=X.dtype)
    _multiply_sparse_rows(X.indptr, X.indices, X.data, transposed, out)
    return out


def product_of_sparse(X: Any, transposed: SparseMatrix, n_columns: int) -> Rows:
    """Multiply a CSR matrix, whose columns are in order in each row, with a sparse matrix.

    Parameters
    ----------
    X : CSR matrix of shape (n, d)
    transposed : SparseMatrix
        Of shape (d, m): the matrix, transposed.
    n_columns : int
        m.
    """
    out = np.zeros((X.shape[0], n_columns), dtype=X.dtype)
    indptr, indices, values = transposed
    _multiply_sparse(X.indptr, X.indices, X.data, indptr, indices, values, out)
    return out


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _multiply(X, panels, out):  # type: ignore[no-untyped-def]
    """Add products to out (INOUT, (n, m)), which begins as zeros.

    Tiles of rows that are not full repeat their last row, and go through `edge`.
    """
    n, d = X.shape
    m, size, one = out.shape[1], X.itemsize, X.dtype.type(1)
    width, x_pitch, out_pitch = panels.shape[2], X.strides[0], out.strides[0]
    x_at, panels_at, out_at = X.ctypes.data, panels.ctypes.data, out.ctypes.data
    edge = np.zeros((TILE_ROWS, width), X.dtype)
    edge_at = edge.ctypes.data
    for top in range(0, n, ROWS_AT_ONCE):
        bottom = min(top + ROWS_AT_ONCE, n)
        for start in range(0, d, DEPTH):
            terms = min(DEPTH, d - start)
            for p in range(panels.shape[0]):
                columns = min(width, m - p * width)
                panel = panels_at + (p * d + start) * width * size
                for i in range(top, bottom, TILE_ROWS):
                    taken = min(TILE_ROWS, bottom - i)
                    row, last = x_at + i * x_pitch + start * size, taken - 1
                    rows = (
                        row,
                        row + min(1, last) * x_pitch,
                        row + min(2, last) * x_pitch,
                        row + min(3, last) * x_pitch,
                        row + min(4, last) * x_pitch,
                        row + min(5, last) * x_pitch,
                    )
                    if taken == TILE_ROWS and columns == width:
                        tile = out_at + i * out_pitch + p * width * size
                        add_products(rows, size, panel, terms, one, tile, out_pitch)
                    else:
                        first = p * width
                        for k in range(taken):
                            for c in range(columns):
                                edge[k, c] = out[i + k, first + c]
                        add_products(rows, size, panel, terms, one, edge_at, width * size)
                        for k in range(taken):
                            for c in range(columns):
                                out[i + k, first + c] = edge[k, c]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _multiply_centered(X, offset, panels, out):  # type: ignore[no-untyped-def]
    n, d = X.shape
    seen = np.empty((min(n, ROWS_AT_ONCE), d), dtype=out.dtype)
    for top in range(0, n, ROWS_AT_ONCE):
        rows = min(ROWS_AT_ONCE, n - top)
        for i in range(rows):
            for j in range(d):
                seen[i, j] = np.float64(X[top + i, j]) - offset[j]
        _multiply(seen[:rows], panels, out[top : top + rows])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _multiply_gathered(X, indptr, indices, data, out):  # type: ignore[no-untyped-def]
    """Write products to out (OUT, (n, m)): a line of rows at a time, transposed."""
    n, d = X.shape
    size, one = X.itemsize, X.dtype.type(1)
    width = 2 * PANEL_BYTES // size
    columns, sums = np.zeros((d, width), X.dtype), np.empty(width, X.dtype)
    columns_at, sums_at = columns.ctypes.data, sums.ctypes.data
    indices_at, data_at = indices.ctypes.data, data.ctypes.data
    for top in range(0, n, width):
        rows = min(width, n - top)
        for start in range(0, d, width):
            for i in range(rows):
                for j in range(start, min(start + width, d)):
                    columns[j, i] = X[top + i, j]
        for c in range(out.shape[1]):
            start, count = indptr[c], indptr[c + 1] - indptr[c]
            sums[:] = 0
            add_gathered(
                indices_at + 4 * start, data_at + size * start, count, one, columns_at, sums_at
            )
            for i in range(rows):
                out[top + i, c] = sums[i]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _multiply_sparse_rows(indptr, indices, data, transposed, out):  # type: ignore[no-untyped-def]
    """Add products to out (INOUT, (n, m)), which begins as zeros."""
    for i in range(out.shape[0]):
        line = out[i]
        for t in range(indptr[i], indptr[i + 1]):
            x, w = data[t], transposed[indices[t]]
            for c in range(line.shape[0]):
                line[c] = fma(x, w[c], line[c])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _multiply_sparse(indptr, indices, data, lines, columns, values, out):  # type: ignore[no-untyped-def]
    """Add products to out (INOUT, (n, m)), which begins as zeros."""
    for i in range(out.shape[0]):
        line = out[i]
        for t in range(indptr[i], indptr[i + 1]):
            x, j = data[t], indices[t]
            for w in range(lines[j], lines[j + 1]):
                line[columns[w]] = fma(x, values[w], line[columns[w]])
