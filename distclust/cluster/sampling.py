"""Initial centers from a sample: K-Means of a few rows is where K-Means of all rows starts.

The first iterations, of several starts, then touch hundreds of rows a cluster instead of
all. The start is P. S. Bradley and U. M. Fayyad's ("Refining initial points for k-means
clustering", 1998), the sample O. Bachem, M. Lucic and A. Krause's lightweight coreset
("Scalable k-means clustering via lightweight coresets", 2018): half the rows are drawn for
their weight, half for their squared distance to the mean, so that far rows cannot be
missed, and each weighs what it stands for. A row is drawn by itself, keyed by (seed, stage,
global row id), so the sample is the same on any sharding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.cluster.drawing import (
    Drawn,
    gather_drawn,
    row_uniforms,
    row_weights,
    take_rows,
)
from distclust.cluster.lloyd import LloydResult, lloyd
from distclust.cluster.seeding import FEW_ROWS, kmeans_parallel, sharded_here
from distclust.cluster.statistics import DataStats
from distclust.data.arrays import ArraySource
from distclust.data.blocks import Partition, Share
from distclust.engine.protocol import Backend
from distclust.engine.shards import Shards, threads_here
from distclust.engine.threads import map_tiles, n_threads, worker_threads
from distclust.kernels.assign import sq_distances
from distclust.kernels.scaling import Frame

__all__ = ["sampled_start"]

ROWS_PER_CLUSTER = 256
FEWEST_ROWS_PER_CLUSTER = 32  # a smaller sample says too little
LARGEST_SHARE = 4  # of all rows, no more than one in so many
MOST_RUNS = 4  # on a sample; all together over fewer rows an iteration than there are
LARGEST_SAMPLE = 256 << 20  # bytes: it is brought to this process
SAMPLE_STAGE = 1 << 32  # of the keys; no other drawing gets there
HEAT_ITER, FINAL_ITER = 20, 20  # later ones fit what is of the sample, not of all rows
TOL = 1e-4

Rows = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]


def sampled_start(shards: Shards, k: int, data: DataStats, seed: int) -> Rows:
    """Choose k centers by k-means|| and some iterations of Lloyd's on a sample of the rows.

    Where the rows are too few for a sample to be worth while, or the sample has fewer
    than k distinct ones, that is k-means|| on all rows.

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
    wanted = _sample_size(k, data)
    if data.n_rows > FEW_ROWS and wanted >= FEWEST_ROWS_PER_CLUSTER * k:
        sample = _sample(shards, data, seed, wanted)
        if sample.n_rows >= wanted // 2:
            centers = _kmeans_here(sample, k, data, seed, shards.session.backend)
            if len(np.unique(centers, axis=0)) == k:
                return centers
    return kmeans_parallel(shards, k, data, seed)


def _sample_size(k: int, data: DataStats) -> int:
    row_nbytes = len(data.frame.offset) * data.dtype.itemsize
    return min(ROWS_PER_CLUSTER * k, data.n_rows // LARGEST_SHARE, LARGEST_SAMPLE // row_nbytes)


def _sample(shards: Shards, data: DataStats, seed: int, wanted: int) -> ArraySource:
    """Draw about `wanted` rows, and bring them here in row order."""
    per_weight = wanted / 2 / data.total_weight
    per_cost = wanted / 2 / data.scatter if data.scatter > 0 else 0.0
    drawn = gather_drawn(shards, draw_sample, data.frame, seed, per_weight, per_cost)
    return ArraySource(drawn.rows, drawn.weights)


def _kmeans_here(sample: ArraySource, k: int, data: DataStats, seed: int, backend: Backend) -> Rows:
    """Cluster the sample in this process, as often as is cheap, and return the best centers.

    A few iterations show which start is the best; only that one goes on.
    """
    n_runs = max(1, min(MOST_RUNS, data.n_rows // (LARGEST_SHARE * sample.n_rows)))
    at_once = min(n_runs, threads_here(backend))

    def run(number: int) -> LloydResult:
        key = seed + (number << 32)  # seeds of fits are below 2**32
        with sharded_here(sample, data, backend, share=at_once) as (shards, about):
            start = data.metric.start(kmeans_parallel(shards, k, about, key))
            return lloyd(shards, start, about, max_iter=HEAT_ITER, tol=TOL, striding=True)

    with worker_threads(at_once):
        heats = map_tiles(run, range(n_runs))
    best = min(heats, key=lambda result: min(result.inertia_history))
    with sharded_here(sample, data, backend) as (shards, about):
        return lloyd(shards, best.centers, about, max_iter=FINAL_ITER, tol=TOL).centers


def draw_sample(
    partition: Partition, frame: Frame, seed: int, per_weight: float, per_cost: float
) -> Drawn:
    """Draw each row by itself, and weigh it by the inverse of its chance.

    The chance is its weight times ``per_weight + per_cost * squared distance to the offset``.
    """
    offset = frame.offset[np.newaxis]

    def of_share(share: Share) -> list[F64]:
        return [sq_distances(block.X, offset, frame.scale)[:, 0] for block, _ in share]

    shares = map_tiles(of_share, partition.shares(n_threads()))
    sq_dist = np.concatenate([piece for share in shares for piece in share])
    chance = np.minimum(row_weights(partition) * (per_weight + per_cost * sq_dist), 1.0)
    taken = np.flatnonzero(row_uniforms(partition, seed, SAMPLE_STAGE) < chance)
    drawn = take_rows(partition, taken, np.zeros(len(taken)))
    return drawn._replace(weights=drawn.weights / chance[taken])
