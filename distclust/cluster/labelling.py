"""What else K-Means has workers do with a partition: pure functions of rows and centers.

Each spreads its rows over the worker's threads, calls one kernel, and merges exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.cluster.metric import Euclidean
from distclust.cluster.steps import Progress, Run, advance
from distclust.data.blocks import Block, Partition, Share
from distclust.engine.threads import map_tiles, n_threads, n_threads_for
from distclust.kernels.assign import (
    CenterTable,
    assign,
    center_table,
    nearest_labels,
    own_sq_distances,
    sq_distances,
)
from distclust.kernels.exact_sum import exact_sum
from distclust.kernels.lloyd import rounded_rows
from distclust.kernels.scaling import FixedPoint, Frame

__all__ = [
    "FarRows",
    "Labelling",
    "block_labels",
    "distance_rows",
    "far_rows",
    "label_rows",
    "label_runs",
    "merge_far_rows",
    "merge_label_runs",
    "merge_labellings",
]

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Centers = npt.NDArray[Any]
Labels = npt.NDArray[np.int32]


class Labelling(NamedTuple):
    """Labels of some rows, and what they sum to."""

    inertia: int  # exact sum of w * squared distance seen through the frame (see `exact_sum`)
    sizes: I64  # (k,): rows a cluster
    labels: list[tuple[int, npt.NDArray[np.int32]]]  # (global id of the first row, labels)


def merge_labellings(a: Labelling, b: Labelling) -> Labelling:
    """Sum of both, and the labels of both."""
    return Labelling(a.inertia + b.inertia, a.sizes + b.sizes, a.labels + b.labels)


def label_rows(partition: Partition, run: Run, frame: Frame, keep_labels: bool) -> Labelling:
    """Label every row and sum the squared distances to the nearest centers, exactly."""
    table, n_clusters = center_table(run.centers, frame), len(run.centers)
    label = _labeller(partition, run.key, table)

    def of_share(share: Share) -> Labelling:
        total = Labelling(0, np.zeros(n_clusters, dtype=np.int64), [])
        for block, rows in share:
            labels = label(block, rows)
            sq_dist = own_sq_distances(block.X, table, labels)
            weighted = sq_dist if block.weights is None else sq_dist * block.weights
            kept = [(block.row_start, labels)] if keep_labels else []
            sizes = np.bincount(labels, minlength=n_clusters)
            total = merge_labellings(total, Labelling(exact_sum(weighted), sizes, kept))
        return total

    threads = n_threads_for(partition.n_rows, table.exact.size)
    return reduce(merge_labellings, map_tiles(of_share, partition.shares(threads)))


def label_runs(partition: Partition, runs: Sequence[Run], frame: Frame) -> list[Labelling]:
    """Do so for each run, without keeping labels."""
    return [label_rows(partition, run, frame, False) for run in runs]


def merge_label_runs(a: list[Labelling], b: list[Labelling]) -> list[Labelling]:
    """Sum of both, run by run."""
    return list(map(merge_labellings, a, b))


def block_labels(partition: Partition, run: Run, frame: Frame) -> list[Labels]:
    """Label every row: one array a block, in the order of the partition's blocks."""
    label = _labeller(partition, run.key, center_table(run.centers, frame))

    def of_share(share: Share) -> list[Labels]:
        return [label(*piece) for piece in share]

    shares = map_tiles(of_share, partition.shares(n_threads()))
    ends = np.cumsum([block.n_rows for block in partition.blocks])
    return np.split(np.concatenate([labels for share in shares for labels in share]), ends[:-1])


Labeller = Callable[[Block, slice], Labels]


def _labeller(partition: Partition, key: str, table: CenterTable) -> Labeller:
    """How to label rows: from where the last iteration ended, if there was one, or afresh."""
    last: Progress | None = partition.cache.pop(key, None)
    if last is None or not last.precedes(table, last.rounding):
        return lambda block, _: nearest_labels(block.X, table)
    labels = advance(partition, {key: (last, table)})[0].memory.labels
    return lambda _, rows: labels[rows].copy()


class FarRows(NamedTuple):
    """Rows far from their centers, farthest first, ties by lowest row id."""

    sq_dist: F64  # (m,)
    row_id: I64  # (m,)
    label: npt.NDArray[np.int32]  # (m,)
    sums: I64  # (m, d): what each row added to its cluster's sums
    weights: I64  # (m,): and to its weight

    def first(self, count: int) -> FarRows:
        """Return the `count` farthest."""
        order = np.lexsort((self.row_id, -self.sq_dist))[:count]
        return FarRows(
            self.sq_dist[order],
            self.row_id[order],
            self.label[order],
            self.sums[order],
            self.weights[order],
        )


def merge_far_rows(count: int, a: FarRows, b: FarRows) -> FarRows:
    """Return the `count` farthest rows of both."""
    fields: Any = zip(a, b, strict=True)
    return FarRows(*map(np.concatenate, fields)).first(count)


def far_rows(
    partition: Partition, centers: Centers, frame: Frame, rounding: FixedPoint, count: int
) -> FarRows:
    """Find the `count` rows farthest from their nearest centers."""
    table = center_table(centers, frame)

    def of_share(share: Share) -> FarRows:
        return reduce(merge, (of_block(block) for block, _ in share))

    def of_block(block: Block) -> FarRows:
        labels, sq_dist = assign(block.X, table)
        row_id = block.row_start + np.arange(block.n_rows, dtype=np.int64)
        far = np.lexsort((row_id, -sq_dist))[:count]
        weights = None if block.weights is None else block.weights[far]
        added = rounded_rows(np.ascontiguousarray(block.X[far]), weights, rounding)
        return FarRows(sq_dist[far], row_id[far], labels[far], *added)

    merge = partial(merge_far_rows, count)
    return reduce(merge, map_tiles(of_share, partition.shares(n_threads())))


def distance_rows(
    partition: Partition, centers: Centers, metric: Euclidean
) -> list[tuple[int, npt.NDArray[Any]]]:
    """Measure every row's distance to every center: (global id of the first row, distances)."""
    exact = np.asarray(centers, dtype=np.float64)
    scale = Frame.of_centers(centers).scale

    def of_block(block: Block) -> npt.NDArray[Any]:
        dist = metric.distances(sq_distances(block.X, exact, scale), scale)
        return np.ascontiguousarray(dist, dtype=centers.dtype)

    def of_share(share: Share) -> list[tuple[int, npt.NDArray[Any]]]:
        return [(block.row_start, of_block(block)) for block, _ in share]

    shares = map_tiles(of_share, partition.shares(n_threads()))
    return [pair for pairs in shares for pair in pairs]
