"""Mini-batch iterations: the batches, the update of the centers, and when to stop.

The driver holds the centers and the weight each has gathered. It draws batches, and
workers return integer sums (`distclust.cluster.minibatch_steps`): what is computed here
from them is the same on any backend and partitioning. The rules for reassigning centers
and for stopping early are scikit-learn's.

Source: D. Sculley, "Web-scale k-means clustering", 2010.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from operator import add
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from distclust.cluster.lloyd import sq_shift
from distclust.cluster.minibatch_steps import (
    BatchStats,
    Line,
    batch_stats,
    block_lengths,
    merge_batch_stats,
    rows_at,
)
from distclust.cluster.statistics import DataStats, describe, partition_extremes
from distclust.data.blocks import Source
from distclust.engine.events import IterationDone
from distclust.engine.shards import Shards
from distclust.kernels.exact_sum import exact_value
from distclust.kernels.scaling import Extremes, FixedPoint, merge_extremes

__all__ = ["Iterated", "MiniBatchState", "Pool", "iterate", "take_step"]

Rows = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]


class Pool:
    """Rows on the workers, of which batches are drawn.

    Parameters
    ----------
    shards : Shards
    source : Source
        What the shards hold.
    batch_size : int or None
        Rows drawn for a batch, in proportion to their weights, with replacement; None
        means that every batch is all rows with their weights.
    """

    def __init__(self, shards: Shards, source: Source, batch_size: int | None) -> None:
        self.shards = shards
        self.data: DataStats = describe(shards, source.dtype, weighted=source.weighted)
        self._weighted = source.weighted
        self._drawn = batch_size
        self.batch_size = batch_size or source.n_rows
        send = shards.session.broadcast
        self._sent = send(self.data.frame), send(self.rounding)

    @cached_property
    def rounding(self) -> FixedPoint:
        """How sums over a batch are rounded. Drawn rows weigh one, whatever their weights."""
        if self._drawn is None or not self._weighted:
            return self.data.rounding
        found: Extremes = self.shards.reduce(partition_extremes, merge_extremes)
        offset = self.data.rounding.offset
        return FixedPoint.around(offset, found._replace(max_weight=1.0), weighted=False)

    @cached_property
    def line(self) -> Line:
        """What ticks are drawn from."""
        if not self._weighted:
            return Line(self.data.n_rows, None, {})
        exponent = self.data.rounding.weight_exponent
        lengths = sorted(self.shards.reduce(block_lengths, add, exponent))
        ends = list(accumulate(length for _, length in lengths))
        starts = dict(zip((row_start for row_start, _ in lengths), [0, *ends], strict=False))
        return Line(ends[-1], exponent, starts)

    @cached_property
    def _sent_line(self) -> Any:
        return self.shards.session.broadcast(self.line)

    def draw_rows(self, rng: np.random.RandomState, count: int) -> Rows:
        """Draw rows in proportion to their weights, with replacement, in row order."""
        ticks = self.shards.session.broadcast(self._ticks(rng, count))
        pieces = self.shards.reduce(rows_at, add, self._sent_line, ticks)
        return np.concatenate([rows for _, rows in sorted(pieces, key=lambda piece: piece[0])])

    def batch(self, rng: np.random.RandomState, centers: Rows) -> BatchStats:
        """Draw a batch, and label and sum its rows."""
        send = self.shards.session.broadcast
        ticks = None if self._drawn is None else send(self._ticks(rng, self._drawn))
        line = None if self._drawn is None else self._sent_line
        found: BatchStats = self.shards.reduce(
            batch_stats, merge_batch_stats, send(centers), *self._sent, line, ticks
        )
        return found

    def _ticks(self, rng: np.random.RandomState, count: int) -> npt.NDArray[np.int64]:
        length = self.line.length
        ticks = (rng.random_sample(count) * length).astype(np.int64)
        return np.sort(np.minimum(ticks, length - 1))


@dataclass(kw_only=True, eq=False)
class MiniBatchState:
    """What a step starts from and updates.

    Attributes
    ----------
    centers : ndarray of shape (k, d)
    weight_sums : ndarray of shape (k,), float64
        Weight of the rows each center is the mean of.
    since_reassignment : int
        Rows looked at since centers were last considered for reassignment.
    """

    centers: Rows
    weight_sums: F64
    since_reassignment: int = 0

    @classmethod
    def start(cls, centers: Rows) -> Self:
        """Before the first step."""
        return cls(centers=centers, weight_sums=np.zeros(len(centers)))

    def reassignment_is_due(self, n_rows: int) -> bool:
        """Count `n_rows` more; true each ``10 * k`` rows, and while a center has none."""
        self.since_reassignment += n_rows
        enough = self.since_reassignment >= 10 * len(self.centers)
        if enough or (self.weight_sums == 0).any():
            self.since_reassignment = 0
            return True
        return False


def take_step(
    pool: Pool,
    state: MiniBatchState,
    rng: np.random.RandomState,
    *,
    reassignment_ratio: float,
    say: Callable[[str], None],
) -> float:
    """Move the centers towards the rows of one batch; return its inertia a unit of weight."""
    due = state.reassignment_is_due(pool.batch_size)
    stats = pool.batch(rng, state.centers.astype(pool.data.dtype, copy=False))
    weights = pool.rounding.weights(stats.clusters.weights)
    _move(state, pool.rounding.sums(stats.clusters.sums), weights, pool.rounding.offset)
    if due and reassignment_ratio > 0:
        low = _low(state.weight_sums, reassignment_ratio, at_most=pool.batch_size // 2)
        if low.any():
            say(f"[MiniBatchKMeans] Reassigning {low.sum()} cluster centers.")
            state.centers[low] = pool.draw_rows(rng, int(low.sum()))
            state.weight_sums[low] = state.weight_sums[~low].min()  # not due at once again
    return pool.data.frame.in_data_units(exact_value(stats.inertia) / float(weights.sum()))


def _move(state: MiniBatchState, sums: F64, weights: F64, offset: F64) -> None:
    """Make each center the mean of the rows before and now: Sculley's rate, 1 / weight sum.

    `sums`, of shape (k, d), are relative to `offset`.
    """
    hit = weights > 0
    before = state.weight_sums[hit, np.newaxis]
    centers = state.centers[hit].astype(np.float64) - offset
    state.weight_sums += weights
    means = (centers * before + sums[hit]) / state.weight_sums[hit, np.newaxis]
    state.centers = state.centers.copy()
    state.centers[hit] = (offset + means).astype(state.centers.dtype)


def _low(weight_sums: F64, ratio: float, *, at_most: int) -> npt.NDArray[np.bool_]:
    """Return which centers have gathered less than `ratio` of what the heaviest has."""
    low: npt.NDArray[np.bool_] = weight_sums < min(ratio, 1.0) * weight_sums.max()
    if low.sum() > at_most:
        low[np.argsort(weight_sums, kind="stable")[at_most:]] = False
    return low


class Iterated(NamedTuple):
    """What came of the iterations, beside the updated state."""

    n_steps: int
    mean_inertia: float  # a unit of weight, smoothed over the last batches


def iterate(
    pool: Pool,
    state: MiniBatchState,
    rng: np.random.RandomState,
    *,
    max_iter: int,
    tol: float,
    patience: int | None,
    reassignment_ratio: float,
    say: Callable[[str], None],
) -> Iterated:
    """Take steps until there is a reason to stop, at most `max_iter` passes' worth of rows."""
    batch_size, data = pool.batch_size, pool.data
    stopping = EarlyStopping(
        n_steps=max_iter * data.n_rows // batch_size,
        smoothing=min(2 * batch_size / (data.n_rows + 1), 1.0),
        enough=tol * data.mean_variance,
        patience=patience,
        say=say,
    )
    for step in range(1, stopping.n_steps + 1):
        began, before = time.monotonic(), state.centers
        inertia = take_step(pool, state, rng, reassignment_ratio=reassignment_ratio, say=say)
        shift = sq_shift(state.centers, before, data)
        converged = stopping.converged(step, inertia, shift)
        pool.shards.session.emit(
            IterationDone(
                iteration=step,
                max_iter=stopping.n_steps,
                inertia=inertia * data.total_weight,
                center_shift=data.frame.in_data_units(shift),
                n_rows=batch_size,
                seconds=time.monotonic() - began,
                converged=converged,
            )
        )
        if converged:
            break
    return Iterated(step, inertia if stopping.average is None else stopping.average)


@dataclass(kw_only=True, eq=False)
class EarlyStopping:
    """Watches the inertia of the batches, smoothed, and the centers' shifts.

    Attributes
    ----------
    n_steps : int
        Steps that will be taken at most.
    smoothing : float
        Weight of the newest batch in the average, at most 1.
    enough : float
        Stop when the centers' squared shifts sum to no more; 0 means never.
    patience : int or None
        Stop after so many batches without improvement; None means never.
    say : callable
        Receives a line for each step.
    average : float or None
        Exponentially weighted average of the batches' inertia a unit of weight.
    """

    n_steps: int
    smoothing: float
    enough: float
    patience: int | None
    say: Callable[[str], None]
    average: float | None = None
    _best: float = field(default=np.inf, init=False)
    _waited: int = field(default=0, init=False)

    def converged(self, step: int, inertia: float, shift: float) -> str:
        """Take note of step number `step`, from 1; say why to stop, or nothing."""
        line = f"Minibatch step {step}/{self.n_steps}: mean batch inertia: {inertia}"
        if step == 1:  # tells of the initial centers only
            self.say(line)
            return ""
        if self.average is None:
            self.average = inertia
        else:
            self.average += (inertia - self.average) * self.smoothing
        self.say(f"{line}, ewa inertia: {self.average}")
        reason = self._reason(shift)
        if reason:
            self.say(f"Converged ({reason}) at step {step}/{self.n_steps}")
        return reason

    def _reason(self, shift: float) -> str:
        assert self.average is not None
        if self.enough > 0 and shift <= self.enough:
            return "small centers change"
        if self.average < self._best:
            self._best, self._waited = self.average, 0
        else:
            self._waited += 1
        out_of_patience = self.patience is not None and self._waited >= self.patience
        return "lack of improvement in inertia" if out_of_patience else ""
