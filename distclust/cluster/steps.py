"""One Lloyd iteration on a worker: label a partition's rows, and sum the rows of each cluster.

It goes on from what the partition keeps of the iteration before, spreads the rows over the
worker's threads, calls one kernel, and merges exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.data.blocks import Block, Partition, Share
from distclust.engine.threads import map_tiles, n_threads, n_threads_for
from distclust.kernels.assign import CenterTable, center_table
from distclust.kernels.coded import CodedCenters, Codes, coded_words, encode
from distclust.kernels.drift import Drift, Travelled
from distclust.kernels.grouped import Arranged, Groups, group_centers, groups_of_row
from distclust.kernels.lloyd import ClusterStats, Counts, Memory, lloyd_step, merge_stats
from distclust.kernels.scaling import FixedPoint, Frame

__all__ = ["Bounds", "Progress", "Run", "advance", "lloyd_stats", "merge_runs"]

CALM, CALM_CENTERS = 32, 2560  # bounds begin when no more than one row in so many moves, or,
# where centers are few, in so many by their number: then to look at a row costs little
DOUBTFUL = 2  # codes are given up when they leave more than one row in so many in doubt
MANY = 8  # if one row in so many was looked at

Centers = npt.NDArray[Any]


class Bounds(Enum):
    """What is kept of each row from one iteration to the next, beside its label."""

    CHOSEN = auto()  # what pays for so many centers and features, once it does
    NONE = auto()  # nothing: every row is looked at
    ONE = auto()  # a lower bound on the distance to all centers but its own
    GROUPS = auto()  # on the distance to each group of centers, while rows are coded


def bounds_that_pay(table: CenterTable) -> tuple[Bounds, int]:
    """Return which, and of how many rows no more than one may move before; 0 is at once."""
    k, d = table.exact.shape
    if groups_of_row(k, d, table.seen.itemsize):
        return Bounds.GROUPS, CALM
    return Bounds.ONE, max(CALM, CALM_CENTERS // k) if coded_words(d) else 0


class Run(NamedTuple):
    """Centers, and which of several runs on the same rows they are of."""

    number: int
    centers: Centers
    bounds: Bounds = Bounds.CHOSEN  # any gives the same bits; tests go through all
    coded: bool = True  # rows as integers, where these gain; the same bits again

    @property
    def key(self) -> str:
        """Where a partition's cache has the run's last iteration."""
        return f"lloyd-{self.number}"


class Change(NamedTuple):
    """What a step changed in one run."""

    stats: ClusterStats
    counts: Counts

    @classmethod
    def none(cls, n_clusters: int, n_features: int) -> Change:
        """Of no rows."""
        return cls(ClusterStats.empty(n_clusters, n_features), Counts(0, 0))


class Progress(NamedTuple):
    """The last iteration of a run in a partition: a discardable cache."""

    table: CenterTable
    rounding: FixedPoint
    drift: Drift
    memory: Memory
    stats: ClusterStats
    bounds: Bounds
    calm: int  # see `bounds_that_pay`
    coded: bool  # whether codes are of use
    groups: Groups | None = None

    @classmethod
    def start(
        cls, partition: Partition, table: CenterTable, rounding: FixedPoint, run: Run
    ) -> Progress:
        """Before the first iteration, or after the cache was lost."""
        n_clusters, n_features = table.exact.shape
        stats = ClusterStats.empty(n_clusters, n_features)
        memory = Memory.blank(partition.n_rows, partition.storage.full)
        drift = Drift.none(partition.n_rows, n_clusters, n_features, table.scale)
        given = run.bounds, 0
        bounds, calm = bounds_that_pay(table) if run.bounds is Bounds.CHOSEN else given
        coded = run.coded and coded_words(n_features) > 0
        blank = cls(table, rounding, drift, memory, stats, bounds, calm, coded)
        return blank if calm else blank.with_bounds(partition)

    def with_bounds(self, partition: Partition) -> Progress:
        """Keep bounds from here on, if any."""
        if self.bounds is Bounds.NONE:
            return self
        groups = None
        if self.bounds is Bounds.GROUPS and self.coded:
            groups = group_centers(self.table.seen, _codes(partition, self.table).common_sq_norm)
        width = groups.width if groups else None
        memory = self.memory.with_bounds(width, partition.storage.full)
        return self._replace(memory=memory, drift=self.drift.anew(), groups=groups)

    def after(self, table: CenterTable, change: Change, partition: Partition) -> Progress:
        """After a step; costly bounds begin once few rows move, codes end if they tell little."""
        counts, n_rows = change.counts, partition.n_rows
        few = counts.seen * MANY < n_rows  # those between centers, in doubt or not
        coded = self.coded and (few or counts.doubtful * DOUBTFUL <= counts.seen)
        after = self._replace(table=table, stats=change.stats, coded=coded)
        calm = counts.moved * (self.calm if coded else 0) <= n_rows
        begins = calm and not self.memory.has_bounds
        ends = self.groups is not None and not coded
        if begins or ends:
            return after.with_bounds(partition)
        return after.remembering() if self.memory.has_bounds else after

    def remembering(self) -> Progress:
        """Note where the centers were at this step; as the first, if no other can be noted."""
        centers, drift = self.table.exact, self.drift
        drift.remember(centers)
        if drift.is_full:
            self.memory.settle(drift.travelled(centers, self.groups))
            drift = drift.anew()
            drift.remember(centers)
        return self._replace(drift=drift)

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
            known = Progress.start(partition, table, rounding, run)
        last[run.key] = known, table
    return [progress.stats for progress in advance(partition, last)]


def merge_runs(a: list[ClusterStats], b: list[ClusterStats]) -> list[ClusterStats]:
    """Sum of both, run by run."""
    return list(map(merge_stats, a, b))


def advance(
    partition: Partition, runs: Mapping[str, tuple[Progress, CenterTable]]
) -> list[Progress]:
    """Bring each run's labels and sums up to date with new centers, in one pass over the rows."""
    moves = [Move.of(partition, last, table) for last, table in runs.values()]

    def of_share(share: Share) -> list[Change]:
        changes = [Change.none(*move.table.exact.shape) for move in moves]
        for block, rows in share:
            changes = [
                move.of_rows(block, rows, change)
                for move, change in zip(moves, changes, strict=True)
            ]
        return changes

    before = [Change(move.last.stats, Counts(0, 0)) for move in moves]
    threads = n_threads_for(partition.n_rows, sum(move.table.exact.size for move in moves))
    changes = reduce(_merge_changes, map_tiles(of_share, partition.shares(threads)), before)
    done = [
        move.last.after(move.table, change, partition)
        for move, change in zip(moves, changes, strict=True)
    ]
    partition.cache.update(zip(runs, done, strict=True))
    return done


class Move(NamedTuple):
    """What takes a run one step further."""

    last: Progress
    table: CenterTable
    travelled: Travelled
    coded: tuple[Codes, CodedCenters | Arranged] | None

    @classmethod
    def of(cls, partition: Partition, last: Progress, table: CenterTable) -> Move:
        """Prepare to go on from a step with other centers."""
        bounded = last.memory.has_bounds
        travelled = last.drift.travelled(table.exact, last.groups) if bounded else Travelled.none()
        if not last.coded:
            return cls(last, table, travelled, None)
        codes = _codes(partition, table)
        if last.groups:
            return cls(last, table, travelled, (codes, last.groups.arranged(table, codes.error)))
        return cls(last, table, travelled, (codes, CodedCenters.of(table, codes.error)))

    def of_rows(self, block: Block, rows: slice, change: Change) -> Change:
        """Bring a block's labels up to date, and what changed."""
        last, (sums, counts) = self.last, change
        given = block.X, block.weights, self.table, last.rounding, self.travelled
        coded = (self.coded[0].words[rows], self.coded[1]) if self.coded else None
        more = lloyd_step(*given, last.memory.rows(rows), sums, coded)
        return Change(sums, counts.and_of(more))


def _codes(partition: Partition, table: CenterTable) -> Codes:
    """Return the rows as integers, made at the first call."""
    frame = Frame(table.offset, table.scale)
    known: Codes | None = partition.cache.get("codes")
    if known and known.through(frame):
        return known
    shape = partition.n_rows, coded_words(len(frame.offset))
    words = partition.storage.empty(shape, np.int32)

    def of_share(share: Share) -> float:
        return max(encode(block.X, frame, words[rows]) for block, rows in share)

    codes = Codes(frame, words, max(map_tiles(of_share, partition.shares(n_threads()))))
    partition.cache["codes"] = codes
    return codes


def _merge_changes(a: list[Change], b: list[Change]) -> list[Change]:
    return [
        Change(merge_stats(one.stats, other.stats), one.counts.and_of(other.counts))
        for one, other in zip(a, b, strict=True)
    ]
