"""Samples of an exact size, the same rows on any sharding.

A row runs for ``u / speed``, with a number u in (0, 1) keyed by (seed, stage, global row
id), and the first `size` to arrive are the sample. Where speeds differ, the arrival of
the next one turns each row's speed into its chance, and rows weigh the inverse of that:
weighted sums over the sample then estimate those over all rows without bias ("priority
sampling", N. Duffield, C. Lund and M. Thorup, 2007). Speeds of ``"coreset"`` are those of
O. Bachem, M. Lucic and A. Krause, "Scalable k-means clustering via lightweight coresets",
2018: half by weight, half by weighted squared distance to the mean.

Sampling by strata is `distclust.cluster.strata`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from distclust.cluster.drawing import Drawn, concatenated, gather_drawn
from distclust.cluster.statistics import describe
from distclust.data.blocks import Block, Partition, Source
from distclust.engine.shards import Shards
from distclust.engine.threads import map_tiles, n_threads
from distclust.errors import DataError
from distclust.kernels.assign import sq_distances
from distclust.kernels.keyed import keyed_below, keyed_uniform
from distclust.kernels.scaling import Frame

__all__ = [
    "SAMPLE_STAGE",
    "Sample",
    "coreset_sample",
    "likely_limit",
    "n_weighing",
    "uniform_sample",
    "weights_of",
]

SAMPLE_STAGE = 2 << 32  # of the keys, and those after it; no other drawing gets there
_GROWTH = 4  # of a limit below which too few rows arrived, the first time; then ever more

Rows = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Some of the rows, in row order.

    Attributes
    ----------
    rows : ndarray of shape (m, d)
    row_id : ndarray of shape (m,), int64
        Their global ids.
    weights : ndarray of shape (m,), float64, or None
        What each weighs, on the scale on which a row that was as likely to be drawn as the
        average one keeps its own weight. None where all weigh one.
    n_rows : int
        How many rows they were drawn from: those that weigh something.
    """

    rows: Rows
    row_id: I64
    weights: F64 | None
    n_rows: int

    @classmethod
    def of(cls, drawn: Drawn, n_rows: int, *, weighted: bool) -> Sample:
        """Put rows that were drawn in order."""
        order = np.argsort(drawn.row_id)
        weights = drawn.weights[order] if weighted else None
        return cls(
            rows=drawn.rows[order], row_id=drawn.row_id[order], weights=weights, n_rows=n_rows
        )


class Early(NamedTuple):
    """Rows of a block that arrive before some limit."""

    positions: I64  # (m,)
    arrival: F64  # (m,)


class Design(Protocol):
    """How fast rows run."""

    def early(self, block: Block, seed: int, stage: int, limit: float) -> Early:
        """Find the rows that arrive before `limit`; those of weight zero never do."""


class Uniform(NamedTuple):
    """Every row that weighs something is as likely as any other."""

    def early(self, block: Block, seed: int, stage: int, limit: float) -> Early:
        found = Early(*keyed_below(seed, stage, block.row_start, block.n_rows, limit))
        if block.weights is None:
            return found
        weighing = block.weights[found.positions] > 0
        return Early(found.positions[weighing], found.arrival[weighing])


class Coreset(NamedTuple):
    """Half for the weight, half for the squared distance to the frame's offset."""

    frame: Frame
    per_weight: float
    per_cost: float

    def early(self, block: Block, seed: int, stage: int, limit: float) -> Early:
        speeds = self.speeds(block.X, weights_of(block))
        with np.errstate(divide="ignore", over="ignore"):
            arrival = keyed_uniform(seed, stage, block.row_start, block.n_rows) / speeds
        positions = np.flatnonzero(arrival < limit)
        return Early(positions, arrival[positions])

    def speeds(self, X: Rows, weights: F64) -> F64:
        """Return the speed of each row, (n,); zero where the weight is."""
        offset = self.frame.offset[np.newaxis]
        sq_dist = sq_distances(X, offset, self.frame.scale)[:, 0]
        return weights * (self.per_weight + self.per_cost * sq_dist)


def uniform_sample(shards: Shards, source: Source, size: int, seed: int, stage: int) -> Sample:
    """Draw `size` rows, each as likely as any other; rows keep their weights.

    Parameters
    ----------
    shards : Shards
    source : Source
        What they hold.
    size : int
        All rows that weigh something are taken where there are no more.
    seed, stage : int
        Key of the drawing.
    """
    n_rows = n_weighing(shards, source)
    if n_rows <= size:
        drawn = gather_drawn(shards, early_rows, Uniform(), seed, stage, inf)
    else:
        drawn, _ = _first_to_arrive(shards, Uniform(), size, n_rows, seed, stage)
    return Sample.of(drawn, n_rows, weighted=source.weighted)


def coreset_sample(shards: Shards, source: Source, size: int, seed: int, stage: int) -> Sample:
    """Draw a lightweight coreset of `size` weighted rows; parameters are the same."""
    data = describe(shards, source.dtype, weighted=source.weighted)
    n_rows = n_weighing(shards, source)
    if n_rows <= size:
        return uniform_sample(shards, source, size, seed, stage)
    half = n_rows / 2  # speeds then add up to the number of rows
    scattered = data.scatter > 0
    design = Coreset(
        data.frame,
        (half if scattered else n_rows) / data.total_weight,
        half / data.scatter if scattered else 0.0,
    )
    drawn, next_arrival = _first_to_arrive(shards, design, size, n_rows, seed, stage)
    chances = np.minimum(design.speeds(drawn.rows, drawn.weights) * next_arrival, 1.0)
    weights = drawn.weights * (size / n_rows) / chances
    return Sample.of(drawn._replace(weights=weights), n_rows, weighted=True)


def n_weighing(shards: Shards, source: Source) -> int:
    """Count the rows of positive weight."""
    if not source.weighted:
        return source.n_rows
    count: int = shards.reduce(count_weighing, int.__add__)
    if count == 0:
        raise DataError("every sample weight is 0; at least one row must weigh something")
    return count


def likely_limit(wanted: int, n_rows: int) -> float:
    """Return what so many of the uniform numbers of so many rows are all but surely below."""
    return min(1.0, (wanted + 6 * sqrt(wanted) + 20) / n_rows)


def _first_to_arrive(
    shards: Shards, design: Design, size: int, n_rows: int, seed: int, stage: int
) -> tuple[Drawn, float]:
    """Return the first `size` of more rows, and the arrival of the next.

    Only rows that arrive before a limit leave their worker; it grows until they are enough.
    """
    sent = shards.session.broadcast(design)
    limit, growth = likely_limit(size + 1, n_rows), float(_GROWTH)
    while True:
        drawn = gather_drawn(shards, early_rows, sent, seed, stage, limit)
        if len(drawn.row_id) > size:
            first = drawn.first(size + 1)
            kept: Any = (field[:size] for field in first)
            return Drawn(*kept), float(first.arrival[size])
        if limit == inf:  # weights so small that others leave nothing of their speed
            return drawn, inf
        limit, growth = limit * growth, growth * growth


# What workers do ------------------------------------------------------------------------


def weights_of(block: Block) -> F64:
    """Return the weight of each row, (n,)."""
    return np.ones(block.n_rows) if block.weights is None else block.weights


def count_weighing(partition: Partition) -> int:
    """Count the rows of positive weight."""
    return sum(int(np.count_nonzero(weights_of(block) > 0)) for block in partition.blocks)


def early_rows(partition: Partition, design: Design, seed: int, stage: int, limit: float) -> Drawn:
    """Copy the rows that arrive before `limit` out of the partition."""

    def of_block(block: Block) -> Drawn:
        positions, arrival = design.early(block, seed, stage, limit)
        weights = np.ones(len(positions)) if block.weights is None else block.weights[positions]
        return Drawn(arrival, block.row_start + positions, block.X[positions], weights)

    shares = partition.shares(n_threads())
    parts = map_tiles(lambda share: [of_block(block) for block, _ in share], shares)
    return concatenated([drawn for drawns in parts for drawn in drawns])
