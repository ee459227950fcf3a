"""Rows scaled to unit length: each by itself, so nothing but the row can influence it.

Lengths are Euclidean, or other norms where rows of zeros may stay as they are.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["NORMS", "scaled_rows", "unit_rows", "unit_sparse_rows"]

NORMS = ("l1", "l2", "max")


def unit_rows(X: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """Divide each row by its Euclidean length, which is summed in order, in float64.

    Rows are first divided by their greatest entry: no square overflows or vanishes.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64, C order

    Returns
    -------
    unit : ndarray of shape (n, d), dtype of X
    first_zero : int
        The first row without a direction, after which nothing is computed; -1 if all have one.

    Examples
    --------
    >>> unit_rows(np.array([[3.0, 4.0], [0.0, 1e-320]]))
    (array([[0.6, 0.8],
           [0. , 1. ]]), -1)
    """
    out = np.empty_like(X, order="C")
    return out, int(_unit_rows(X, out))


def unit_sparse_rows(
    data: npt.NDArray[Any], indptr: npt.NDArray[Any]
) -> tuple[npt.NDArray[Any], int]:
    """Do the same to the entries of a CSR matrix, whose columns are in order in each row.

    The result has the same bits as that of the dense rows: a zero adds nothing to a length.
    """
    out = np.empty_like(data)
    return out, int(_unit_sparse_rows(data, indptr, out))


def scaled_rows(values: npt.NDArray[Any], indptr: npt.NDArray[Any], norm: str) -> npt.NDArray[Any]:
    """Divide each row by its norm; a row of zeros stays one.

    Parameters
    ----------
    values : ndarray of shape (n_values,), float32 or float64
        Rows one after another; of CSR rows, whose columns are in order, the entries.
    indptr : ndarray of shape (n + 1,)
        Where each row begins, and the last ends.
    norm : {"l1", "l2", "max"}

    Examples
    --------
    >>> scaled_rows(np.array([1.0, 3.0, 0.0, 0.0, 2.0, -5.0]), np.array([0, 2, 4, 6]), "max")
    array([ 0.33333333,  1.        ,  0.        ,  0.        ,  0.4       , -1.        ])
    """
    out = np.zeros_like(values)
    _scaled_rows(values, indptr, NORMS.index(norm), out)
    return out


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _scaled_rows(values, indptr, norm, out):  # type: ignore[no-untyped-def]
    for i in range(indptr.shape[0] - 1):
        row, into = values[indptr[i] : indptr[i + 1]], out[indptr[i] : indptr[i + 1]]
        if norm == 1:
            _unit(row, into)
            continue
        greatest, total = 0.0, 0.0
        for j in range(row.shape[0]):
            greatest = max(greatest, abs(np.float64(row[j])))
            total += abs(np.float64(row[j]))
        length = total if norm == 0 else greatest
        if length > 0.0:
            for j in range(row.shape[0]):
                into[j] = np.float64(row[j]) / length


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _unit(row, out):  # type: ignore[no-untyped-def]
    """Write a row of unit length to out (OUT, (d,)); false if it has no direction."""
    greatest, total = 0.0, 0.0
    for j in range(row.shape[0]):
        greatest = max(greatest, abs(np.float64(row[j])))
    if greatest == 0.0:
        return False
    for j in range(row.shape[0]):
        part = np.float64(row[j]) / greatest
        total += part * part
    length = np.sqrt(total)
    for j in range(row.shape[0]):
        out[j] = np.float64(row[j]) / greatest / length
    return True


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _unit_rows(X, out):  # type: ignore[no-untyped-def]
    for i in range(X.shape[0]):
        if not _unit(X[i], out[i]):
            return i
    return -1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _unit_sparse_rows(data, indptr, out):  # type: ignore[no-untyped-def]
    for i in range(indptr.shape[0] - 1):
        start, stop = indptr[i], indptr[i + 1]
        if not _unit(data[start:stop], out[start:stop]):
            return i
    return -1
