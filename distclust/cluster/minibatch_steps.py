"""What mini-batch K-Means has workers do: find the drawn rows, label and sum them, copy some.

Rows lie end to end on a `Line`, in row order, each as long as its weight. The driver
draws *ticks*, whole numbers below the line's length, without knowing the rows; a worker
finds the rows its part of the ticks fall on. All lengths are integers, so which row a
tick hits does not depend on the sharding, and a row of weight 2 is hit by the ticks that
would hit either of two equal neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.data.blocks import PIECE_ROWS, Block, Partition, Share
from distclust.engine.threads import map_tiles, n_threads_for
from distclust.kernels.assign import assign, center_table
from distclust.kernels.exact_sum import exact_sum
from distclust.kernels.lloyd import ClusterStats, merge_stats, rounded_rows
from distclust.kernels.scaling import FixedPoint, Frame

__all__ = [
    "BatchStats",
    "Line",
    "batch_stats",
    "block_lengths",
    "merge_batch_stats",
    "rows_at",
]

TILE = 4096  # rows rounded in one go

Rows = npt.NDArray[Any]
I64 = npt.NDArray[np.int64]
Pieces = list[tuple[int, Rows]]  # (position among the ticks, rows)


class Line(NamedTuple):
    """Rows end to end, each as long as its weight, rounded to an integer.

    Attributes
    ----------
    length : int
    weight_exponent : int or None
        Weights are multiples of ``2**-weight_exponent``; None if every row's length is 1.
    starts : dict of int to int
        Where blocks start on the line, by their `row_start`; empty if lengths are 1, for
        then they start at their `row_start`.
    """

    length: int
    weight_exponent: int | None
    starts: dict[int, int]


class BatchStats(NamedTuple):
    """Exact sums over the rows of a batch."""

    clusters: ClusterStats
    inertia: int  # exact sum of w * squared distance (see `exact_sum`)


def merge_batch_stats(a: BatchStats, b: BatchStats) -> BatchStats:
    """Sum of both."""
    return BatchStats(merge_stats(a.clusters, b.clusters), a.inertia + b.inertia)


def batch_stats(
    partition: Partition,
    centers: Rows,
    frame: Frame,
    rounding: FixedPoint,
    line: Line | None,
    ticks: I64 | None,
) -> BatchStats:
    """Label the rows of a batch and sum the rows of each cluster.

    Parameters
    ----------
    partition : Partition
    centers : ndarray of shape (k, d), the data's dtype
    frame : Frame
    rounding : FixedPoint
        Of rows of weight 1 where `ticks` are given, else of the rows with their weights.
    line, ticks : Line and ndarray of shape (m,), sorted; or None
        The batch: a row for each tick, of weight 1. None means all rows, with their weights.
    """
    table = center_table(centers, frame)

    def of_share(share: Share) -> BatchStats:
        stats, inertia = ClusterStats.empty(*centers.shape), 0
        for piece, _ in share:
            for start in range(0, piece.n_rows, TILE):
                tile = piece.rows(start, min(start + TILE, piece.n_rows))
                labels, sq_dist = assign(tile.X, table)
                _add(stats, labels, *rounded_rows(tile.X, tile.weights, rounding))
                weighted = sq_dist if tile.weights is None else sq_dist * tile.weights
                inertia += exact_sum(weighted)
        return BatchStats(stats, inertia)

    batch = partition
    if line is not None and ticks is not None:
        batch = Partition([Block(rows, 0) for _, rows in _hit(partition, line, ticks)])
    nothing = BatchStats(ClusterStats.empty(*centers.shape), 0)
    found = map_tiles(of_share, batch.shares(n_threads_for(batch.n_rows, centers.size)))
    return reduce(merge_batch_stats, found, nothing)


def _add(stats: ClusterStats, labels: npt.NDArray[np.int32], sums: I64, weights: I64) -> None:
    """Add each row's sums, (n, d), and weight, (n,), to those of its cluster."""
    order = np.argsort(labels, kind="stable")
    present, first = np.unique(labels[order], return_index=True)
    stats.sums[present] += np.add.reduceat(sums[order], first)
    stats.weights[present] += np.add.reduceat(weights[order], first)


def rows_at(partition: Partition, line: Line, ticks: I64) -> Pieces:
    """Copy the rows that sorted ticks fall on out of the partition."""
    hits = _hit(partition, line, ticks)
    return [(first, Block(rows, 0).dense().X) for first, rows in hits]


def block_lengths(partition: Partition, weight_exponent: int) -> list[tuple[int, int]]:
    """Measure blocks of weighted rows: (`row_start`, length) of each."""
    return [
        (block.row_start, int(_ends(partition, block, weight_exponent)[-1]))
        for block in partition.blocks
        if block.n_rows
    ]


def _hit(partition: Partition, line: Line, ticks: I64) -> Iterator[tuple[int, Any]]:
    """Yield the position of the first of a block's ticks, and the rows they fall on."""
    for block in partition.blocks:
        if block.n_rows == 0:
            continue
        if line.weight_exponent is None:
            start, length = block.row_start, block.n_rows
        else:
            ends = _ends(partition, block, line.weight_exponent)
            start, length = line.starts[block.row_start], int(ends[-1])
        first, last = np.searchsorted(ticks, (start, start + length))
        if first < last:
            within = ticks[first:last] - start
            if line.weight_exponent is not None:
                within = np.searchsorted(ends, within, side="right")
            yield int(first), block.X[within]
    partition.storage.release()


def _ends(partition: Partition, block: Block, weight_exponent: int) -> I64:
    """Return where each row of a weighted block ends, from the block's start; remembered."""
    key = f"ends-{block.row_start}-{weight_exponent}"
    known: I64 | None = partition.cache.get(key)
    if known is None:
        assert block.weights is not None
        known = partition.storage.empty(block.n_rows, np.int64)
        before = 0
        for start in range(0, block.n_rows, PIECE_ROWS):
            piece = slice(start, start + PIECE_ROWS)
            lengths = np.rint(np.ldexp(block.weights[piece], weight_exponent)).astype(np.int64)
            np.cumsum(lengths, out=known[piece])
            known[piece] += before
            before = int(known[piece][-1])
            partition.storage.release()
        partition.cache[key] = known
    return known
