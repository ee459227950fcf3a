"""One Lloyd step over a block of rows: label them and keep their clusters' sums.

Sums are fixed-point integers (`distclust.kernels.scaling.FixedPoint`), so statistics of
blocks, threads and workers merge to the same bits in any order, and moving a row from
one cluster to another never drifts.

A `Memory` carries over from step to step an upper bound on each row's distance to its
center and a lower bound on its distance to all others (G. Hamerly, "Making k-means even
faster", 2010). By as much as centers move the bounds loosen; a row whose bounds stay
apart keeps its label unseen. Rows that may change are gathered into dense tiles for the
matrix product. Bounds are rounded outwards, so a row is only passed over when its label
is certain: with or without memory, the labels and sums are the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.assign import CenterTable, assign_tile, new_tile, tile_rows
from distclust.kernels.scaling import MAGIC, MAGIC_BITS, FixedPoint

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
        tile_rows(len(table.exact)),
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
    term = np.empty(d, dtype=np.float64)
    for i in range(n):
        _move_row(X, i, given, rounding.grid, term, -1, i, stats)
    return stats.sums, stats.weights


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _move_row(X, row, weights, grid, term, old, new, stats):  # type: ignore[no-untyped-def]
    """Add a row to cluster new and, if old is one, take it from there."""
    offset, scale, weight_unit, weight_scale = grid
    x, bits = X[row], term.view(np.int64)
    d = x.shape[0]
    weight = np.int64(1)
    if weights.shape[0] == 0:
        for j in range(d):
            term[j] = (np.float64(x[j]) - offset[j]) * scale[j] + MAGIC
    else:
        w = weights[row] * weight_unit
        weight = np.int64(np.rint(w * weight_scale))
        for j in range(d):
            term[j] = (np.float64(x[j]) - offset[j]) * scale[j] * w + MAGIC
    into = stats.sums[new]
    stats.weights[new] += weight
    for j in range(d):
        into[j] += bits[j] - MAGIC_BITS
    if old >= 0:
        out_of = stats.sums[old]
        stats.weights[old] -= weight
        for j in range(d):
            out_of[j] -= bits[j] - MAGIC_BITS


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _renew_bounds(tile, count, slack, memory):  # type: ignore[no-untyped-def]
    """Turn scores into bounds on distances: |x - c|**2 is twice the score plus |x|**2."""
    for i in range(count):
        row = tile.row_ids[i]
        sq_norm = np.float64(tile.sq_norms[i])
        doubt = 2.0 * tile.margins[i] + slack * sq_norm
        near = 2.0 * tile.least[i] + sq_norm + doubt
        far = 2.0 * tile.second[i] + sq_norm - doubt
        memory.upper[row] = np.float32(np.sqrt(max(near, 0.0))) * _UP + _TINY
        memory.lower[row] = np.float32(np.sqrt(max(far, 0.0))) * _DOWN - _TINY


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _see_tile(X, weights, table, grid, tile, count, slack, term, memory, stats):  # type: ignore[no-untyped-def]
    """Compute the labels of the rows in tile.row_ids, and move those that changed."""
    index = tile.row_ids[:count]
    assign_tile(X, index, table, tile)
    _renew_bounds(tile, count, slack, memory)
    for i in range(count):
        row, new = index[i], tile.labels[i]
        old = memory.labels[row]
        if new != old:
            memory.labels[row] = new
            _move_row(X, row, weights, grid, term, old, new, stats)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _lloyd_step(X, weights, table, grid, rows, drift, memory, stats):  # type: ignore[no-untyped-def]
    n, d = X.shape
    tile = new_tile(X, table, rows)
    term = np.empty(d, dtype=np.float64)
    slack = (d + 4) * np.finfo(X.dtype).eps  # relative error of tile.sq_norms, and to spare
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
        if count == rows:
            _see_tile(X, weights, table, grid, tile, count, slack, term, memory, stats)
            seen, count = seen + count, 0
    if count > 0:
        _see_tile(X, weights, table, grid, tile, count, slack, term, memory, stats)
    return seen + count
