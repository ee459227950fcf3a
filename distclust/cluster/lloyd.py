"""Lloyd's iterations: the loop, the update of the centers, and the stopping rule.

Semantics are scikit-learn's. Workers return integers, so whatever is computed here
from them is the same on any backend and partitioning. "No label changed" is recognised
by unchanged sums, which needs no labels: a replaced worker has nothing to remember.

Source: S. P. Lloyd, "Least squares quantization in PCM", 1982.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.cluster.labelling import FarRows, far_rows, merge_far_rows
from distclust.cluster.statistics import DataStats
from distclust.cluster.steps import Run, lloyd_stats, merge_runs
from distclust.engine.events import IterationDone
from distclust.engine.shards import Broadcast, Shards
from distclust.kernels.lloyd import ClusterStats

__all__ = ["LloydResult", "lloyd", "lloyd_runs", "sq_shift"]

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


@dataclass(eq=False)
class Iterating:
    """A run of which the iterations go on."""

    run: Run
    before: ClusterStats | None = None
    history: list[float] = field(default_factory=list)
    converged: str = ""

    def step(self, stats: ClusterStats, new_centers: Centers, shift: float, enough: float) -> None:
        """Take the new centers, and note whether they are the last."""
        if self.before is not None and all(map(np.array_equal, stats, self.before)):
            self.converged = "strict convergence"
        elif shift <= enough:
            self.converged = "tolerance"
        self.run, self.before = self.run._replace(centers=new_centers), stats

    @property
    def result(self) -> LloydResult:
        return LloydResult(
            centers=self.run.centers, n_iter=len(self.history), inertia_history=self.history
        )


def lloyd(
    shards: Shards, centers: Centers, data: DataStats, *, max_iter: int, tol: float
) -> LloydResult:
    """Iterate from `centers` alone: see `lloyd_runs`."""
    return lloyd_runs(shards, [centers], data, max_iter=max_iter, tol=tol)[0]


def lloyd_runs(
    shards: Shards, starts: Sequence[Centers], data: DataStats, *, max_iter: int, tol: float
) -> list[LloydResult]:
    """Iterate from each of `starts` until no label changes, the centers rest, or `max_iter`.

    A pass over the rows serves all runs that still go on. What comes of a run does not
    depend on the others.

    Parameters
    ----------
    shards : Shards
    starts : sequence of ndarray of shape (k, d), the data's dtype
    data : DataStats
    max_iter : int
    tol : float
        Stop when the centers' squared shifts sum to no more than ``tol`` times the mean
        variance of the features.
    """
    session = shards.session
    frame, rounding = session.broadcast(data.frame), session.broadcast(data.rounding)
    enough = tol * data.mean_variance
    runs = [Iterating(Run(number, centers)) for number, centers in enumerate(starts)]
    going = runs
    for iteration in range(1, max_iter + 1):
        began = time.monotonic()
        sent = session.broadcast(tuple(each.run for each in going))
        found: list[ClusterStats] = shards.reduce(lloyd_stats, merge_runs, sent, frame, rounding)
        for each, stats in zip(going, found, strict=True):
            centers = each.run.centers
            relocated = _relocate(shards, stats, centers, frame, rounding)
            new_centers = _moved(relocated, centers, data)
            shift = sq_shift(new_centers, centers, data)
            each.history.append(_inertia(stats, centers, data))
            each.step(stats, new_centers, shift, enough)
            session.emit(
                IterationDone(
                    iteration=iteration,
                    max_iter=max_iter,
                    inertia=each.history[-1],
                    center_shift=data.frame.in_data_units(shift),
                    n_rows=data.n_rows,
                    seconds=time.monotonic() - began,
                    converged=each.converged,
                    tolerance=data.frame.in_data_units(enough),
                    run=each.run.number + 1,
                    n_runs=len(runs),
                )
            )
        going = [each for each in going if not each.converged]
        if not going:
            break
    return [each.result for each in runs]


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
    shards: Shards, stats: ClusterStats, centers: Centers, frame: Broadcast, rounding: Broadcast
) -> ClusterStats:
    """Give each empty cluster one of the rows farthest from their centers."""
    empty = np.flatnonzero(stats.weights == 0)
    if len(empty) == 0:
        return stats
    count = len(empty)
    merge = partial(merge_far_rows, count)
    sent = shards.session.broadcast(centers)
    far: FarRows = shards.reduce(far_rows, merge, sent, frame, rounding, count)
    if far.sq_dist[0] == 0:  # fewer distinct rows than clusters: nothing to gain
        return stats
    sums, weights = stats.sums.copy(), stats.weights.copy()
    for cluster, label, row, weight in zip(empty, far.label, far.sums, far.weights, strict=False):
        sums[label] -= row
        weights[label] -= weight
        sums[cluster] = row
        weights[cluster] = weight
    return ClusterStats(sums, weights)
