"""Core distances and the spanning tree of points held by one process.

Joins `distclust.kernels.kdtree`, `neighbors` and `boruvka`. All distances here are
reduced (see `kdtree`), and row ids only break ties.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.kernels.arrays import Mapper, taken
from distclust.kernels.boruvka import minimum_edges
from distclust.kernels.kdtree import KDTree, build
from distclust.kernels.neighbors import Neighbors, neighbors
from distclust.kernels.outgoing import Edges, join_edges

__all__ = ["Indexed", "index_points", "least_edges", "list_neighbors"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_MORE = 4  # neighbours listed beyond the core distance


class Indexed(NamedTuple):
    """Points in a tree, with their nearest neighbours."""

    tree: KDTree
    near: Neighbors


def index_points(X: F64, k: int, metric: int, map_tiles: Mapper, skipped: int = 0) -> Indexed:
    """Build a tree over X of shape (n, d) and list at least the `k` nearest others."""
    tree = build(X, metric, map_tiles)
    return Indexed(tree, list_neighbors(tree, k, map_tiles, skipped))


def list_neighbors(tree: KDTree, k: int, map_tiles: Mapper, skipped: int = 0) -> Neighbors:
    """List the `k` nearest others and some more, or all there are, 1 <= k; n >= 2.

    The k-th gives the core distance. Those beyond it spare searches in the first rounds.
    The first `skipped` distances may be left out if none is above the core distance that
    `least_edges` will be given: mutual reachability does not depend on them.
    """
    return neighbors(tree, min(k + _MORE, len(tree.order) - 1), map_tiles, skipped)


def least_edges(X: F64, ids: I64, core: F64, indexed: Indexed, map_tiles: Mapper) -> Edges:
    """Find the minimum spanning tree of mutual reachability.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The points `indexed` was made of.
    ids : ndarray of shape (n,), int64
        Distinct. They break ties.
    core : ndarray of shape (n,)
        Reduced core distances, in the order of X.
    indexed : Indexed
    map_tiles : callable

    Returns
    -------
    Edges
        Between rows of X.
    """
    copies, firsts = _copies(X, ids, core)
    if len(copies):
        representative = np.arange(len(X))
        representative[copies] = firsts
        same = Edges(copies, firsts, np.zeros(len(copies)))
        kept = np.flatnonzero(representative == np.arange(len(X)))
        if len(kept) == 1:
            return same
        fewer = _only(X, kept, representative, indexed, map_tiles)
        rest = least_edges(X[kept], ids[kept], core[kept], fewer, map_tiles)
        between = Edges(kept[rest.a], kept[rest.b], rest.weights)
        return join_edges([same, between])
    order = indexed.tree.order
    found = minimum_edges(
        indexed.tree,
        taken(core, order, map_tiles),
        taken(ids, order, map_tiles),
        indexed.near,
        map_tiles,
    )
    a, b = taken(order, found.a, map_tiles), taken(order, found.b, map_tiles)
    return Edges(a, b, found.weights)


def _copies(X: F64, ids: I64, core: F64) -> tuple[I64, I64]:
    """Return rows of core distance 0 that have a copy of a lower id, and the lowest one's row.

    All edges between the copies weigh 0, and the tree joins each to that of lowest id; in
    the total order none of the others can have the least edge to anything else.
    """
    dense = np.flatnonzero(core == 0)
    order = np.lexsort((ids[dense], *X[dense].T))
    rows = dense[order]
    differs = np.r_[True, (X[rows[1:]] != X[rows[:-1]]).any(axis=1)][: len(rows)]
    firsts = rows[np.flatnonzero(differs)[np.cumsum(differs) - 1]]
    return rows[~differs], firsts[~differs]


def _only(X: F64, kept: I64, representative: I64, indexed: Indexed, map_tiles: Mapper) -> Indexed:
    """Index only some rows; listed neighbours become their representatives."""
    before, near = indexed
    tree = build(X[kept], before.metric, map_tiles)
    place_before, place_now = np.empty(len(X), np.int64), np.empty(len(X), np.int32)
    place_before[before.order] = np.arange(len(X))
    place_now[kept[tree.order]] = np.arange(len(kept))
    rows = place_before[kept[tree.order]]
    listed = representative[before.order[near.place[rows]]]
    return Indexed(tree, Neighbors(near.dist[rows], place_now[listed], near.tied[rows]))
