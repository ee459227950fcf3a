"""Initial centers: k-means|| and greedy k-means++, the same on any sharding.

Every drawing is keyed by (seed, stage, global row id). Sampling proportional to
``w * squared distance`` is a race: row i runs for ``-log(u_i) / (w_i * d_i**2)`` and
the first to arrive win, which is sampling without replacement (P. S. Efraimidis and
P. G. Spirakis, 2006) and needs no total.

Sources: D. Arthur and S. Vassilvitskii, "k-means++", 2007 (greedy trials as in their
remark, and in scikit-learn); B. Bahmani et al., "Scalable k-means++", 2012.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.backends.local import LocalBackend
from distclust.cluster.lloyd import lloyd
from distclust.cluster.statistics import DataStats, describe
from distclust.data.arrays import ArraySource
from distclust.data.blocks import Partition, Share
from distclust.engine.shards import Session, Shards
from distclust.engine.threads import map_tiles, n_threads
from distclust.kernels.assign import assign, center_table, sq_distances
from distclust.kernels.exact_sum import exact_sum, exact_value
from distclust.kernels.keyed import keyed_uniform
from distclust.kernels.scaling import Frame

__all__ = [
    "FEW_ROWS",
    "distinct_rows",
    "gather_rows",
    "kmeans_parallel",
    "kmeans_plusplus",
    "random_rows",
]

ROUNDS = 5
OVERSAMPLING = 2  # candidates a round, in multiples of k
FEW_ROWS = 8192  # so few rows are all candidates
CANDIDATE_ITERATIONS = 10

Rows = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class Drawn(NamedTuple):
    """Rows that won a drawing, first to arrive first, ties by lowest row id."""

    arrival: F64  # (m,)
    row_id: I64  # (m,)
    rows: Rows  # (m, d)
    weights: F64  # (m,)

    def first(self, count: int | None) -> Drawn:
        """Return the first `count`, all of them when None."""
        order = np.lexsort((self.row_id, self.arrival))[:count]
        return Drawn(self.arrival[order], self.row_id[order], self.rows[order], self.weights[order])


def merge_drawn(count: int | None, a: Drawn, b: Drawn) -> Drawn:
    """Return the first `count` of both."""
    return Drawn(*map(np.concatenate, zip(a, b, strict=True))).first(count)


class Chosen(NamedTuple):
    """Centers chosen so far, in the batches they were chosen in."""

    run: str  # key of the workers' caches
    batches: tuple[Rows, ...]

    def plus(self, batch: Rows) -> Chosen:
        return Chosen(self.run, (*self.batches, batch))

    @property
    def rows(self) -> Rows:
        return np.concatenate(self.batches)


def kmeans_parallel(shards: Shards, k: int, data: DataStats, seed: int) -> Rows:
    """Choose k centers by k-means||: a few rounds over the rows, then k-means++ on candidates.

    A round measures distances to its new candidates only, and remembers the nearest, so
    the candidates' weights come for free.

    Parameters
    ----------
    shards : Shards
    k : int
    data : DataStats
    seed : int

    Returns
    -------
    centers : ndarray of shape (k, d)
    """
    if data.n_rows <= max(FEW_ROWS, 2 * ROUNDS * OVERSAMPLING * k):
        return _plusplus_of_all(shards, k, data, seed)
    chosen = Chosen(f"seed-{seed}", (_first_row(shards, seed).rows,))
    for stage in range(1, ROUNDS + 1):
        sent = shards.session.broadcast(chosen)
        potential: int = shards.reduce(partition_potential, int.__add__, sent, data.frame)
        total = exact_value(potential)
        if total == 0:
            break
        wanted = OVERSAMPLING * k / total
        drawn: Drawn = shards.reduce(
            draw_candidates, partial(merge_drawn, None), sent, data.frame, seed, stage, wanted
        )
        if len(drawn.rows):
            by_id = np.argsort(drawn.row_id)
            chosen = chosen.plus(drawn.rows[by_id])
    sent = shards.session.broadcast(chosen)
    weights: list[int] = shards.reduce(candidate_weights, _add_lists, sent, data.frame)
    exact = np.array([exact_value(weight) for weight in weights])
    return _best_of_candidates(chosen.rows, exact, k, data, seed, iterate=True)


def kmeans_plusplus(shards: Shards, k: int, data: DataStats, seed: int) -> Rows:
    """Choose k centers by greedy k-means++, each the best of ``2 + log(k)`` trials.

    Takes two passes a center over all rows; `kmeans_parallel` is what scales. Parameters
    are the same.
    """
    if data.n_rows <= FEW_ROWS:
        return _plusplus_of_all(shards, k, data, seed)
    return _greedy(shards, k, data, seed)


def _plusplus_of_all(shards: Shards, k: int, data: DataStats, seed: int) -> Rows:
    rows = gather_rows(shards)
    return _best_of_candidates(rows.rows, rows.weights, k, data, seed, iterate=False)


def gather_rows(shards: Shards) -> Drawn:
    """Bring all rows and their weights to this process, in row order."""
    gathered: Drawn = shards.reduce(all_rows, partial(merge_drawn, None))
    return gathered


def distinct_rows(rows: Rows, weights: F64) -> ArraySource:
    """Merge equal rows, adding their weights exactly, and sort them; drop those of weight zero.

    What is made of these depends neither on the order of the rows nor on whether a row
    is repeated or weighs more.
    """
    distinct, which = np.unique(rows + rows.dtype.type(0), axis=0, return_inverse=True)
    totals = np.array([exact_value(total) for total in _sum_by(which, weights, len(distinct))])
    if totals.any():
        distinct, totals = distinct[totals > 0], totals[totals > 0]
    return ArraySource(np.ascontiguousarray(distinct), totals)


def _best_of_candidates(
    rows: Rows, weights: F64, k: int, data: DataStats, seed: int, *, iterate: bool
) -> Rows:
    """Run k-means++, and where asked a few Lloyd steps, on weighted candidates in this process."""
    candidates = distinct_rows(rows, weights)
    if candidates.n_rows <= k:
        return np.resize(candidates.X, (k, candidates.n_features))
    with LocalBackend(workers=1) as backend:
        shards = Session(backend).shard(candidates, 1)
        centers = _greedy(shards, k, data, seed)
        if not iterate:
            return centers
        about = describe(shards, data.dtype, weighted=True, metric=data.metric)
        return lloyd(shards, centers, about, max_iter=CANDIDATE_ITERATIONS, tol=0.0).centers


def _greedy(shards: Shards, k: int, data: DataStats, seed: int) -> Rows:
    trials = 2 + int(np.log(k))
    chosen = Chosen(f"seed-{seed}-greedy", (_first_row(shards, seed).rows,))
    for stage in range(1, k):
        sent = shards.session.broadcast(chosen)
        drawn: Drawn = shards.reduce(
            draw_trials, partial(merge_drawn, trials), sent, data.frame, seed, stage, trials
        )
        if len(drawn.rows) == 0:  # every row is a center already
            return np.resize(chosen.rows, (k, chosen.rows.shape[1]))
        potentials: list[int] = shards.reduce(
            trial_potentials, _add_lists, sent, data.frame, drawn.rows
        )
        best = potentials.index(min(potentials))
        chosen = chosen.plus(drawn.rows[best : best + 1])
    return chosen.rows


def random_rows(shards: Shards, k: int, seed: int) -> Rows:
    """Choose k rows at random, in proportion to their weights."""
    drawn: Drawn = shards.reduce(draw_rows, partial(merge_drawn, k), seed, 0, k)
    if len(drawn.rows) < k:
        more: Drawn = shards.reduce(draw_unweighted, partial(merge_drawn, k), seed, k)
        return np.concatenate([drawn.rows, more.rows])[:k]
    return drawn.rows


def _first_row(shards: Shards, seed: int) -> Drawn:
    drawn: Drawn = shards.reduce(draw_rows, partial(merge_drawn, 1), seed, 0, 1)
    return drawn


def _add_lists(a: list[int], b: list[int]) -> list[int]:
    return [x + y for x, y in zip(a, b, strict=True)]


# What workers do ------------------------------------------------------------------------


class Nearest(NamedTuple):
    """A partition's rows and the nearest centers chosen so far; a discardable cache."""

    n_batches: int
    labels: npt.NDArray[np.int32]  # (n,)
    sq_dist: F64  # (n,)


def _nearest(partition: Partition, chosen: Chosen, frame: Frame) -> Nearest:
    """Bring the cache up to date with `chosen`, or compute it afresh: the same either way."""
    known: Nearest | None = partition.cache.get(chosen.run)
    if known is None or known.n_batches > len(chosen.batches):
        n, full = partition.n_rows, partition.storage.full
        known = Nearest(0, full(n, 0, np.int32), full(n, np.inf, np.float64))
    before = sum(len(batch) for batch in chosen.batches[: known.n_batches])
    for batch in chosen.batches[known.n_batches :]:
        _take_nearer(partition, batch, frame, known, before)
        before += len(batch)
    known = known._replace(n_batches=len(chosen.batches))
    partition.cache[chosen.run] = known
    return known


def _take_nearer(
    partition: Partition, batch: Rows, frame: Frame, known: Nearest, before: int
) -> None:
    """Where a center of `batch` is nearer than what is known, take it; `before` came earlier."""
    table = center_table(batch, frame)

    def of_share(share: Share) -> None:
        for block, rows in share:
            if len(batch) == 1:
                labels = np.zeros(block.n_rows, dtype=np.int32)
                sq_dist = sq_distances(block.X, table.exact, frame.scale)[:, 0]
            else:
                labels, sq_dist = assign(block.X, table)
            nearer = sq_dist < known.sq_dist[rows]
            known.labels[rows][nearer] = labels[nearer] + before
            known.sq_dist[rows][nearer] = sq_dist[nearer]

    map_tiles(of_share, partition.shares(n_threads()))


def _weights(partition: Partition) -> F64:
    parts = [np.ones(b.n_rows) if b.weights is None else b.weights for b in partition.blocks]
    return np.concatenate(parts)


def _costs(partition: Partition, chosen: Chosen, frame: Frame) -> F64:
    return _weights(partition) * _nearest(partition, chosen, frame).sq_dist


def _uniform(partition: Partition, seed: int, stage: int) -> F64:
    parts = [keyed_uniform(seed, stage, b.row_start, b.n_rows) for b in partition.blocks]
    return np.concatenate(parts)


def _take(partition: Partition, positions: I64, arrival: F64) -> Drawn:
    """Copy the rows at the given positions out of the partition."""
    rows, ids, weights = [], [], []
    for block, where in partition.shares(1)[0]:
        inside = positions[(positions >= where.start) & (positions < where.stop)] - where.start
        rows.append(block.X[inside])
        ids.append(block.row_start + inside)
        weights.append(np.ones(len(inside)) if block.weights is None else block.weights[inside])
    return Drawn(arrival, np.concatenate(ids), np.concatenate(rows), np.concatenate(weights))


def _race(partition: Partition, speed: F64, seed: int, stage: int, count: int) -> Drawn:
    runners = np.flatnonzero(speed > 0)
    arrival = -np.log(_uniform(partition, seed, stage)[runners]) / speed[runners]
    if len(runners) > count:
        last = np.partition(arrival, count - 1)[count - 1]
        early = arrival <= last
        runners, arrival = runners[early], arrival[early]
    return _take(partition, runners, arrival).first(count)


def all_rows(partition: Partition) -> Drawn:
    """Return every row, in order of row id."""
    positions = np.arange(partition.n_rows)
    return _take(partition, positions, np.zeros(partition.n_rows))


def draw_rows(partition: Partition, seed: int, stage: int, count: int) -> Drawn:
    """Draw rows in proportion to their weights."""
    return _race(partition, _weights(partition), seed, stage, count)


def draw_unweighted(partition: Partition, seed: int, count: int) -> Drawn:
    """Draw among the rows of weight zero, when the others are too few."""
    return _race(partition, (_weights(partition) == 0).astype(np.float64), seed, 0, count)


def draw_trials(
    partition: Partition, chosen: Chosen, frame: Frame, seed: int, stage: int, count: int
) -> Drawn:
    """Draw rows in proportion to their cost."""
    return _race(partition, _costs(partition, chosen, frame), seed, stage, count)


def trial_potentials(partition: Partition, chosen: Chosen, frame: Frame, trials: Rows) -> list[int]:
    """Sum the costs that would remain with each trial row as the next center, exactly."""
    nearest, weights = _nearest(partition, chosen, frame).sq_dist, _weights(partition)
    exact = trials.astype(np.float64)
    totals = [0] * len(trials)
    for block, where in partition.shares(1)[0]:
        remaining = np.minimum(sq_distances(block.X, exact, frame.scale).T, nearest[where])
        parts = [exact_sum(cost) for cost in remaining * weights[where]]
        totals = _add_lists(totals, parts)
    return totals


def partition_potential(partition: Partition, chosen: Chosen, frame: Frame) -> int:
    """Sum the costs, exactly."""
    return exact_sum(_costs(partition, chosen, frame))


def draw_candidates(
    partition: Partition, chosen: Chosen, frame: Frame, seed: int, stage: int, wanted: float
) -> Drawn:
    """Draw each row by itself, with probability ``wanted * cost``."""
    taken = _uniform(partition, seed, stage) < wanted * _costs(partition, chosen, frame)
    positions = np.flatnonzero(taken)
    return _take(partition, positions, np.zeros(len(positions)))


def candidate_weights(partition: Partition, chosen: Chosen, frame: Frame) -> list[int]:
    """Sum the weights of the rows nearest to each candidate, exactly."""
    labels, weights = _nearest(partition, chosen, frame).labels, _weights(partition)
    partition.cache.pop(chosen.run, None)  # its last use
    return _sum_by(labels, weights, len(chosen.rows))


def _sum_by(labels: npt.NDArray[Any], weights: F64, k: int) -> list[int]:
    """Sum the weights of each label, exactly."""
    order = np.argsort(labels, kind="stable")
    groups = np.split(weights[order], np.searchsorted(labels[order], range(1, k)))
    return [exact_sum(np.ascontiguousarray(group)) for group in groups]
