"""Initial centers: k-means|| and greedy k-means++, the same on any sharding.

Rows are drawn in proportion to ``w * squared distance`` (`distclust.cluster.drawing`).

Sources: D. Arthur and S. Vassilvitskii, "k-means++", 2007 (greedy trials as in their
remark, and in scikit-learn); B. Bahmani et al., "Scalable k-means++", 2012.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.backends.local import CallingThread
from distclust.cluster.drawing import (
    Drawn,
    distinct_rows,
    first_row,
    gather_rows,
    merge_drawn,
    race,
    random_rows,
    row_uniforms,
    row_weights,
    sums_by,
    take_rows,
)
from distclust.cluster.lloyd import lloyd
from distclust.cluster.statistics import DataStats, describe
from distclust.data.arrays import ArraySource
from distclust.data.blocks import Partition, Share
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards, threads_here
from distclust.engine.threads import map_tiles, n_threads, n_threads_for, worker_threads
from distclust.kernels.assign import assign, center_table, sq_distances
from distclust.kernels.exact_sum import exact_exponent, exact_sum, exact_value
from distclust.kernels.keyed import keyed_uniform
from distclust.kernels.plusplus import Points, choose_greedily
from distclust.kernels.potential import remaining_potentials
from distclust.kernels.scaling import Frame

__all__ = ["FEW_ROWS", "SEEDINGS", "kmeans_parallel", "kmeans_plusplus", "sharded_here"]

ROUNDS = 5
OVERSAMPLING = 2  # candidates a round, in multiples of k
FEW_ROWS = 8192  # so few rows are all candidates
CANDIDATE_ITERATIONS = 10
MOST_STARTS = 16  # of k-means++ on candidates; together they are cheap:
PRODUCTS_OF_STARTS = 1 << 28
START_STAGE = 1 << 33  # of the keys; no other drawing gets there
_POTENTIAL_BITS = 50  # a sum of rounded costs stays below 2**51

Rows = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


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
        return _of_few(shards, k, data, seed, MOST_STARTS)
    chosen = Chosen(f"seed-{seed}", (first_row(shards, seed).rows,))
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
    candidates = distinct_rows(chosen.rows, exact)
    centers = _choose(candidates, k, data, seed, shards.session.backend, MOST_STARTS)
    if len(centers) < k:
        return np.resize(centers, (k, candidates.n_features))
    with sharded_here(candidates, data, shards.session.backend) as (few, about):
        return lloyd(few, centers, about, max_iter=CANDIDATE_ITERATIONS, tol=0.0).centers


def kmeans_plusplus(shards: Shards, k: int, data: DataStats, seed: int) -> Rows:
    """Choose k centers by greedy k-means++, each the best of ``2 + log(k)`` trials.

    Takes two passes a center over all rows; `kmeans_parallel` is what scales. Parameters
    are the same.
    """
    if data.n_rows <= FEW_ROWS:
        return _of_few(shards, k, data, seed, 1)
    return _greedy(shards, k, data, seed)


def _of_few(shards: Shards, k: int, data: DataStats, seed: int, most_starts: int) -> Rows:
    """Choose among all rows, in this process."""
    all_rows = gather_rows(shards)
    rows = distinct_rows(all_rows.rows, all_rows.weights)
    centers = _choose(rows, k, data, seed, shards.session.backend, most_starts)
    return np.resize(centers, (k, rows.n_features))


def _choose(
    rows: ArraySource, k: int, data: DataStats, seed: int, backend: Backend, most_starts: int
) -> Rows:
    """Return the best of several runs of greedy k-means++ on weighted rows, as many as are cheap.

    Fewer than k centers if there are no more distinct rows of weight.
    """
    assert rows.weights is not None  # `distinct_rows` adds them up
    weights = rows.weights
    points = Points.of(rows.X.astype(np.float64) * data.frame.scale)
    n_trials = 2 + int(np.log(k))
    products = rows.n_features * k * n_trials
    n_starts = max(1, min(most_starts, PRODUCTS_OF_STARTS // (rows.n_rows * products)))
    threads = n_threads_for(rows.n_rows, products * n_starts, threads_here(backend))

    def start(number: int) -> tuple[I64, float]:
        uniforms = keyed_uniform(seed, START_STAGE + number, 0, k * n_trials)
        return choose_greedily(points, weights, uniforms.reshape(k, n_trials))

    with worker_threads(threads):
        found = map_tiles(start, range(n_starts))
    chosen, _ = min(found, key=lambda result: result[1])
    return rows.X[chosen]


@contextmanager
def sharded_here(
    rows: ArraySource, data: DataStats, backend: Backend, *, share: int = 1
) -> Iterator[tuple[Shards, DataStats]]:
    """Shard a few weighted rows for K-Means in this process, and describe them.

    On one in `share` of its threads, if so many are at it at once.
    """
    threads = max(1, threads_here(backend) // share)
    with worker_threads(1), CallingThread(threads) as here:  # BLAS is limited once for all calls
        shards = Session(here).shard(rows)
        yield shards, describe(shards, data.dtype, weighted=True, metric=data.metric)


def _greedy(shards: Shards, k: int, data: DataStats, seed: int) -> Rows:
    count = 2 + int(np.log(k))
    chosen = Chosen(f"seed-{seed}-greedy", (first_row(shards, seed).rows,))
    for stage in range(1, k):
        sent = shards.session.broadcast(chosen)
        trials: Trials = shards.reduce(
            draw_trials, partial(merge_trials, count), sent, data.frame, seed, stage, count
        )
        rows = trials.drawn.rows
        if len(rows) == 0:  # every row is a center already
            return np.resize(chosen.rows, (k, chosen.rows.shape[1]))
        left: I64 = shards.reduce(trial_potentials, np.add, sent, data.frame, rows, trials.grid)
        best = int(left.argmin())
        chosen = chosen.plus(rows[best : best + 1])
    return chosen.rows


SEEDINGS: dict[str, Callable[[Shards, int, DataStats, int], Rows]] = {
    "k-means||": kmeans_parallel,
    "k-means++": kmeans_plusplus,
    "random": lambda shards, k, _, seed: random_rows(shards, k, seed),
}


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
    nearest = _nearest_of(batch, frame)

    def of_share(share: Share) -> None:
        for block, rows in share:
            labels, sq_dist = nearest(block.X)
            nearer = sq_dist < known.sq_dist[rows]
            known.labels[rows][nearer] = labels[nearer] + before
            known.sq_dist[rows][nearer] = sq_dist[nearer]

    map_tiles(of_share, partition.shares(n_threads_for(partition.n_rows, batch.size)))


def _nearest_of(batch: Rows, frame: Frame) -> Callable[[Rows], tuple[npt.NDArray[np.int32], F64]]:
    """Return what labels rows by the nearest center of `batch`, and measures how far it is."""
    if len(batch) > 1:
        return partial(assign, table=center_table(batch, frame))
    center = batch.astype(np.float64)
    return lambda X: (
        np.zeros(len(X), dtype=np.int32),
        sq_distances(X, center, frame.scale)[:, 0],
    )


def _costs(partition: Partition, chosen: Chosen, frame: Frame) -> F64:
    return row_weights(partition) * _nearest(partition, chosen, frame).sq_dist


class Trials(NamedTuple):
    """Rows that might be the next center."""

    drawn: Drawn
    potential: int  # the exact sum of all costs (see `exact_sum`)

    @property
    def grid(self) -> float:
        """The power of two for `remaining_potentials`."""
        return 2.0 ** min(_POTENTIAL_BITS - exact_exponent(self.potential), 1000)


def merge_trials(count: int, a: Trials, b: Trials) -> Trials:
    """Return the first `count` of both, and the sum of both potentials."""
    return Trials(merge_drawn(count, a.drawn, b.drawn), a.potential + b.potential)


def draw_trials(
    partition: Partition, chosen: Chosen, frame: Frame, seed: int, stage: int, count: int
) -> Trials:
    """Draw rows in proportion to their cost."""
    costs = _costs(partition, chosen, frame)
    return Trials(race(partition, costs, seed, stage, count), exact_sum(costs))


def trial_potentials(
    partition: Partition, chosen: Chosen, frame: Frame, trials: Rows, grid: float
) -> I64:
    """Sum the costs that would remain with each trial row as the next center, rounded."""
    nearest, weights = _nearest(partition, chosen, frame).sq_dist, row_weights(partition)
    exact = trials.astype(np.float64)

    def of_share(share: Share) -> I64:
        parts = [
            remaining_potentials(block.X, exact, frame.scale, nearest[rows], weights[rows], grid)
            for block, rows in share
        ]
        return reduce(np.add, parts)

    return reduce(np.add, map_tiles(of_share, partition.shares(n_threads())))


def partition_potential(partition: Partition, chosen: Chosen, frame: Frame) -> int:
    """Sum the costs, exactly."""
    return exact_sum(_costs(partition, chosen, frame))


def draw_candidates(
    partition: Partition, chosen: Chosen, frame: Frame, seed: int, stage: int, wanted: float
) -> Drawn:
    """Draw each row by itself, with probability ``wanted * cost``."""
    taken = row_uniforms(partition, seed, stage) < wanted * _costs(partition, chosen, frame)
    positions = np.flatnonzero(taken)
    return take_rows(partition, positions, np.zeros(len(positions)))


def candidate_weights(partition: Partition, chosen: Chosen, frame: Frame) -> list[int]:
    """Sum the weights of the rows nearest to each candidate, exactly."""
    labels, weights = _nearest(partition, chosen, frame).labels, row_weights(partition)
    partition.cache.pop(chosen.run, None)  # its last use
    return sums_by(labels, weights, len(chosen.rows))
