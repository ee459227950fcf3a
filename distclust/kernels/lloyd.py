"""One Lloyd step over a block of rows: label them and keep their clusters' sums.

Sums are fixed-point integers (`distclust.kernels.scaling.FixedPoint`), so statistics of
blocks, threads and workers merge to the same bits in any order, and moving a row from
one cluster to another never drifts.

A `Memory` carries over from step to step an upper bound on each row's distance to its
center and a lower bound on its distance to all others (G. Hamerly, "Making k-means even
faster", 2010). By as much as centers move the bounds loosen; a row whose bounds stay
apart keeps its label unseen. Rows that may change are gathered into tiles. Bounds are
rounded outwards, so a row is only passed over when its label is certain: with or without
memory, the labels and sums are the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.assign import CenterTable, assign_tile
from distclust.kernels.intrinsics import bits_of
from distclust.kernels.scaling import MAGIC, MAGIC_BITS, FixedPoint
from distclust.kernels.tile import TILE_ROWS, new_tile

__all__ = ["ClusterStats", "Drift", "Memory", "lloyd_step", "merge_stats", "rounded_rows"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_UP = np.float32(1 + 2.0**-21)  # more than the rounding of a few float32 operations
_DOWN = np.float32(1 - 2.0**-21)
_TINY = np.float32(1e-37)  # and more than an underflow


class ClusterStats(NamedTuple):
    """Integer sums over the rows of each cluster."""

    sums: I64  # (k, d): of rounded w * (x - offset)
    weights: I64  # (k,): of rounded w; without weights, numbers of rows

    @classmethod
    def empty(cls, n_clusters: int, n_features: int) -> ClusterStats:
        """Statistics of no rows."""
        sums = np.zeros((n_clusters, n_features), dtype=np.int64)
        return cls(sums, np.zeros(n_clusters, dtype=np.int64))


def merge_stats(a: ClusterStats, b: ClusterStats) -> ClusterStats:
    """Sum of both; exact, so associative."""
    return ClusterStats(a.sums + b.sums, a.weights + b.weights)


class Memory(NamedTuple):
    """What is known of each row after a step. Distances are as seen through the frame."""

    labels: npt.NDArray[np.int32]  # (n,); -1 before the first step
    upper: F32  # (n,): at least the distance to the row's center
    lower: F32  # (n,): at most the distance to any other center

    @classmethod
    def blank(cls, n_rows: int, full: Callable[..., npt.NDArray[Any]] = np.full) -> Memory:
        """Memory of rows never seen, in arrays that ``full(n, value, dtype)`` makes."""
        return cls(
            full(n_rows, -1, np.int32),
            full(n_rows, np.inf, np.float32),
            full(n_rows, 0, np.float32),
        )

    def rows(self, which: slice) -> Memory:
        """Return views of some rows."""
        return Memory(self.labels[which], self.upper[which], self.lower[which])


class Drift(NamedTuple):
    """How far centers moved since the step that a `Memory` is of, as seen through the frame."""

    own: F32  # (k,): each center
    others: F32  # (k,): the farthest of all other centers

    @classmethod
    def between(cls, before: CenterTable, after: CenterTable) -> Drift:
        """Measure it, rounded up."""
        moved = (after.exact - before.exact) * after.scale
        own = np.sqrt((moved * moved).sum(axis=1)) * (1 + 1e-6)
        others = np.full_like(own, own.max())
        others[own.argmax()] = np.delete(own, own.argmax()).max(initial=0.0)
        return cls((own * (1 + 1e-6)).astype(np.float32), (others * (1 + 1e-6)).astype(np.float32))


def lloyd_step(
    X: npt.NDArray[Any],
    weights: F64 | None,
    table: CenterTable,
    rounding: FixedPoint,
    drift: Drift,
    memory: Memory,
    stats: ClusterStats,
) -> int:
    """Bring memory and stats of a block up to date with the centers in `table`.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    weights : ndarray of shape (n,), or None
    table : CenterTable
    rounding : FixedPoint
    drift : Drift
        Since `memory` was last brought up to date.
    memory : Memory
        INOUT: of these rows.
    stats : ClusterStats
        INOUT: receives each row that changed its label, and loses it from its old cluster.

    Returns
    -------
    n_seen : int
        Rows whose distances were computed.
    """
    n_seen: int = _lloyd_step(
        X,
        np.empty(0, dtype=np.float64) if weights is None else weights,
        table,
        rounding.grid,
        drift,
        memory,
        stats,
    )
    return n_seen


def rounded_rows(X: npt.NDArray[Any], weights: F64 | None, rounding: FixedPoint) -> tuple[I64, I64]:
    """Return what each row adds to its cluster's sums, (n, d), and weight, (n,)."""
    n, d = X.shape
    stats = ClusterStats.empty(n, d)
    given = np.empty(0, dtype=np.float64) if weights is None else weights
    each = np.arange(n)
    _move_rows(X, each, each, given, rounding.grid, np.full(n, -1), stats)
    return stats.sums, stats.weights


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _move_rows(X, index, found, weights, grid, labels, stats):  # type: ignore[no-untyped-def]
    """Move the rows whose label is not the one found: out of the old cluster, into the new."""
    offset, scale, weight_unit, weight_scale = grid
    sums, totals = stats
    d = X.shape[1]  # no slices of rows: threads would wait for each other's reference counts
    for i in range(index.shape[0]):
        row, new = index[i], found[i]
        old = labels[row]
        if new == old:
            continue
        labels[row] = new
        factor, weight = 1.0, np.int64(1)
        if weights.shape[0] > 0:
            factor = weights[row] * weight_unit
            weight = np.int64(np.rint(factor * weight_scale))
        totals[new] += weight
        for j in range(d):
            sums[new, j] += _rounded(X[row, j], offset[j], scale[j], factor)
        if old >= 0:
            totals[old] -= weight
            for j in range(d):
                sums[old, j] -= _rounded(X[row, j], offset[j], scale[j], factor)


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _rounded(x, offset, scale, factor):  # type: ignore[no-untyped-def]
    """Round a term to the grid: the last bits of its sum with MAGIC."""
    return bits_of((np.float64(x) - offset) * scale * factor + MAGIC) - MAGIC_BITS


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _renew_bounds(tile, count, slack, memory):  # type: ignore[no-untyped-def]
    """Turn scores into bounds on distances: |x - c|**2 is twice the score plus |x|**2."""
    least, second, sq_norms, margins = tile.least, tile.second, tile.sq_norms, tile.margins
    dtype = least.dtype
    zero, two, share = dtype.type(0), dtype.type(2), dtype.type(slack)
    for i in range(count):
        doubt = two * margins[i] + share * sq_norms[i]
        near = two * least[i] + sq_norms[i] + doubt
        far = two * second[i] + sq_norms[i] - doubt
        # what is not a number is no lower bound, and as an upper bound keeps no row's label
        least[i] = np.sqrt(zero if near < zero else near)
        second[i] = np.sqrt(far if far > zero else zero)
    for i in range(count):
        row = tile.row_ids[i]
        memory.upper[row] = np.float32(least[i]) * _UP + _TINY
        memory.lower[row] = np.float32(second[i]) * _DOWN - _TINY


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _see_tile(X, weights, table, grid, tile, count, slack, memory, stats):  # type: ignore[no-untyped-def]
    """Compute the labels of the rows in tile.row_ids, and move those that changed."""
    index = tile.row_ids[:count]
    assign_tile(X, count, table, tile)
    _renew_bounds(tile, count, slack, memory)
    _move_rows(X, index, tile.labels, weights, grid, memory.labels, stats)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _lloyd_step(X, weights, table, grid, drift, memory, stats):  # type: ignore[no-untyped-def]
    n, d = X.shape
    tile = new_tile(X, table)
    slack = (d + 8) * np.finfo(X.dtype).eps  # relative error of tile.sq_norms, and to spare
    labels, upper, lower = memory
    count, seen = 0, 0
    for row in range(n):
        label = labels[row]
        if label >= 0:
            near = (upper[row] + drift.own[label]) * _UP
            far = (lower[row] - drift.others[label]) * _DOWN
            if near < far:
                upper[row], lower[row] = near, far
                continue
        tile.row_ids[count] = row
        count += 1
        if count == TILE_ROWS:
            _see_tile(X, weights, table, grid, tile, count, slack, memory, stats)
            seen, count = seen + count, 0
    if count > 0:
        _see_tile(X, weights, table, grid, tile, count, slack, memory, stats)
    return seen + count
