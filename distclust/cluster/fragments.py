"""Cells' own trees, and the edges between cells.

What workers do for `distclust.cluster.spanning_tree` once core distances are known. A
cell keeps the edges of its own tree that must be in the whole tree; they join its rows
to *fragments*, few and near other cells. Fragments of all cells form *components*; in
each round a cell asks the others about rows that may have their component's first edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.cluster.cells import Cell
from distclust.engine.threads import map_tiles
from distclust.kernels.edges import total_order
from distclust.kernels.forest import certify
from distclust.kernels.kdtree import UNBOUNDED, build
from distclust.kernels.outgoing import edges_between, start_search
from distclust.kernels.partitioning import Boxes, box_gaps
from distclust.kernels.reachability import least_edges

__all__ = [
    "Cells",
    "EdgeTable",
    "Forest",
    "Kept",
    "Round",
    "edge_answers",
    "edge_questions",
    "fragment_labels",
    "grow_forest",
    "join_tables",
    "kept_edges",
]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


class Cells(NamedTuple):
    """What every cell knows of all."""

    boxes: Boxes
    first_fragment: I64  # (cells + 1,): fragments are numbered through all cells
    metric: int


class EdgeTable(NamedTuple):
    """Edges by the row ids of their ends, and the fragments these are in."""

    u: I64
    v: I64
    weights: F64  # reduced
    fragment_u: I64
    fragment_v: I64

    def take(self, which: npt.NDArray[np.bool_] | I64) -> EdgeTable:
        """Return some of the edges."""
        u, v, weights, fragment_u, fragment_v = self
        return EdgeTable(u[which], v[which], weights[which], fragment_u[which], fragment_v[which])


def join_tables(tables: list[EdgeTable]) -> EdgeTable:
    """Put edges together."""
    u, v, weights, fragment_u, fragment_v = map(np.concatenate, zip(*tables, strict=True))
    return EdgeTable(u, v, weights, fragment_u, fragment_v)


class Forest(NamedTuple):
    """A cell's own tree, and which of its edges belong to the whole tree."""

    edges: EdgeTable
    certified: npt.NDArray[np.bool_]
    fragment: I32  # of each row, numbered from 0
    n_fragments: int


def grow_forest(cell: Cell, k: int, metric: int, boxes: Boxes, core: F64) -> Forest:
    """Find the cell's own tree and certify what is possible without other cells."""
    X, ids = cell.rows
    if len(X) == 1:
        nothing = np.empty(0, np.int64)
        empty = EdgeTable(nothing, nothing, np.empty(0), nothing, nothing)
        return Forest(empty, np.empty(0, np.bool_), np.zeros(1, np.int32), 1)
    a, b, weights = least_edges(X, ids, core, cell.indexed(k, metric), map_tiles)
    del cell.cache["near"]  # the greater part of a cell; from now on the tree is enough
    order = total_order(ids[a], ids[b], weights, map_tiles)
    a, b, weights = a[order], b[order], weights[order]
    outward = np.maximum(core, cell.gaps(boxes, metric))
    certified, fragment, count = certify(a, b, weights, outward)
    ends = fragment[a].astype(np.int64), fragment[b].astype(np.int64)
    return Forest(EdgeTable(ids[a], ids[b], weights, *ends), certified, fragment, count)


class Kept(NamedTuple):
    """What the driver has to know of a forest."""

    n_fragments: int
    certified: tuple[I64, I64, F64]  # edges, within fragments: row ids of their ends, weights
    between: EdgeTable  # the others


def kept_edges(cell: Cell, forest: Forest) -> Kept:
    """Return the edges, as they are needed from now on."""
    (u, v, weights, _, _), sure = forest.edges, forest.certified
    return Kept(forest.n_fragments, (u[sure], v[sure], weights[sure]), forest.edges.take(~sure))


def fragment_labels(cell: Cell, forest: Forest) -> I32:
    """Return each row's fragment."""
    return forest.fragment


class Round(NamedTuple):
    """Where the search for the tree is."""

    component: I32  # (fragments,): of each fragment
    bound: F64  # (components,): weight of the best known edge out of each, or UNBOUNDED
    whole: I32  # (cells,): the component that a cell is wholly in, or -1
    least_core: F64  # (cells,)
    probing: bool  # whether any edge will do, for components that none is known of


class EdgeQuestions(NamedTuple):
    """Rows that may have their component's first edge."""

    cell: int
    X: F64
    core: F64
    ids: I64
    fragment: I64  # numbered through all cells
    target: I64  # the only cell that should answer, or -1


def edge_questions(cell: Cell, cells: Cells, state: Round, core: F64, labels: I32) -> EdgeQuestions:
    """Ask for edges to other cells, where there may be one no heavier than the best known."""
    fragment = cells.first_fragment[cell.index] + labels
    component = state.component[fragment]
    bound = state.bound[component]
    reach = np.maximum(core, cell.gaps(cells.boxes, cells.metric))
    rows = np.flatnonzero(bound == UNBOUNDED if state.probing else reach <= bound)
    gaps = _gaps_to_strangers(cell, cells, state, rows, component[rows])
    target = np.full(len(rows), -1)
    reach = np.maximum(gaps.min(axis=1), core[rows])
    if state.probing:
        order = np.lexsort((cell.rows.ids[rows], reach, component[rows]))
        _, first = np.unique(component[rows[order]], return_index=True)
        chosen = order[first]
        target = gaps.argmin(axis=1)
    else:
        chosen = np.flatnonzero(reach <= bound[rows])
    rows, target = rows[chosen], target[chosen]
    return EdgeQuestions(
        cell.index, cell.X[rows], core[rows], cell.rows.ids[rows], fragment[rows], target
    )


def _gaps_to_strangers(cell: Cell, cells: Cells, state: Round, rows: I64, component: I32) -> F64:
    """Return the distances of rows to other cells, infinite to those wholly of their component."""
    gaps = np.maximum(box_gaps(cell.X[rows], cells.boxes, cells.metric), state.least_core)
    gaps[:, cell.index] = np.inf
    gaps[component[:, np.newaxis] == state.whole] = np.inf
    return gaps


def edge_answers(
    cell: Cell,
    cells: Cells,
    state: Round,
    core: F64,
    labels: I32,
    *questions: EdgeQuestions,
) -> EdgeTable:
    """Return the first edge from each component that asks to other ones in this cell."""
    mine = cell.index
    box = Boxes(cells.boxes.low[[mine]], cells.boxes.high[[mine]])
    asked = [_relevant(asked, mine, box, cells, state) for asked in questions]
    X, their_core, ids, fragment = map(np.concatenate, zip(*asked, strict=True))
    nothing = np.empty(0, np.int64)
    if len(X) == 0:
        return EdgeTable(nothing, nothing, np.empty(0), nothing, nothing)
    component = state.component[fragment]
    queries = build(X, cells.metric, map_tiles)
    tree = cell.tree(cells.metric)
    own_fragment = cells.first_fragment[mine] + labels
    order, places = queries.order, tree.order
    asking = start_search(queries, their_core[order], ids[order], component[order], map_tiles)
    asked_of = start_search(
        tree, core[places], cell.rows.ids[places], state.component[own_fragment[places]], map_tiles
    )
    found = edges_between(queries, asking, tree, asked_of, state.bound.copy(), map_tiles)
    a, b = order[found.a], places[found.b]
    u, v = ids[a], cell.rows.ids[b]
    first = total_order(u, v, found.weights, map_tiles)
    _, at = np.unique(component[a[first]], return_index=True)
    best = first[at]
    edges = EdgeTable(u, v, found.weights, fragment[a], own_fragment[b])
    return edges.take(best)


def _relevant(
    asked: EdgeQuestions, mine: int, box: Boxes, cells: Cells, state: Round
) -> tuple[F64, F64, I64, I64]:
    """Return what of a cell's questions this cell may have an answer to."""
    component = state.component[asked.fragment]
    gap = np.maximum(box_gaps(asked.X, box, cells.metric)[:, 0], asked.core)
    gap = np.maximum(gap, state.least_core[mine])
    rows = np.flatnonzero(
        (asked.cell != mine)
        & ((asked.target == mine) | (asked.target < 0))
        & (component != state.whole[mine])
        & (gap <= state.bound[component])
    )
    return asked.X[rows], asked.core[rows], asked.ids[rows], asked.fragment[rows]
