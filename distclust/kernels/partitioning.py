"""Cells of space: where to cut, which rows go where, and how far cells are.

A cut compares rows lexicographically, beginning with the feature it cuts: features that
tie, as in grids, do not keep a cell from being split, and copies of a row always meet in
one cell, whose core distance then needs no other.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.kdtree import EUCLIDEAN, MANHATTAN

__all__ = ["Boxes", "Cuts", "box_gaps", "cells_of", "cut", "nearest_gap"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


class Cuts(NamedTuple):
    """A binary tree of cuts; node 0 is the root. Child ``c < 0`` is cell ``~c``."""

    axis: I64  # (cuts,): the feature compared first
    pivot: F64  # (cuts, d): rows before it go left
    left: I64  # (cuts,)
    right: I64  # (cuts,)

    @property
    def n_cells(self) -> int:
        return len(self.axis) + 1


class Boxes(NamedTuple):
    """The cells as others see them."""

    low: F64  # (cells, d)
    high: F64  # (cells, d)


def cut(sample: F64, n_cells: int) -> Cuts:
    """Cut space into at most `n_cells` cells with equal shares of a sample.

    Examples
    --------
    >>> cuts = cut(np.array([[1.0], [2.0], [3.0], [4.0]]), 2)
    >>> cells_of(np.array([[0.0], [2.9], [3.0]]), cuts)
    array([0, 0, 1], dtype=int32)
    """
    d = sample.shape[1]
    nodes: list[list[int]] = []
    pivots: list[F64] = []
    made = 0
    todo = [(np.arange(len(sample)), n_cells, -1, 0)]
    while todo:
        rows, wanted, parent, side = todo.pop()
        found = _halve(sample, rows, wanted) if wanted > 1 else None
        if found is None:
            me, made = ~made, made + 1
        else:
            me, (axis, before, after) = len(nodes), found
            nodes.append([axis, 0, 0])
            pivots.append(sample[after[0]])
            todo += [(after, wanted - wanted // 2, me, 2), (before, wanted // 2, me, 1)]
        if parent >= 0:
            nodes[parent][side] = me
    table = np.array(nodes, dtype=np.int64).reshape(-1, 3)
    return Cuts(table[:, 0], np.array(pivots).reshape(-1, d), table[:, 1], table[:, 2])


def _halve(sample: F64, rows: I64, wanted: int) -> tuple[int, I64, I64] | None:
    """Order rows along their widest feature and split them, if they are not all equal."""
    if len(rows) < 2:
        return None
    points = sample[rows]
    d = points.shape[1]
    axis = int(np.argmax(points.max(axis=0) / 2 - points.min(axis=0) / 2))
    order = np.lexsort([points[:, (axis + j) % d] for j in range(d - 1, -1, -1)])
    points = points[order]
    starts = np.flatnonzero((points[1:] != points[:-1]).any(axis=1)) + 1
    if len(starts) == 0:
        return None
    middle = len(rows) * (wanted // 2) // wanted
    at = starts[np.argmin(abs(starts - middle))]
    return axis, rows[order[:at]], rows[order[at:]]


def cells_of(X: F64, cuts: Cuts) -> I32:
    """Return the cell of each row of X of shape (n, d)."""
    cells = np.zeros(len(X), np.int32)
    if len(cuts.axis):
        _cells_of(X, cuts, cells)
    return cells


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _cells_of(X, cuts, cells):  # type: ignore[no-untyped-def]
    d = X.shape[1]
    for i in range(X.shape[0]):
        node = 0
        while node >= 0:
            j = cuts.axis[node]
            for _ in range(d - 1):
                if X[i, j] != cuts.pivot[node, j]:
                    break
                j = j + 1 if j + 1 < d else 0
            node = cuts.left[node] if X[i, j] < cuts.pivot[node, j] else cuts.right[node]
        cells[i] = ~node


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _gap(x, low, high, cell, metric):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(low.shape[1]):
        t = max(low[cell, j] - x[j], x[j] - high[cell, j], 0.0)
        if metric == EUCLIDEAN:
            total += t * t
        elif metric == MANHATTAN:
            total += t
        else:
            total = max(total, t)
    return total


def nearest_gap(X: F64, boxes: Boxes, own: int, metric: int) -> F64:
    """Return the reduced distance of each row to the nearest box, not counting one's own."""
    gaps = np.empty(len(X))
    _nearest_gap(X, boxes.low, boxes.high, own, metric, gaps)
    return gaps


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _nearest_gap(X, low, high, own, metric, gaps):  # type: ignore[no-untyped-def]
    for i in range(X.shape[0]):
        least = np.inf
        for cell in range(low.shape[0]):
            if cell != own:
                least = min(least, _gap(X[i], low, high, cell, metric))
        gaps[i] = least


def box_gaps(X: F64, boxes: Boxes, metric: int) -> F64:
    """Return the reduced distance of each row to each box: shape (n, cells)."""
    gaps = np.empty((len(X), len(boxes.low)))
    _box_gaps(X, boxes.low, boxes.high, metric, gaps)
    return gaps


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _box_gaps(X, low, high, metric, gaps):  # type: ignore[no-untyped-def]
    for i in range(X.shape[0]):
        for cell in range(low.shape[0]):
            gaps[i, cell] = _gap(X[i], low, high, cell, metric)
