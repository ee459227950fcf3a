"""Rows regrouped into cells of space, and their exact core distances.

What workers do for `distclust.cluster.spanning_tree` before there are any edges. Cells
question each other by messages that go from worker to worker: the rows whose neighbours
may be elsewhere, then what each cell has that is near enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.data.blocks import Block, Partition
from distclust.engine.threads import map_tiles
from distclust.errors import DataError
from distclust.kernels.kdtree import UNBOUNDED, KDTree, build
from distclust.kernels.keyed import keyed_uniform
from distclust.kernels.metrics import METRICS
from distclust.kernels.neighbors import neighbors_within
from distclust.kernels.partitioning import Boxes, Cuts, box_gaps, cells_of, nearest_gap
from distclust.kernels.reachability import Indexed, list_neighbors

__all__ = [
    "Cell",
    "Look",
    "build_cell",
    "cell_box",
    "core_answers",
    "core_distances",
    "core_questions",
    "largest_value",
    "look_at",
    "merge_looks",
    "rows_of_cell",
    "unusable_rows",
    "vectors",
]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_SAMPLING = 1  # stage of keyed randomness


class Rows(NamedTuple):
    """Vectors and their row ids."""

    X: F64
    ids: I64


@dataclass(eq=False)
class Cell:
    """The rows of one cell, and what can be computed again from them.

    Attributes
    ----------
    index : int
        Which cell this is.
    rows : Rows
    """

    index: int
    rows: Rows
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def X(self) -> F64:
        return self.rows.X

    def tree(self, metric: int) -> KDTree:
        """Return the tree over the rows."""
        if "tree" not in self.cache:
            self.cache["tree"] = build(self.X, metric, map_tiles)
        tree: KDTree = self.cache["tree"]
        return tree

    def indexed(self, k: int, metric: int) -> Indexed:
        """Return the tree and the neighbour lists, of at least `k` or of all other rows."""
        tree = self.tree(metric)
        if "near" not in self.cache:
            self.cache["near"] = list_neighbors(tree, k, map_tiles)
        return Indexed(tree, self.cache["near"])

    def gaps(self, boxes: Boxes, metric: int) -> F64:
        """Return each row's distance to the nearest other cell."""
        if "gaps" not in self.cache:
            self.cache["gaps"] = nearest_gap(self.X, boxes, self.index, metric)
        gaps: F64 = self.cache["gaps"]
        return gaps

    def __sizeof__(self) -> int:
        return self.X.nbytes + self.rows.ids.nbytes  # what Dask's scheduler reads

    def __getstate__(self) -> dict[str, Any]:
        return {"index": self.index, "rows": self.rows, "cache": {}}


def unusable_rows(partition: Partition) -> I64:
    """Return the ids of the rows that have NaN or infinity, ascending."""
    found = [block.row_start + np.flatnonzero(~_finite(block)) for block in partition.blocks]
    return np.concatenate(found)


def _finite(block: Block) -> npt.NDArray[np.bool_]:
    """Say which rows are finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(block.X.sum()):  # far sooner seen than that each value is finite
            return np.ones(block.n_rows, np.bool_)
    finite: npt.NDArray[np.bool_] = np.isfinite(block.dense().X).all(axis=1)
    return finite


def vectors(partition: Partition, name: str) -> Rows:
    """Return the rows that are finite as vectors of our own."""
    finite = [_finite(block) for block in partition.blocks]
    ids = np.empty(sum(np.count_nonzero(mask) for mask in finite), np.int64)
    rows: npt.NDArray[Any] = np.empty((len(ids), partition.blocks[0].X.shape[1]))
    first = 0
    for block, mask in zip(partition.blocks, finite, strict=True):
        last = first + int(np.count_nonzero(mask))
        X = block.dense().X
        rows[first:last] = X if mask.all() else X[mask]
        ids[first:last] = block.row_start + np.flatnonzero(mask)
        first = last
    if name == "cosine":
        _refuse_zeros(rows, ids)
    return Rows(METRICS[name].vectors(rows), ids)


def _refuse_zeros(rows: F64, ids: I64) -> None:
    zeros = np.flatnonzero(~rows.any(axis=1))
    if len(zeros):
        raise DataError(
            f"row {ids[zeros[0]]} is all zeros, which has no direction: drop such rows "
            f"({len(zeros)} of them), or choose a metric other than 'cosine'"
        )


class Look(NamedTuple):
    """What is seen of the rows before they are regrouped."""

    largest: float  # absolute value
    sample: Rows


def look_at(partition: Partition, name: str, rate: float) -> Look:
    """Find the largest value, and sample rows by their ids."""
    rows = vectors(partition, name)
    chosen = np.concatenate(
        [
            keyed_uniform(0, _SAMPLING, block.row_start, block.n_rows)[_finite(block)] < rate
            for block in partition.blocks
        ]
    )
    return Look(largest_value(rows.X), Rows(rows.X[chosen], rows.ids[chosen]))


def largest_value(X: F64) -> float:
    """Return the largest absolute value, 0 if there is none."""
    return max(float(X.max(initial=0.0)), -float(X.min(initial=0.0)))


def merge_looks(a: Look, b: Look) -> Look:
    """Join two looks."""
    return Look(max(a.largest, b.largest), _join_rows([a.sample, b.sample]))


def _join_rows(parts: Any) -> Rows:
    """Put rows together, in the order of their ids."""
    X, ids = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if (ids[1:] > ids[:-1]).all():
        return Rows(X, ids)
    order = np.argsort(ids)
    return Rows(X[order], ids[order])


def rows_of_cell(partition: Partition, index: int, name: str, scale: float, cuts: Cuts) -> Rows:
    """Return the partition's rows that belong to a cell."""
    if "cells" not in partition.cache:
        rows = vectors(partition, name)
        rows.X[:] *= scale
        cells = cells_of(rows.X, cuts)
        order = np.argsort(cells, kind="stable")
        starts = np.searchsorted(cells[order], np.arange(cuts.n_cells + 1))
        partition.cache["cells"] = Rows(rows.X[order], rows.ids[order]), starts
    rows, starts = partition.cache["cells"]
    chosen = slice(starts[index], starts[index + 1])
    if index == cuts.n_cells - 1:
        del partition.cache["cells"]  # cells are asked for in order
    return Rows(rows.X[chosen], rows.ids[chosen])


def build_cell(index: int, *pieces: Rows) -> Cell:
    """Join what all partitions have of a cell."""
    return Cell(index, _join_rows(pieces))


def cell_box(cell: Cell) -> tuple[F64, F64]:
    """Return the ends of the rows' tight box."""
    return cell.X.min(axis=0), cell.X.max(axis=0)


class CoreQuestions(NamedTuple):
    """Rows whose neighbours may be in other cells."""

    cell: int
    X: F64
    radius: F64  # reduced; what is not nearer does not count
    rows: I64  # which rows of the cell


class CoreAnswer(NamedTuple):
    """What one cell has for rows of another."""

    rows: I64
    dist: F64  # (n_rows, k): reduced and ascending, UNBOUNDED where there are fewer


def core_questions(cell: Cell, k: int, metric: int, boxes: Boxes) -> CoreQuestions:
    """Ask for neighbours of the rows that other cells are near enough to."""
    radius = _radius_within(cell, k, metric)
    rows = np.flatnonzero(cell.gaps(boxes, metric) < radius)
    return CoreQuestions(cell.index, cell.X[rows], radius[rows], rows)


def core_answers(
    cell: Cell, k: int, metric: int, boxes: Boxes, *questions: CoreQuestions
) -> list[CoreAnswer]:
    """Answer every cell's questions, in the order they were asked."""
    mine = Boxes(boxes.low[[cell.index]], boxes.high[[cell.index]])
    near = [
        np.flatnonzero(box_gaps(asked.X, mine, metric)[:, 0] < asked.radius)
        if asked.cell != cell.index
        else np.empty(0, np.int64)
        for asked in questions
    ]
    counts = [len(rows) for rows in near]
    dist = np.full((sum(counts), k), UNBOUNDED)
    if len(dist):
        X = np.concatenate([asked.X[rows] for asked, rows in zip(questions, near, strict=True)])
        radius = np.concatenate(
            [asked.radius[rows] for asked, rows in zip(questions, near, strict=True)]
        )
        queries = build(X, metric, map_tiles)
        tree = cell.tree(metric)
        nearest = neighbors_within(queries, radius[queries.order], tree, k, map_tiles)
        dist[queries.order] = nearest.dist
    answers = []
    for asked, rows, found in zip(
        questions, near, np.split(dist, np.cumsum(counts)[:-1]), strict=True
    ):
        useful = found[:, 0] < UNBOUNDED
        answers.append(CoreAnswer(asked.rows[rows[useful]], found[useful]))
    return answers


def core_distances(
    cell: Cell, k: int, metric: int, boxes: Boxes, *answers: list[CoreAnswer]
) -> F64:
    """Return the reduced distance of each row to its k-th nearest other row of all cells."""
    core = _radius_within(cell, k, metric)
    mine = [answer[cell.index] for answer in answers]
    touched = np.unique(np.concatenate([answer.rows for answer in mine]))
    nearest = _lists_within(cell, k, metric, touched)
    for answer in mine:
        at = np.searchsorted(touched, answer.rows)
        both = np.concatenate([nearest[at], answer.dist], axis=1)
        nearest[at] = np.sort(both, axis=1)[:, :k]
    core[touched] = nearest[:, k - 1]
    return core


def _radius_within(cell: Cell, k: int, metric: int) -> F64:
    """Return each row's distance to its k-th nearest other row of the cell."""
    tree, near = cell.indexed(k, metric)
    radius = np.full(len(cell.X), UNBOUNDED)
    if near.dist.shape[1] >= k:
        radius[tree.order] = near.dist[:, k - 1]
    return radius


def _lists_within(cell: Cell, k: int, metric: int, rows: I64) -> F64:
    """Return some rows' k nearest distances within the cell."""
    tree, near = cell.indexed(k, metric)
    places = np.empty(len(cell.X), np.int64)
    places[tree.order] = np.arange(len(cell.X))
    lists = np.full((len(rows), k), UNBOUNDED)
    found = near.dist[places[rows], :k]
    lists[:, : found.shape[1]] = found
    return lists
