"""One Lloyd step over one block of rows: label them and add them to their clusters.

Sums are fixed-point integers (`distclust.kernels.scaling.FixedPoint`), so statistics of
blocks, threads and workers merge to the same bits in any order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.assign import CenterTable, assign_tile, tile_buffers, tile_rows
from distclust.kernels.scaling import MAGIC, MAGIC_BITS, FixedPoint

__all__ = ["ClusterStats", "add_lloyd_step", "merge_stats", "rounded_rows"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


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


def add_lloyd_step(
    X: npt.NDArray[Any],
    weights: F64 | None,
    table: CenterTable,
    rounding: FixedPoint,
    stats: ClusterStats,
) -> None:
    """Label the rows of X, of shape (n, d), and add them to the clusters of `stats`."""
    _lloyd_step(
        X,
        np.empty(0, dtype=np.float64) if weights is None else weights,
        table,
        rounding.offset,
        rounding.scale,
        rounding.weight_scale,
        tile_rows(len(table.exact)),
        stats.sums,
        stats.weights,
    )


def rounded_rows(X: npt.NDArray[Any], weights: F64 | None, rounding: FixedPoint) -> tuple[I64, I64]:
    """Return what each row adds to its cluster's sums, (n, d), and weight, (n,)."""
    n, d = X.shape
    sums, totals = np.zeros((n, d), dtype=np.int64), np.zeros(n, dtype=np.int64)
    given = np.empty(0, dtype=np.float64) if weights is None else weights
    own = np.arange(n, dtype=np.int32)
    _accumulate(
        X,
        0,
        own,
        given,
        rounding.offset,
        rounding.scale,
        rounding.weight_scale,
        np.empty(d, dtype=np.float64),
        sums,
        totals,
    )
    return sums, totals


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _accumulate(  # type: ignore[no-untyped-def]
    X, start, labels, weights, offset, scale, weight_scale, term, sums, totals
):
    """Add rows start, start + 1, … of X to sums (INOUT, (k, d)) and totals (INOUT, (k,))."""
    d = X.shape[1]
    bits = term.view(np.int64)
    for i in range(labels.shape[0]):
        row = X[start + i]
        label = labels[i]
        into = sums[label]
        if weights.shape[0] == 0:
            for j in range(d):
                term[j] = (np.float64(row[j]) - offset[j]) * scale[j] + MAGIC
            totals[label] += 1
        else:
            w = weights[start + i]
            for j in range(d):
                term[j] = (np.float64(row[j]) - offset[j]) * scale[j] * w + MAGIC
            totals[label] += np.int64(np.rint(w * weight_scale))
        for j in range(d):
            into[j] += bits[j] - MAGIC_BITS


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _lloyd_step(  # type: ignore[no-untyped-def]
    X, weights, table, offset, scale, weight_scale, rows, sums, totals
):
    n, d = X.shape
    buffers = tile_buffers(X, table, rows)
    term = np.empty(d, dtype=np.float64)
    for start in range(0, n, rows):
        labels = assign_tile(X, start, min(start + rows, n), table, buffers)
        _accumulate(X, start, labels, weights, offset, scale, weight_scale, term, sums, totals)
