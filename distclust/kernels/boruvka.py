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

from distclust.kernels.arrays import Mapper, full
from distclust.kernels.kdtree import LEAF, UNBOUNDED, KDTree, over_leaves
from distclust.kernels.neighbors import Neighbors
from distclust.kernels.outgoing import (
    F64,
    I64,
    Edges,
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
    n = components = len(ids)
    search = start_search(tree, core, ids, np.arange(n, dtype=np.int32), map_tiles)
    a, b = full(n - 1, -1, np.int64, map_tiles), full(n - 1, -1, np.int64, map_tiles)
    edges = Edges(a, b, full(n - 1, UNBOUNDED, np.float64, map_tiles))
    renamed, best = full(n, -1, np.int32, map_tiles), full(n, -1, np.int32, map_tiles)
    while components > 1:
        bound = full(components, UNBOUNDED, np.float64, map_tiles)
        over_leaves(map_tiles, tree, _offer_known, search, bound)
        over_leaves(map_tiles, tree, _offer_listed, search, near, bound)
        over_leaves(map_tiles, tree, search_leaves, tree, search, tree, search, True, bound)
        components = _merge(search, components, best, renamed, edges)
        over_leaves(map_tiles, tree, _rename, search, renamed)
        join_groups(search.node_group)
    return edges


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
    k = near.place.shape[1]
    skipped = k - near.dist.shape[1]
    weight, partner = UNBOUNDED, np.int64(-1)
    group, core, ids = search.group[p], search.core[p], search.ids
    for i in range(k):
        dist = near.dist[p, i - skipped] if i >= skipped else core  # at most that, where skipped
        if dist > weight:
            break
        j = np.int64(near.place[p, i])
        if search.group[j] == group:
            continue
        reach = max(dist, core, search.core[j])
        if reach < weight or (reach == weight and precedes(ids[p], ids[j], ids[p], ids[partner])):
            weight, partner = reach, j
    search.listed[p] = partner >= 0
    search.weight[p], search.partner[p] = weight, partner
    # whatever is not listed is as far as the last one listed, or farther
    farthest = near.dist[p, k - 1 - skipped]
    search.exact[p] = weight < farthest or (weight == farthest and not near.tied[p])
    search.least[p] = max(search.least[p], min(weight, farthest))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _merge(search, components, best, renamed, edges):  # type: ignore[no-untyped-def]
    """Join components along the least edge of each; return how many are left.

    Parameters
    ----------
    search : Search
    components : int
    best : ndarray of shape (n,), int32
        Room to work in.
    renamed : ndarray of shape (n,), int32
        OUT: the new component of each old one.
    edges : Edges
        OUT: of a tree of n points; those that join components go where they are counted.
    """
    ids = search.ids
    best[:components] = -1
    for p in range(np.int32(ids.shape[0])):
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
    parent, left = renamed, components
    for group in range(components):
        parent[group] = group
    for group in range(components):
        p = best[group]
        x, y = _root(parent, group), _root(parent, search.group[search.partner[p]])
        if x != y:
            parent[max(x, y)] = min(x, y)
            left -= 1
            edges.a[left - 1], edges.b[left - 1] = p, search.partner[p]
            edges.weights[left - 1] = search.weight[p]
    named = np.int32(0)
    for group in range(components):  # parents come first, and have their new names
        if parent[group] == group:
            renamed[group] = named
            named += 1
        else:
            renamed[group] = renamed[parent[group]]
    return left


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
