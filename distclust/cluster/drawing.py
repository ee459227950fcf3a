"""Drawing rows by keys: the same rows on any sharding, whoever is asked and whenever.

Every drawing is keyed by (seed, stage, global row id). Sampling in proportion to a speed
is a race: row i runs for ``-log(u_i) / speed_i`` and the first to arrive win, which is
sampling without replacement (P. S. Efraimidis and P. G. Spirakis, "Weighted random
sampling with a reservoir", 2006) and needs no total.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.data.arrays import ArraySource
from distclust.data.blocks import Partition
from distclust.engine.shards import Shards
from distclust.kernels.exact_sum import exact_sum, exact_value
from distclust.kernels.keyed import keyed_uniform

__all__ = [
    "Drawn",
    "concatenated",
    "distinct_rows",
    "first_row",
    "gather_drawn",
    "gather_rows",
    "merge_drawn",
    "race",
    "random_rows",
    "row_uniforms",
    "row_weights",
    "sums_by",
    "take_rows",
]

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
    return concatenated([a, b]).first(count)


def concatenated(parts: Sequence[Drawn]) -> Drawn:
    """Return the rows of all parts, in their order."""
    fields: Any = zip(*parts, strict=True)
    return Drawn(*map(np.concatenate, fields))


def gather_rows(shards: Shards) -> Drawn:
    """Bring all rows and their weights to this process, in row order."""
    return gather_drawn(shards, all_rows)


def gather_drawn(shards: Shards, draw: Callable[..., Drawn], *args: Any) -> Drawn:
    """Bring all rows that `draw` takes of each partition to this process, in row order."""
    drawn = concatenated(shards.gather(draw, *args))
    order = np.argsort(drawn.row_id)
    fields: Any = (field[order] for field in drawn)
    return Drawn(*fields)


def distinct_rows(rows: Rows, weights: F64) -> ArraySource:
    """Merge equal rows, adding their weights exactly, and sort them; drop those of weight zero.

    What is made of these depends neither on the order of the rows nor on whether a row
    is repeated or weighs more.
    """
    distinct, which = np.unique(rows + rows.dtype.type(0), axis=0, return_inverse=True)
    totals = np.bincount(which, weights).astype(np.float64)  # of one or two, rounded once: exact
    many = np.bincount(which) > 2
    if many.any():
        inside, numbers = many[which], np.cumsum(many) - 1
        sums = sums_by(numbers[which[inside]], weights[inside], int(many.sum()))
        totals[many] = [exact_value(total) for total in sums]
    if totals.any():
        distinct, totals = distinct[totals > 0], totals[totals > 0]
    return ArraySource(np.ascontiguousarray(distinct), totals)


def random_rows(shards: Shards, k: int, seed: int) -> Rows:
    """Choose k rows at random, in proportion to their weights."""
    drawn: Drawn = shards.reduce(draw_rows, partial(merge_drawn, k), seed, 0, k)
    if len(drawn.rows) < k:
        more: Drawn = shards.reduce(draw_unweighted, partial(merge_drawn, k), seed, k)
        return np.concatenate([drawn.rows, more.rows])[:k]
    return drawn.rows


def first_row(shards: Shards, seed: int) -> Drawn:
    """Draw one row in proportion to its weight."""
    drawn: Drawn = shards.reduce(draw_rows, partial(merge_drawn, 1), seed, 0, 1)
    return drawn


# What workers do ------------------------------------------------------------------------


def row_weights(partition: Partition) -> F64:
    """Return the weight of each row, (n,)."""
    parts = [np.ones(b.n_rows) if b.weights is None else b.weights for b in partition.blocks]
    return np.concatenate(parts)


def row_uniforms(partition: Partition, seed: int, stage: int) -> F64:
    """Return each row's number of a drawing, in the open interval (0, 1), (n,)."""
    parts = [keyed_uniform(seed, stage, b.row_start, b.n_rows) for b in partition.blocks]
    return np.concatenate(parts)


def take_rows(partition: Partition, positions: I64, arrival: F64) -> Drawn:
    """Copy the rows at the given positions out of the partition."""
    rows, ids, weights = [], [], []
    for block, where in partition.shares(1)[0]:
        inside = positions[(positions >= where.start) & (positions < where.stop)] - where.start
        rows.append(block.X[inside])
        ids.append(block.row_start + inside)
        weights.append(np.ones(len(inside)) if block.weights is None else block.weights[inside])
    return Drawn(arrival, np.concatenate(ids), np.concatenate(rows), np.concatenate(weights))


def race(partition: Partition, speed: F64, seed: int, stage: int, count: int) -> Drawn:
    """Return the `count` rows that arrive first; those of speed zero stay where they are."""
    runners = np.flatnonzero(speed > 0)
    arrival = -np.log(row_uniforms(partition, seed, stage)[runners]) / speed[runners]
    if len(runners) > count:
        last = np.partition(arrival, count - 1)[count - 1]
        early = arrival <= last
        runners, arrival = runners[early], arrival[early]
    return take_rows(partition, runners, arrival).first(count)


def all_rows(partition: Partition) -> Drawn:
    """Return every row, in order of row id."""
    positions = np.arange(partition.n_rows)
    return take_rows(partition, positions, np.zeros(partition.n_rows))


def draw_rows(partition: Partition, seed: int, stage: int, count: int) -> Drawn:
    """Draw rows in proportion to their weights."""
    return race(partition, row_weights(partition), seed, stage, count)


def draw_unweighted(partition: Partition, seed: int, count: int) -> Drawn:
    """Draw among the rows of weight zero, when the others are too few."""
    return race(partition, (row_weights(partition) == 0).astype(np.float64), seed, 0, count)


def sums_by(labels: npt.NDArray[Any], weights: F64, k: int) -> list[int]:
    """Sum the weights of each label, exactly."""
    order = np.argsort(labels, kind="stable")
    groups = np.split(weights[order], np.searchsorted(labels[order], range(1, k)))
    return [exact_sum(np.ascontiguousarray(group)) for group in groups]
