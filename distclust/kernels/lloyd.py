"""One Lloyd step over a block of rows: label them and keep their clusters' sums.

Sums are fixed-point integers (`distclust.kernels.scaling.FixedPoint`), so statistics of
blocks, threads and workers merge to the same bits in any order, and moving a row from
one cluster to another never drifts.

A `Memory` carries over from step to step an upper bound on each row's distance to its
center and a lower bound on its distance to all others (G. Hamerly, "Making k-means even
faster", 2010), or, where centers are many, on its distance to each group of them
(`distclust.kernels.grouped`). By as much as centers move the bounds loosen
(`distclust.kernels.drift`); a row whose bounds stay apart keeps its label unseen. Rows
that may change are gathered into tiles, and multiplied as they are or as integers
(`distclust.kernels.coded`). Bounds are rounded outwards, so a row is only passed over when
its label is certain: with or without memory, the labels and sums are the same bits.

Bounds are kept as they were measured, with the step that was: a row that is passed over is
only read.

A memory may also be of labels alone: while most rows have to be looked at anyhow, bounds
may cost more than they save.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.assign import CenterTable
from distclust.kernels.coded import CodedCenters, coded_step
from distclust.kernels.drift import Travelled
from distclust.kernels.grouped import MOST_UNITS, Arranged, grouped_step, loosen_groups
from distclust.kernels.moving import (
    loosen_others,
    move_rows,
    rows_that_may_move,
    see_tile,
    settle_upper,
)
from distclust.kernels.scaling import FixedPoint
from distclust.kernels.tile import new_tile

__all__ = ["ClusterStats", "Counts", "Memory", "lloyd_step", "merge_stats", "rounded_rows"]

Full = Callable[..., npt.NDArray[Any]]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
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


class Counts(NamedTuple):
    """Of the rows of a step."""

    seen: int  # of which scores were computed
    moved: int  # that changed their label
    doubtful: int = 0  # of which codes could not tell the nearest center

    def and_of(self, other: Counts) -> Counts:
        """Return those of the rows of both."""
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class Memory(NamedTuple):
    """What is known of each row after a step.

    Distances are as seen through the frame, of the step that measured them.
    """

    labels: npt.NDArray[np.int32]  # (n,); -1 before the first step
    upper: F32  # (n,): at least the distance to the row's center; or (0,) without bounds
    lower: npt.NDArray[Any]  # (n, 1): at most the distance to any other center; or, in units
    # of theirs, (n, width): to each of `distclust.kernels.grouped.Groups`
    since: npt.NDArray[np.uint8]  # (n,): the step

    @classmethod
    def blank(cls, n_rows: int, full: Full = np.full) -> Memory:
        """Memory of rows never seen, of their labels alone.

        Parameters
        ----------
        n_rows : int
        full : callable
            ``full(shape, value, dtype)`` makes arrays.
        """
        none = np.empty((0, 1), dtype=np.float32)
        labels, since = full(n_rows, -1, np.int32), np.empty(0, dtype=np.uint8)
        return cls(labels, none[:, 0], none, since)

    def with_bounds(self, width: int | None = None, full: Full = np.full) -> Memory:
        """Return memory of the same labels and of bounds, of which nothing is known yet.

        Parameters
        ----------
        width : int, optional
            Lower bounds a row, if they are on groups. Those that are never written bound
            nothing.
        full : callable
        """
        n_rows = len(self.labels)
        upper, since = full(n_rows, np.inf, np.float32), full(n_rows, 0, np.uint8)
        if width is None:
            return Memory(self.labels, upper, full((n_rows, 1), np.inf, np.float32), since)
        return Memory(self.labels, upper, full((n_rows, width), MOST_UNITS, np.uint16), since)

    def settle(self, travelled: Travelled) -> None:
        """Make bounds those of this step, which is the first from here on."""
        if self.lower.dtype == np.uint16:
            loosen_groups(np.arange(len(self.labels)), travelled.others, self)
        else:
            loosen_others(travelled.others, self)
        settle_upper(travelled.own, self)

    @property
    def has_bounds(self) -> bool:
        return len(self.upper) == len(self.labels)

    def rows(self, which: slice) -> Memory:
        """Return views of some rows."""
        bounds = which if self.has_bounds else slice(0)
        return Memory(
            self.labels[which], self.upper[bounds], self.lower[bounds], self.since[bounds]
        )


def lloyd_step(
    X: npt.NDArray[Any],
    weights: F64 | None,
    table: CenterTable,
    rounding: FixedPoint,
    travelled: Travelled,
    memory: Memory,
    stats: ClusterStats,
    coded: tuple[I32, CodedCenters | Arranged] | None = None,
) -> Counts:
    """Bring memory and stats of a block up to date with the centers in `table`.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    weights : ndarray of shape (n,), or None
    table : CenterTable
    rounding : FixedPoint
    travelled : Travelled
        By which bounds loosen, if `memory` has any.
    memory : Memory
        INOUT: of these rows.
    stats : ClusterStats
        INOUT: receives each row that changed its label, and loses it from its old cluster.
    coded : tuple, optional
        `Codes.words` of these rows, and the centers: to be quicker. The centers are in groups
        if `memory` has bounds on groups.
    """
    given = np.empty(0, dtype=np.float64) if weights is None else weights
    rows, kept = (X, given, table, rounding.grid), (travelled, memory, stats)
    if coded and isinstance(coded[1], Arranged):
        return Counts(*grouped_step(*rows, *coded, *kept))
    if coded:
        return Counts(*coded_step(*rows, *coded, *kept))
    return Counts(*_lloyd_step(*rows, *kept))


def rounded_rows(X: npt.NDArray[Any], weights: F64 | None, rounding: FixedPoint) -> tuple[I64, I64]:
    """Return what each row adds to its cluster's sums, (n, d), and weight, (n,)."""
    n, d = X.shape
    stats = ClusterStats.empty(n, d)
    given = np.empty(0, dtype=np.float64) if weights is None else weights
    each = np.arange(n)
    move_rows(X, each, each, given, rounding.grid, np.full(n, -1), stats)
    return stats.sums, stats.weights


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _lloyd_step(X, weights, table, grid, travelled, memory, stats):  # type: ignore[no-untyped-def]
    n, d = X.shape
    tile = new_tile(X, table)
    slack = (d + 8) * np.finfo(X.dtype).eps  # relative error of tile.sq_norms, and to spare
    row, seen, moved = 0, 0, 0
    while row < n:
        row, count = rows_that_may_move(row, memory, travelled, tile.row_ids)
        if count == 0:
            break
        moved += see_tile(X, weights, table, grid, tile, count, slack, travelled, memory, stats)
        seen += count
    return seen, moved
