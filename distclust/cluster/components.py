"""Connecting the fragments of all cells: Boruvka's rounds between partitions.

This process knows the fragments, which are few, and every edge between them that was
found so far: those of the cells' own trees, and the answers of cells to each other. A
round bounds each component's first edge by the best known one, has cells ask each other
about the rows that may do better, and joins each component along its first edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.cluster.fragments import (
    Cells,
    EdgeTable,
    Round,
    edge_answers,
    edge_questions,
    join_tables,
)
from distclust.engine.shards import Each, Shards
from distclust.engine.threads import map_tiles
from distclust.kernels.edges import total_order
from distclust.kernels.forest import join, merge_components
from distclust.kernels.kdtree import UNBOUNDED

__all__ = ["connect"]

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

APPROXIMATE_ROUNDS = 2


class Connected(NamedTuple):
    """The edges that join all fragments."""

    edges: EdgeTable
    certified: int  # how many of them are known to be in the tree


def connect(
    shards: Shards,
    cells: Cells,
    core: Each,
    labels: Each,
    known: EdgeTable,
    least_core: F64,
    *,
    exact: bool,
) -> Connected:
    """Find the edges of the tree between fragments.

    Parameters
    ----------
    shards : Shards
        The cells.
    cells : Cells
    core, labels : Each
        Each cell's reduced core distances and fragments of its rows.
    known : EdgeTable
        The edges between fragments of the same cell that may be in the tree.
    least_core : ndarray of shape (cells,)
    exact : bool
        Else only the first `APPROXIMATE_ROUNDS` search for first edges.
    """
    session = shards.session
    shared = session.broadcast(cells)

    def ask(state: Round) -> EdgeTable:
        sent = session.broadcast(state)
        questions = shards.remote(edge_questions, shared, sent, core, labels)
        return join_tables(shards.gather(edge_answers, shared, sent, core, labels, *questions))

    component = np.arange(cells.first_fragment[-1], dtype=np.int32)
    count, rounds, certified = len(component), 0, 0
    chosen: list[EdgeTable] = []
    known = _ordered(known)
    while count > 1:
        state = _round(component, count, known, cells, least_core, probing=True)
        if (state.bound == UNBOUNDED).any():
            known = _ordered(join_tables([known, ask(state)]))
            state = _round(component, count, known, cells, least_core, probing=False)
        searching = exact or rounds < APPROXIMATE_ROUNDS
        if searching:
            known = _ordered(join_tables([known, ask(state._replace(probing=False))]))
        a, b = component[known.fragment_u], component[known.fragment_v]
        picked, renamed, count = (merge_components if searching else join)(a, b, count)
        chosen.append(known.take(picked))
        certified += int(picked.sum()) * searching
        component = renamed[component]
        apart = component[known.fragment_u] != component[known.fragment_v]
        known = known.take(apart)
        rounds += 1
    return Connected(join_tables([known.take(np.empty(0, np.int64)), *chosen]), certified)


def _ordered(edges: EdgeTable) -> EdgeTable:
    return edges.take(total_order(edges.u, edges.v, edges.weights, map_tiles))


def _round(
    component: I32,
    count: int,
    known: EdgeTable,
    cells: Cells,
    least_core: F64,
    *,
    probing: bool,
) -> Round:
    bound = np.full(count, UNBOUNDED)
    for ends in (known.fragment_u, known.fragment_v):
        np.minimum.at(bound, component[ends], known.weights)
    starts = cells.first_fragment[:-1]
    low = np.minimum.reduceat(component, starts)
    high = np.maximum.reduceat(component, starts)
    whole = np.where(low == high, low, -1).astype(np.int32)
    return Round(component, bound, whole, least_core, probing)
