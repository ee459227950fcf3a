"""Lloyd's iterations: the loop, the update of the centers, and the stopping rule.

Semantics are scikit-learn's. Workers return integers, so whatever is computed here
from them is the same on any backend and partitioning. "No label changed" is recognised
by unchanged sums, which needs no labels: a replaced worker has nothing to remember.

Where a run may choose its way, centers go on beyond the means (`distclust.cluster.strides`).

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
from distclust.cluster.strides import Strides
from distclust.engine.events import IterationDone
from distclust.engine.shards import Broadcast, Shards
from distclust.kernels.lloyd import ClusterStats

__all__ = ["LloydResult", "lloyd", "lloyd_runs", "sq_shift"]

ROUNDING = 2.0**-44  # of an inertia that is computed from sums, relative to the scatter

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

    run: Run  # with the centers of the next iteration
    strides: Strides | None  # or always to the means
    means: Centers  # where Lloyd's iteration would go on, and where the run ends
    before: ClusterStats | None = None  # those that `means` are of
    least: float = np.inf  # inertia of the centers before a stride, seen through the frame
    history: list[float] = field(default_factory=list)
    converged: str = ""

    def strode_too_far(self, inertia: float, scatter: float) -> bool:
        """Whether centers beyond the means are worse than those before, rounding apart."""
        allowed = self.least * (1 + 1e-9) + scatter * ROUNDING
        return self.run.centers is not self.means and not inertia <= allowed

    def go_back(self) -> None:
        """Go on from the means instead."""
        assert self.strides is not None
        self.strides.shorten()
        self.run = self.run._replace(centers=self.means)

    def step(
        self, stats: ClusterStats, means: Centers, data: DataStats, *, rests: bool, relocated: bool
    ) -> None:
        """Choose the next centers, and note whether the means are the last."""
        same = self.before is not None and all(map(np.array_equal, stats, self.before))
        if same and self.run.centers is self.means:
            self.converged = "strict convergence"
        elif rests:
            self.converged = "tolerance"
        strides = None if same or relocated else self.strides
        stride = strides.next() if strides else 1.0
        self.run = self.run._replace(centers=_beyond(means, self.run.centers, stride, data))
        self.before, self.means = stats, means

    @property
    def result(self) -> LloydResult:
        return LloydResult(
            centers=self.means, n_iter=len(self.history), inertia_history=self.history
        )


def lloyd(
    shards: Shards,
    centers: Centers,
    data: DataStats,
    *,
    max_iter: int,
    tol: float,
    striding: bool = False,
) -> LloydResult:
    """Iterate from `centers` alone: see `lloyd_runs`."""
    return lloyd_runs(shards, [centers], data, max_iter=max_iter, tol=tol, striding=striding)[0]


def lloyd_runs(
    shards: Shards,
    starts: Sequence[Centers],
    data: DataStats,
    *,
    max_iter: int,
    tol: float,
    striding: bool = False,
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
    striding : bool
        Whether centers may go beyond the means of their rows; fewer iterations, which end
        at another of the places where Lloyd's may end.
    """
    session = shards.session
    frame, rounding = session.broadcast(data.frame), session.broadcast(data.rounding)
    enough = tol * data.mean_variance
    runs = [
        Iterating(
            Run(number, centers), Strides(data.n_rows, len(centers)) if striding else None, centers
        )
        for number, centers in enumerate(starts)
    ]
    going = runs
    for iteration in range(1, max_iter + 1):
        began = time.monotonic()
        sent = session.broadcast(tuple(each.run for each in going))
        found: list[ClusterStats] = shards.reduce(lloyd_stats, merge_runs, sent, frame, rounding)
        for each, stats in zip(going, found, strict=True):
            centers, inertia = each.run.centers, _inertia(stats, each.run.centers, data)
            each.history.append(data.metric.inertia(data.frame.in_data_units(inertia)))
            if each.strode_too_far(inertia, data.scatter):
                shift = sq_shift(each.means, centers, data)
                each.go_back()
            else:
                filled = _relocate(shards, stats, centers, frame, rounding)
                means = _moved(filled, centers, data)
                shift = sq_shift(means, centers, data)
                relocated = filled is not stats
                each.step(stats, means, data, rests=shift <= enough, relocated=relocated)
                each.least = inertia
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


def _beyond(means: Centers, centers: Centers, stride: float, data: DataStats) -> Centers:
    """Return the centers that are `stride` times as far from `centers` as the means are."""
    if stride == 1:
        return means
    start = centers.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        beyond = data.metric.moved(start + stride * (means - start), centers).astype(data.dtype)
    return beyond if np.isfinite(beyond).all() else means


def sq_shift(new_centers: Centers, centers: Centers, data: DataStats) -> float:
    """Sum the squared shifts of the centers, as seen through the frame."""
    moved = (new_centers.astype(np.float64) - centers) * data.frame.scale
    return float((moved * moved).sum())


def _inertia(stats: ClusterStats, centers: Centers, data: DataStats) -> float:
    """Return the inertia of `centers`, as seen through the frame, from the sums alone; rounded."""
    scale = data.frame.scale
    at = (centers.astype(np.float64) - data.rounding.offset) * scale
    weights = data.rounding.weights(stats.weights)
    sums = data.rounding.sums(stats.sums) * scale
    inertia = data.scatter - (2 * at * sums).sum() + (weights * (at * at).sum(axis=1)).sum()
    return max(float(inertia), 0.0)


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
