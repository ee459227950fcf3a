"""Greedy k-means++ among few weighted points: one thread, one call.

D. Arthur and S. Vassilvitskii, "k-means++", 2007, with the trials of their remark: each
center is the best of a few drawn in proportion to ``weight * squared distance``.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.potential import sq_distances_to
from distclust.kernels.scaling import MAGIC, MAGIC_BITS

__all__ = ["choose_greedily"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_SUM_BITS = 50  # of the whole potential, in the units it is summed in


def choose_greedily(points: F64, weights: F64, uniforms: F64) -> tuple[I64, float]:
    """Choose points as centers.

    Parameters
    ----------
    points : ndarray of shape (n, d)
        Scaled so that distances are of order one.
    weights : ndarray of shape (n,)
        At least zero, and one of them above; less than 1e-308 of the largest is zero.
    uniforms : ndarray of shape (k, n_trials)
        Random numbers in (0, 1) that decide all draws.

    Returns
    -------
    chosen : ndarray of shape (at most k,)
        Less than k if there are fewer distinct points of weight.
    potential : float
        Sum of ``weight * squared distance to the nearest chosen point``, weights relative
        to the largest.

    Examples
    --------
    >>> points = np.array([[0.0], [0.1], [1.0], [1.1], [1.2]])
    >>> chosen, potential = choose_greedily(points, np.ones(5), np.full((2, 3), 0.5))
    >>> sorted(points[chosen].ravel().tolist()), round(potential, 3)
    ([0.0, 1.0], 0.06)
    """
    columns = np.ascontiguousarray(points.T)
    chosen = np.empty(len(uniforms), np.int64)
    count, potential = _choose(columns, weights / weights.max(), uniforms, chosen)
    return chosen[:count], potential


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _choose(columns, weights, uniforms, chosen):  # type: ignore[no-untyped-def]
    n = columns.shape[1]
    reach, kept, nearest = np.empty(n), np.empty(n), np.full(n, np.inf)
    rounded, at = np.empty(n), columns[:, 0].copy()
    upto, total = np.empty(n), 0.0
    for c in range(chosen.shape[0]):
        total = _add_up(weights, nearest, upto, c == 0)
        if total == 0:
            return c, 0.0
        grid = math.ldexp(1.0, min(_SUM_BITS - math.frexp(total)[1], 1000))
        least = np.int64(1) << 62
        for trial in range(uniforms.shape[1] if c > 0 else 1):
            point = _drawn(upto, total, uniforms[c, trial])
            at[:] = columns[:, point]
            sq_distances_to(columns, n, at, 1.0, reach)
            for i in range(n):
                reach[i] = min(reach[i], nearest[i])
            potential = _rounded_sum(weights, reach, grid, rounded)
            if trial == 0 or potential < least:
                least, chosen[c] = potential, point
                reach, kept = kept, reach
        kept, nearest = nearest, kept
    return chosen.shape[0], _add_up(weights, nearest, upto, False)


@numba.njit(nogil=True, cache=True, inline="always")
def _add_up(weights, nearest, upto, first):  # type: ignore[no-untyped-def]
    """Write the sums of costs up to each point (OUT), and return the last."""
    total = 0.0
    for i in range(weights.shape[0]):
        total += weights[i] if first else weights[i] * nearest[i]
        upto[i] = total
    return total


@numba.njit(nogil=True, cache=True, inline="always")
def _drawn(upto, total, uniform):  # type: ignore[no-untyped-def]
    """Return the point in whose part of the sum a number falls, never one that costs nothing."""
    point = np.searchsorted(upto, uniform * total, side="right")
    return min(point, np.searchsorted(upto, total, side="left"))


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _rounded_sum(weights, reach, grid, rounded):  # type: ignore[no-untyped-def]
    """Sum costs in units of ``1 / grid``: integers, which SIMD may add in any order."""
    bits = rounded.view(np.int64)
    for i in range(weights.shape[0]):
        rounded[i] = weights[i] * reach[i] * grid + MAGIC
    total = np.int64(0)
    for i in range(weights.shape[0]):
        total += bits[i] - MAGIC_BITS
    return total
