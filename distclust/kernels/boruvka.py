"""The minimum spanning tree of mutual reachability, by Boruvka's rounds over a kd-tree.

In each round every component finds its least edge to another one, in the total order
(weight, lower row id, higher row id); all of these belong to the tree (cut property),
and components merge along them. What makes a round cheap:

- An edge at p weighs at least p's core distance. The first round is read from the
  neighbour lists: an edge of just that weight cannot be beaten.
- Components only grow, so "every edge leaving p weighs at least this" stays true: a point
  searches only when its component's best known edge is no lighter (`Search.least`).
- A search starts from the best edge that the lists still offer the component.

Source: W. B. March, P. Ram, A. G. Gray, "Fast Euclidean minimum spanning tree", 2010.
"""

from __future__ import annotations

import numba
import numpy as np

from distclust.kernels.kdtree import LEAF, UNBOUNDED, KDTree, Mapper, over_leaves
from distclust.kernels.neighbors import Neighbors
from distclust.kernels.outgoing import (
    F64,
    I64,
    Edges,
    join_edges,
    join_groups,
    precedes,
    search_leaves,
    start_search,
)

__all__ = ["minimum_edges"]


def minimum_edges(tree: KDTree, core: F64, ids: I64, near: Neighbors, map_tiles: Mapper) -> Edges:
    """Find the minimum spanning tree.

    Parameters
    ----------
    tree : KDTree
    core : ndarray of shape (n,)
        Reduced core distances, in tree order as all that follows.
    ids : ndarray of shape (n,)
        Distinct; they break ties.
    near : Neighbors
        Where searches begin, and often end.
    map_tiles : callable
    """
    components = len(ids)
    search = start_search(tree, core, ids, np.arange(components, dtype=np.int32))
    chosen: list[Edges] = []
    while components > 1:
        bound = np.full(components, UNBOUNDED)
        over_leaves(map_tiles, tree, _offer_known, search, bound)
        over_leaves(map_tiles, tree, _offer_listed, search, near, bound)
        over_leaves(map_tiles, tree, search_leaves, tree, search, tree, search, True, bound)
        edges, renamed, components = _merge(search, components)
        chosen.append(Edges(*edges))
        over_leaves(map_tiles, tree, _rename, search, renamed)
        join_groups(search.node_group)
    return join_edges(chosen)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _offer_known(search, bound, first, last):  # type: ignore[no-untyped-def]
    """Bound components by the best edges of their points that still lead out (bound: INOUT)."""
    for p in range(first * LEAF, min(search.ids.shape[0], last * LEAF)):
        group, partner = search.group[p], search.partner[p]
        if partner >= 0 and search.group[partner] == group:
            search.weight[p], search.partner[p], search.exact[p] = UNBOUNDED, -1, False
        elif search.weight[p] < bound[group]:
            bound[group] = search.weight[p]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _offer_listed(search, near, bound, first, last):  # type: ignore[no-untyped-def]
    """Have points without an edge look into their lists, if that may help (bound: INOUT)."""
    for p in range(first * LEAF, min(search.ids.shape[0], last * LEAF)):
        if search.partner[p] < 0 and search.listed[p]:
            group = search.group[p]
            if search.least[p] <= bound[group]:
                _best_listed(search, near, p)
                bound[group] = min(bound[group], search.weight[p])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _best_listed(search, near, p):  # type: ignore[no-untyped-def]
    """Set the best edge of p to the first that its list offers."""
    k = near.dist.shape[1]
    weight, partner = UNBOUNDED, np.int64(-1)
    group, core, ids = search.group[p], search.core[p], search.ids
    for i in range(k):
        if near.dist[p, i] > weight:
            break
        j = np.int64(near.place[p, i])
        if search.group[j] == group:
            continue
        reach = max(near.dist[p, i], core, search.core[j])
        if reach < weight or (reach == weight and precedes(ids[p], ids[j], ids[p], ids[partner])):
            weight, partner = reach, j
    search.listed[p] = partner >= 0
    search.weight[p], search.partner[p] = weight, partner
    # whatever is not listed is as far as the last one listed, or farther
    farthest = near.dist[p, k - 1]
    search.exact[p] = weight < farthest or (weight == farthest and not near.tied[p])
    search.least[p] = max(search.least[p], min(weight, farthest))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _merge(search, components):  # type: ignore[no-untyped-def]
    """Join components along the least edge of each.

    Returns the edges' ends and weights, and the new component of each old one.
    """
    ids = search.ids
    best = np.full(components, -1, np.int64)
    for p in range(ids.shape[0]):
        if search.partner[p] < 0:
            continue
        group = search.group[p]
        q = best[group]
        if (
            q < 0
            or search.weight[p] < search.weight[q]
            or (
                search.weight[p] == search.weight[q]
                and precedes(ids[p], ids[search.partner[p]], ids[q], ids[search.partner[q]])
            )
        ):
            best[group] = p
    parent = np.arange(components, dtype=np.int32)
    a, b = np.empty(components - 1, np.int64), np.empty(components - 1, np.int64)
    weights = np.empty(components - 1)
    count = 0
    for group in range(components):
        p = best[group]
        x, y = _root(parent, group), _root(parent, search.group[search.partner[p]])
        if x != y:
            parent[max(x, y)] = min(x, y)
            a[count], b[count], weights[count] = p, search.partner[p], search.weight[p]
            count += 1
    renamed = np.empty(components, np.int32)
    left = np.int32(0)
    for group in range(components):  # a root precedes what it is the root of
        if parent[group] == group:
            renamed[group] = left
            left += 1
        else:
            renamed[group] = renamed[_root(parent, group)]
    return (a[:count], b[:count], weights[:count]), renamed, left


@numba.njit(nogil=True, cache=True)
def _root(parent, group):  # type: ignore[no-untyped-def]
    while parent[group] != group:
        parent[group] = parent[parent[group]]
        group = parent[group]
    return group


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _rename(search, renamed, first, last):  # type: ignore[no-untyped-def]
    """Give the points of some leaves their new components (search.group: INOUT)."""
    n = search.ids.shape[0]
    top = search.node_group.shape[0] // 2
    for leaf in range(first, last):
        start = leaf * LEAF
        whole = renamed[search.group[start]]
        for p in range(start, min(n, start + LEAF)):
            search.group[p] = renamed[search.group[p]]
            if search.group[p] != whole:
                whole = np.int32(-1)
        search.node_group[top + leaf] = whole
