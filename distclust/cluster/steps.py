"""What K-Means has workers do with a partition: pure functions of rows and centers.

Each spreads its rows over the worker's threads, calls one kernel, and merges exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.cluster.metric import Euclidean
from distclust.data.blocks import Block, Partition, Share
from distclust.data.storage import Storage
from distclust.engine.threads import map_tiles, n_threads
from distclust.kernels.assign import (
    CenterTable,
    assign,
    center_table,
    nearest_labels,
    own_sq_distances,
    sq_distances,
)
from distclust.kernels.exact_sum import exact_sum
from distclust.kernels.grouped import Groups, group_centers, groups_of_row
from distclust.kernels.lloyd import (
    ClusterStats,
    Drift,
    Memory,
    lloyd_step,
    merge_stats,
    rounded_rows,
)
from distclust.kernels.scaling import FixedPoint, Frame

__all__ = [
    "Bounds",
    "FarRows",
    "Labelling",
    "Run",
    "block_labels",
    "distance_rows",
    "far_rows",
    "label_rows",
    "label_runs",
    "lloyd_stats",
    "merge_far_rows",
    "merge_label_runs",
    "merge_labellings",
    "merge_runs",
]

CALM_FEW, CALM_MANY = 64, 10  # centers: one row moves in so many

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]
Centers = npt.NDArray[Any]
Labels = npt.NDArray[np.int32]


class Bounds(Enum):
    """What is kept of each row from one iteration to the next, beside its label."""

    CHOSEN = auto()  # what pays for so many centers and features, once it does
    NONE = auto()  # nothing: every row is looked at
    ONE = auto()  # a lower bound on the distance to all centers but its own
    EACH = auto()  # on the distance to each center, if they are few enough for a vector
    GROUPS = auto()  # on the distance to each group of centers, if rows fill a vector


def bounds_that_pay(table: CenterTable) -> tuple[Bounds, int]:
    """Return which, and of how many rows no more than one may move before; 0 is at once."""
    k, d = table.exact.shape
    if table.lanes.width > 1:
        return Bounds.EACH, CALM_FEW
    if groups_of_row(k, d, table.seen.itemsize):
        return Bounds.GROUPS, CALM_MANY
    return Bounds.ONE, 0


class Run(NamedTuple):
    """Centers, and which of several runs on the same rows they are of."""

    number: int
    centers: Centers
    bounds: Bounds = Bounds.CHOSEN  # any gives the same bits; tests go through all

    @property
    def key(self) -> str:
        """Where a partition's cache has the run's last iteration."""
        return f"lloyd-{self.number}"


class Change(NamedTuple):
    """What a step changed in one run."""

    stats: ClusterStats
    n_moved: int


class Progress(NamedTuple):
    """The last iteration of a run in a partition: a discardable cache."""

    table: CenterTable
    rounding: FixedPoint
    drift: Drift
    memory: Memory
    stats: ClusterStats
    bounds: Bounds
    calm: int  # see `bounds_that_pay`
    groups: Groups | None = None

    @classmethod
    def start(
        cls, partition: Partition, table: CenterTable, rounding: FixedPoint, bounds: Bounds
    ) -> Progress:
        """Before the first iteration, or after the cache was lost."""
        n_clusters, n_features = table.exact.shape
        stats = ClusterStats.empty(n_clusters, n_features)
        memory = Memory.blank(partition.n_rows, partition.storage.full)
        kept, calm = bounds_that_pay(table) if bounds is Bounds.CHOSEN else (bounds, 0)
        blank = cls(table, rounding, Drift.none(n_clusters), memory, stats, kept, calm)
        return blank if calm else blank.with_bounds(partition.storage)

    def with_bounds(self, storage: Storage) -> Progress:
        """Keep bounds from here on, if any."""
        if self.bounds is Bounds.NONE:
            return self
        groups, width = None, self.table.lanes.width if self.bounds is Bounds.EACH else 1
        if self.bounds is Bounds.GROUPS:
            groups = group_centers(self.table.seen)
            width = groups.width
        memory = self.memory.with_bounds(width, storage.full)
        drift = Drift.none(len(self.table.exact), groups)
        return self._replace(memory=memory, drift=drift, groups=groups)

    def after(self, table: CenterTable, drift: Drift, change: Change, storage: Storage) -> Progress:
        """After a step; costly bounds begin once few rows move."""
        after = self._replace(table=table, drift=drift, stats=change.stats)
        calm = change.n_moved * self.calm <= len(self.memory.labels)
        return after.with_bounds(storage) if calm and not self.memory.has_bounds else after

    def precedes(self, table: CenterTable, rounding: FixedPoint) -> bool:
        """Whether an iteration with these centers and this rounding can go on from here."""
        return (
            self.table.exact.shape == table.exact.shape
            and self.table.scale == table.scale
            and np.array_equal(self.table.offset, table.offset)
            and np.array_equal(self.rounding.offset, rounding.offset)
            and np.array_equal(self.rounding.exponents, rounding.exponents)
            and self.rounding.weight_exponent == rounding.weight_exponent
        )


def lloyd_stats(
    partition: Partition, runs: Sequence[Run], frame: Frame, rounding: FixedPoint
) -> list[ClusterStats]:
    """Label every row and sum the rows of each cluster: one iteration's work, of each run.

    Rows whose label cannot have changed since the last iteration are passed over.
    """
    last = {}  # taken out of the cache: half-updated, it must not outlive an interruption
    for run in runs:
        table = center_table(run.centers, frame)
        known: Progress | None = partition.cache.pop(run.key, None)
        if known is None or not known.precedes(table, rounding):
            known = Progress.start(partition, table, rounding, run.bounds)
        last[run.key] = known, table
    return [progress.stats for progress in _advance(partition, last)]


def merge_runs(a: list[ClusterStats], b: list[ClusterStats]) -> list[ClusterStats]:
    """Sum of both, run by run."""
    return list(map(merge_stats, a, b))


def _advance(
    partition: Partition, runs: Mapping[str, tuple[Progress, CenterTable]]
) -> list[Progress]:
    """Bring each run's labels and sums up to date with new centers, in one pass over the rows."""
    moves = [
        (last, table, last.drift.and_between(last.table, table, last.groups))
        for last, table in runs.values()
    ]
    groups = [last.groups and last.groups.arranged(table) for last, table, _ in moves]

    def of_share(share: Share) -> list[Change]:
        changes = [Change(ClusterStats.empty(*table.exact.shape), 0) for _, table, _ in moves]
        for block, rows in share:
            for i, (last, table, drift) in enumerate(moves):
                memory, (sums, moved) = last.memory.rows(rows), changes[i]
                given = block.X, block.weights, table, last.rounding, drift, memory, sums
                _, more = lloyd_step(*given, groups[i])
                changes[i] = Change(sums, moved + more)
        return changes

    before = [Change(last.stats, 0) for last, _, _ in moves]
    changes = reduce(_merge_changes, map_tiles(of_share, partition.shares(n_threads())), before)
    done = [
        last.after(table, drift, change, partition.storage)
        for (last, table, drift), change in zip(moves, changes, strict=True)
    ]
    partition.cache.update(zip(runs, done, strict=True))
    return done


def _merge_changes(a: list[Change], b: list[Change]) -> list[Change]:
    return [
        Change(merge_stats(one.stats, other.stats), one.n_moved + other.n_moved)
        for one, other in zip(a, b, strict=True)
    ]


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

    return reduce(merge_labellings, map_tiles(of_share, partition.shares(n_threads())))


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
    labels = _advance(partition, {key: (last, table)})[0].memory.labels
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
