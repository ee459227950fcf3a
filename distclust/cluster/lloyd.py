"""Lloyd's iterations: the loop, the update of the centers, and the stopping rule.

Semantics are scikit-learn's. Workers return integers, so whatever is computed here
from them is the same on any backend and partitioning. "No label changed" is recognised
by unchanged sums, which needs no labels: a replaced worker has nothing to remember.

Source: S. P. Lloyd, "Least squares quantization in PCM", 1982.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.cluster.statistics import DataStats
from distclust.cluster.steps import FarRows, far_rows, lloyd_stats, merge_far_rows
from distclust.engine.events import IterationDone
from distclust.engine.shards import Broadcast, Shards
from distclust.kernels.lloyd import ClusterStats, merge_stats

__all__ = ["LloydResult", "lloyd", "sq_shift"]

Centers = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class LloydResult:
    """Where the iterations ended.

    Attributes
    ----------
    centers : ndarray of shape (k, d), the data's dtype
    n_iter : int
    inertia_history : list of float
        Inertia of the centers each iteration started from.
    """

    centers: Centers
    n_iter: int
    inertia_history: list[float]


def lloyd(
    shards: Shards, centers: Centers, data: DataStats, *, max_iter: int, tol: float
) -> LloydResult:
    """Iterate from `centers` until no label changes, the centers rest, or `max_iter`.

    Parameters
    ----------
    shards : Shards
    centers : ndarray of shape (k, d), the data's dtype
    data : DataStats
    max_iter : int
    tol : float
        Stop when the centers' squared shifts sum to no more than ``tol`` times the mean
        variance of the features.
    """
    session = shards.session
    frame, rounding = session.broadcast(data.frame), session.broadcast(data.rounding)
    enough = tol * data.mean_variance
    history: list[float] = []
    before: ClusterStats | None = None
    for iteration in range(1, max_iter + 1):
        began = time.monotonic()
        sent = session.broadcast(centers)
        stats: ClusterStats = shards.reduce(lloyd_stats, merge_stats, sent, frame, rounding)
        relocated = _relocate(shards, stats, sent, frame, rounding)
        new_centers = _moved(relocated, centers, data)
        history.append(_inertia(stats, centers, data))
        shift = sq_shift(new_centers, centers, data)
        converged = _converged(stats, before, shift, enough)
        session.emit(
            IterationDone(
                iteration=iteration,
                max_iter=max_iter,
                inertia=history[-1],
                center_shift=data.frame.in_data_units(shift),
                n_rows=data.n_rows,
                seconds=time.monotonic() - began,
                converged=converged,
                tolerance=data.frame.in_data_units(enough),
            )
        )
        centers, before = new_centers, stats
        if converged:
            break
    return LloydResult(centers=centers, n_iter=iteration, inertia_history=history)


def _converged(
    stats: ClusterStats, before: ClusterStats | None, shift: float, enough: float
) -> str:
    """Say why to stop, or nothing."""
    if before is not None and all(map(np.array_equal, stats, before)):
        return "strict convergence"
    return "tolerance" if shift <= enough else ""


def _moved(stats: ClusterStats, centers: Centers, data: DataStats) -> Centers:
    """Return the clusters' new centers; an empty one takes the place of the heaviest's."""
    rounding = data.rounding
    filled = stats.weights > 0
    weights = rounding.weights(np.where(filled, stats.weights, 1))
    means = rounding.offset + rounding.sums(stats.sums) / weights[:, np.newaxis]
    means[~filled] = means[stats.weights.argmax()]
    return data.metric.moved(means, centers).astype(data.dtype)


def sq_shift(new_centers: Centers, centers: Centers, data: DataStats) -> float:
    """Sum the squared shifts of the centers, as seen through the frame."""
    moved = (new_centers.astype(np.float64) - centers) * data.frame.scale
    return float((moved * moved).sum())


def _inertia(stats: ClusterStats, centers: Centers, data: DataStats) -> float:
    """Return the inertia of `centers` from the sums alone (rounded; for progress)."""
    scale = data.frame.scale
    at = (centers.astype(np.float64) - data.rounding.offset) * scale
    weights = data.rounding.weights(stats.weights)
    sums = data.rounding.sums(stats.sums) * scale
    inertia = data.scatter - (2 * at * sums).sum() + (weights * (at * at).sum(axis=1)).sum()
    return data.metric.inertia(data.frame.in_data_units(max(float(inertia), 0.0)))


def _relocate(
    shards: Shards, stats: ClusterStats, centers: Broadcast, frame: Broadcast, rounding: Broadcast
) -> ClusterStats:
    """Give each empty cluster one of the rows farthest from their centers."""
    empty = np.flatnonzero(stats.weights == 0)
    if len(empty) == 0:
        return stats
    count = len(empty)
    merge = partial(merge_far_rows, count)
    far: FarRows = shards.reduce(far_rows, merge, centers, frame, rounding, count)
    if far.sq_dist[0] == 0:  # fewer distinct rows than clusters: nothing to gain
        return stats
    sums, weights = stats.sums.copy(), stats.weights.copy()
    for cluster, label, row, weight in zip(empty, far.label, far.sums, far.weights, strict=False):
        sums[label] -= row
        weights[label] -= weight
        sums[cluster] = row
        weights[cluster] = weight
    return ClusterStats(sums, weights)
