"""The subsampled randomised Hadamard transform: a dense projection in d log d additions.

``y = S H D x``: signs D, the Hadamard matrix H of a power of two of dimensions, a subset
S of what comes out (N. Ailon and B. Chazelle, "The fast Johnson-Lindenstrauss transform",
2009; J. Tropp, "Improved analysis of the subsampled randomized Hadamard transform",
2011). The additions of the fast transform are a fixed network: each value it makes is one
sum or difference of two others, so no way of going through it can be seen in a result.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.registers import BUTTERFLY, butterflies

__all__ = ["BUTTERFLY", "hadamard_project", "hadamard_rows"]

Rows = npt.NDArray[Any]


def hadamard_project(
    X: Rows, signs: Rows, subset: npt.NDArray[np.int64], scale: float, size: int
) -> Rows:
    """Project rows.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64, C order
    signs : ndarray of shape (d,), of the same dtype
        1 or -1.
    subset : ndarray of shape (m,), int64
        Which of the transform's values to keep.
    scale : float
        What they are multiplied with.
    size : int
        A power of two of at least `BUTTERFLY` and d: rows are filled with zeros.

    Returns
    -------
    ndarray of shape (n, m), of the same dtype
    """
    out = np.empty((X.shape[0], len(subset)), dtype=X.dtype)
    signs = np.concatenate([signs, np.zeros(-len(signs) % BUTTERFLY, dtype=X.dtype)])
    _project(X, signs, subset, X.dtype.type(scale), size, out)
    return out


def hadamard_rows(subset: npt.NDArray[np.int64], d: int) -> npt.NDArray[np.float64]:
    """Return the first d columns of some rows of the Hadamard matrix: 1 and -1."""
    out = np.empty((len(subset), d), dtype=np.float64)
    _fill_rows(subset, out)
    return out


@numba.njit(nogil=True, cache=True)
def _fill_rows(subset, out):  # type: ignore[no-untyped-def]
    """An entry is -1 where the bits that its row and its column share are odd in number."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            bits = subset[i] & j
            odd = False
            while bits:
                odd = not odd
                bits &= bits - 1
            out[i, j] = -1.0 if odd else 1.0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _project(X, signs, subset, scale, size, out):  # type: ignore[no-untyped-def]
    n, d = X.shape
    one, step = X.dtype.type(1), BUTTERFLY * X.itemsize
    line, tail = np.zeros(size, dtype=X.dtype), np.zeros(BUTTERFLY, dtype=X.dtype)
    whole = d - d % BUTTERFLY
    line_at, signs_at = line.ctypes.data, signs.ctypes.data
    for i in range(n):
        row_at = X.ctypes.data + i * X.strides[0]
        for j in range(0, whole // BUTTERFLY):
            butterflies(row_at + j * step, signs_at + j * step, one, line_at + j * step)
        if whole < d:
            tail[: d - whole] = X[i, whole:]
            j = whole // BUTTERFLY
            butterflies(tail.ctypes.data, signs_at + j * step, one, line_at + j * step)
        line[whole + (BUTTERFLY if whole < d else 0) :] = 0
        _combine(line)
        for c in range(subset.shape[0]):
            out[i, c] = line[subset[c]] * scale


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _combine(line):  # type: ignore[no-untyped-def]
    """Do the steps beyond `BUTTERFLY` (INOUT, (size,)), two at a time."""
    size = line.shape[0]
    half = BUTTERFLY
    while 2 * half < size:
        for start in range(0, size, 4 * half):
            a = line[start : start + half]
            b = line[start + half : start + 2 * half]
            c = line[start + 2 * half : start + 3 * half]
            e = line[start + 3 * half : start + 4 * half]
            for j in range(half):
                low, low_diff = a[j] + b[j], a[j] - b[j]
                high, high_diff = c[j] + e[j], c[j] - e[j]
                a[j], b[j] = low + high, low_diff + high_diff
                c[j], e[j] = low - high, low_diff - high_diff
        half *= 4
    if half < size:
        a, b = line[:half], line[half:]
        for j in range(half):
            a[j], b[j] = a[j] + b[j], a[j] - b[j]
