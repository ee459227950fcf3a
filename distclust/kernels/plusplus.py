"""Greedy k-means++ among few weighted points: one thread, one call.

D. Arthur and S. Vassilvitskii, "k-means++", 2007, with the trials of their remark: each
center is the best of a few drawn in proportion to ``weight * squared distance``.

Which is the best is seen in float32, what distances are known from in float64: draws, and
which points are distinct, are as exact as the points.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Self

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.potential import sq_distances_to
from distclust.kernels.scaling import MAGIC, MAGIC_BITS

__all__ = ["Points", "choose_greedily"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_SUM_BITS = 50  # of the whole potential, in the units it is summed in
_TILE = 240  # points whose features stay in L1 or L2


class Points(NamedTuple):
    """Points in tiles of shape (d, `_TILE`), for any number of choices among them."""

    exact: F64
    seen: npt.NDArray[np.float32]  # from the middle

    @classmethod
    def of(cls, points: F64) -> Self:
        """Arrange points of shape (n, d), scaled so that distances are of order one."""
        middle = points.min(axis=0) / 2 + points.max(axis=0) / 2
        return cls(_tiles(points), _tiles((points - middle).astype(np.float32)))


def choose_greedily(points: Points, weights: F64, uniforms: F64) -> tuple[I64, float]:
    """Choose points as centers.

    Parameters
    ----------
    points : Points
        n of them.
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
    >>> uniforms = np.full((2, 3), 0.5)
    >>> chosen, potential = choose_greedily(Points.of(points), np.ones(5), uniforms)
    >>> sorted(points[chosen].ravel().tolist()), round(potential, 3)
    ([0.0, 1.0], 0.06)
    """
    chosen = np.empty(len(uniforms), np.int64)
    count, potential = _choose(*points, weights / weights.max(), uniforms, chosen)
    return chosen[:count], potential


def _tiles(points: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Arrange points, (n, d), in tiles of (d, _TILE)."""
    n, d = points.shape
    rows = np.zeros((-(-n // _TILE), _TILE, d), dtype=points.dtype)
    rows.reshape(-1, d)[:n] = points
    return np.ascontiguousarray(rows.transpose(0, 2, 1))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _choose(exact, seen, weights, uniforms, chosen):  # type: ignore[no-untyped-def]
    """Choose a point a step."""
    n, n_trials = weights.shape[0], uniforms.shape[1]
    nearest, upto, reach = np.full(n, np.inf), np.empty(n), np.empty(_TILE)
    points, potentials = np.empty(n_trials, np.int64), np.empty(n_trials, np.int64)
    for c in range(chosen.shape[0]):
        total = _add_up(weights, nearest, upto, c == 0)
        if total == 0:
            return c, 0.0
        grid = math.ldexp(1.0, min(_SUM_BITS - math.frexp(total)[1], 1000))
        trials = n_trials if c > 0 else 1
        for t in range(trials):
            points[t] = _drawn(upto, total, uniforms[c, t])
        if trials > 1:
            _try(seen, points, weights, nearest, grid, potentials)
        best = points[potentials[:trials].argmin()]
        at = exact[best // _TILE, :, best % _TILE].copy()
        for start in range(0, n, _TILE):
            known = nearest[start : start + _TILE]
            sq_distances_to(exact[start // _TILE], len(known), at, 1.0, reach)
            for i in range(len(known)):
                known[i] = min(known[i], reach[i])
        chosen[c] = best
    return chosen.shape[0], _add_up(weights, nearest, upto, False)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _try(seen, points, weights, nearest, grid, potentials):  # type: ignore[no-untyped-def]
    """Write what each of some points would leave; all see a tile while it is in the cache."""
    n, one = weights.shape[0], np.float32(1)
    at, near = np.empty((len(points), seen.shape[1]), np.float32), np.empty(_TILE, np.float32)
    left, rounded = np.empty(_TILE), np.empty(_TILE)
    for t in range(len(points)):
        at[t] = seen[points[t] // _TILE, :, points[t] % _TILE]
    potentials[:] = 0
    for start in range(0, n, _TILE):
        known, weight = nearest[start : start + _TILE], weights[start : start + _TILE]
        for t in range(len(points)):
            sq_distances_to(seen[start // _TILE], len(known), at[t], one, near)
            for i in range(len(known)):
                left[i] = min(np.float64(near[i]), known[i])
            potentials[t] += _rounded_sum(weight, left, grid, rounded)


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
