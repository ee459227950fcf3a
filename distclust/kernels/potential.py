"""What would be left of the potential with one more center: k-means++'s inner loop.

The potential is the sum of ``w * squared distance to the nearest center``. Terms are
rounded to integers on a power-of-two grid, so that sums of blocks and workers merge to
the same bits in any order.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.scaling import MAGIC, MAGIC_BITS

__all__ = ["remaining_potentials", "sq_distances_to"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_TILE = 240  # rows of float64 features that stay in L1 or L2


def remaining_potentials(
    X: npt.NDArray[Any], trials: F64, scale: float, sq_dist: F64, weights: F64, grid: float
) -> I64:
    """Sum the costs that remain with each trial as one more center.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    trials : ndarray of shape (t, d)
    scale : float
        Squared distances are ``scale**2`` times the data's.
    sq_dist : ndarray of shape (n,)
        To the nearest center so far.
    weights : ndarray of shape (n,)
    grid : float
        A power of two that brings the sum of ``weights * sq_dist`` below 2**51.

    Returns
    -------
    potentials : ndarray of shape (t,), int64
        In units of ``1 / grid``.
    """
    out = np.zeros(len(trials), dtype=np.int64)
    _remaining_potentials(X, trials, scale, sq_dist, weights, grid, out)
    return out


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _remaining_potentials(X, trials, scale, sq_dist, weights, grid, out):  # type: ignore[no-untyped-def]
    """Add to out (INOUT, (t,)); SIMD runs over rows, so each distance keeps its order."""
    n, d = X.shape
    columns = np.empty((d, _TILE), dtype=np.float64)
    reach = np.empty(_TILE, dtype=np.float64)
    bits = reach.view(np.int64)
    for start in range(0, n, _TILE):
        rows = min(_TILE, n - start)
        for i in range(rows):
            row = X[start + i]
            for j in range(d):
                columns[j, i] = row[j]
        known, weight = sq_dist[start : start + rows], weights[start : start + rows]
        for t in range(trials.shape[0]):
            sq_distances_to(columns, rows, trials[t], scale, reach)
            for i in range(rows):
                left = reach[i] if reach[i] < known[i] else known[i]
                reach[i] = left * weight[i] * grid + MAGIC
            total = np.int64(0)
            for i in range(rows):
                total += bits[i] - MAGIC_BITS
            out[t] += total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def sq_distances_to(columns, rows, center, scale, out):  # type: ignore[no-untyped-def]
    """Write canonical squared distances (OUT, (rows,)); four features at a time spare loads."""
    d = columns.shape[0]
    fours = d - d % 4
    for i in range(rows):
        out[i] = 0.0
    for j in range(0, fours, 4):
        a, b, c, e = columns[j], columns[j + 1], columns[j + 2], columns[j + 3]
        at0, at1, at2, at3 = center[j], center[j + 1], center[j + 2], center[j + 3]
        for i in range(rows):
            d0, d1 = (a[i] - at0) * scale, (b[i] - at1) * scale
            d2, d3 = (c[i] - at2) * scale, (e[i] - at3) * scale
            out[i] = (((out[i] + d0 * d0) + d1 * d1) + d2 * d2) + d3 * d3
    for j in range(fours, d):
        a, at0 = columns[j], center[j]
        for i in range(rows):
            d0 = (a[i] - at0) * scale
            out[i] += d0 * d0
