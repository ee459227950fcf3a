"""The minimum spanning tree of mutual reachability, by Boruvka's rounds over a kd-tree.

In each round every component finds its least edge to another one, in the total order
(weight, lower row id, higher row id); all of these belong to the tree (cut property),
and components merge along them. What makes a round cheap:

- An edge at p weighs at least p's core distance. The first round is read from the
  neighbour lists: an edge of just that weight cannot be beaten.
- Components only grow, so "every edge leaving p weighs at least this" stays true: a point
  searches only when its component's best known edge is no lighter (`Search.least`).
- A search starts from the best edge that the lists still offer the component, and skips
  subtrees too far, too sparse (least core distance), or of the same component.

Threads share `bound`, the weight of each component's best known edge, without locks. A
stale value only prunes less: pruning is strict, so ties survive to the total order, and
a round's edges are the same in any case.

Source: W. B. March, P. Ram, A. G. Gray, "Fast Euclidean minimum spanning tree", 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.kdtree import (
    LEAF,
    UNBOUNDED,
    KDTree,
    Mapper,
    box_distance,
    leaf_box_distances,
    leaf_distances,
    over_leaves,
)
from distclust.kernels.lanes import lanes_up_to, lowest, mutual_reach
from distclust.kernels.neighbors import Neighbors

__all__ = ["Edges", "join_edges", "minimum_edges"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


class Edges(NamedTuple):
    """Edges between places of a tree, in no particular order."""

    a: I64
    b: I64
    weights: F64  # reduced mutual reachability


class Search(NamedTuple):
    """What is known of each point's least edge out of its component, in tree order."""

    core: F64  # (leaves * LEAF,): reduced core distances, infinite beyond the last point
    ids: I64  # (n,): what breaks ties
    group: I32  # (leaves * LEAF,): components, -1 beyond the last point
    node_group: I32  # (nodes,): the component of all points under a node, or -1
    node_core: F64  # (nodes,): the least core distance under a node
    least: F64  # (n,): no edge out of the component weighs less
    weight: F64  # (n,): of the best known edge
    partner: I64  # (n,): its other end, or -1
    exact: npt.NDArray[np.bool_]  # (n,): no edge out of the component precedes it
    listed: npt.NDArray[np.bool_]  # (n,): the neighbour list may have edges to offer


def minimum_edges(
    tree: KDTree, core: F64, ids: I64, groups: I32, found: Neighbors, map_tiles: Mapper
) -> Edges:
    """Connect what is not connected yet by the least edges.

    Parameters
    ----------
    tree : KDTree
    core : ndarray of shape (n,)
        Reduced core distances, in tree order as all that follows.
    ids : ndarray of shape (n,)
        Distinct; they break ties.
    groups : ndarray of shape (n,), int32
        Components to begin with, numbered from 0 without gaps.
    found : Neighbors
        Where searches begin, and often end.
    map_tiles : callable

    Returns
    -------
    Edges
        One fewer than there are components.
    """
    search = _start(tree, core, ids, groups)
    components = int(groups.max()) + 1
    chosen: list[tuple[I64, I64, F64]] = []
    while components > 1:
        bound = np.full(components, UNBOUNDED)
        over_leaves(map_tiles, tree, _offer_listed, search, found, bound)
        over_leaves(map_tiles, tree, _search, tree, search, bound)
        edges, renamed, components = _merge(search, components)
        chosen.append(edges)
        over_leaves(map_tiles, tree, _rename, search, renamed)
        _join_groups(search.node_group)
    return join_edges(chosen)


def join_edges(parts: Sequence[tuple[I64, I64, F64]]) -> Edges:
    """Put edges together."""
    nothing = np.empty(0, np.int64)
    a, b, weights = zip((nothing, nothing, np.empty(0)), *parts, strict=True)
    return Edges(np.concatenate(a), np.concatenate(b), np.concatenate(weights))


def _start(tree: KDTree, core: F64, ids: I64, groups: I32) -> Search:
    n, padded = len(ids), tree.n_leaves * LEAF
    padded_core, padded_group = np.full(padded, np.inf), np.full(padded, -1, np.int32)
    padded_core[:n], padded_group[:n] = core, groups
    nodes = len(tree.low)
    search = Search(
        padded_core,
        ids,
        padded_group,
        np.full(nodes, -1, np.int32),
        np.full(nodes, np.inf),
        core.copy(),
        np.full(n, UNBOUNDED),
        np.full(n, -1, np.int64),
        np.zeros(n, np.bool_),
        np.ones(n, np.bool_),
    )
    _rename(search, np.arange(int(groups.max()) + 1, dtype=np.int32), 0, tree.n_leaves)
    search.node_core[nodes // 2 : nodes // 2 + tree.n_leaves] = padded_core.reshape(-1, LEAF).min(1)
    for node in range(nodes // 2 - 1, 0, -1):
        search.node_core[node] = search.node_core[2 * node : 2 * node + 2].min()
    _join_groups(search.node_group)
    return search


@numba.njit(nogil=True, cache=True, inline="always")
def _precedes(search, weight, a, b, other_weight, c, d):  # type: ignore[no-untyped-def]
    """Whether edge (a, b) comes before edge (c, d) in the total order."""
    if weight != other_weight:
        return weight < other_weight
    u, v, x, y = search.ids[a], search.ids[b], search.ids[c], search.ids[d]
    low, other_low = min(u, v), min(x, y)
    return low < other_low or (low == other_low and max(u, v) < max(x, y))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _offer_listed(search, found, bound, first, last):  # type: ignore[no-untyped-def]
    """Have points whose best edge became inner look into their lists (bound: INOUT)."""
    n, k = found.dist.shape
    for p in range(first * LEAF, min(n, last * LEAF)):
        group = search.group[p]
        if search.partner[p] < 0 or search.group[search.partner[p]] == group:
            _best_listed(search, found, p, k)
        if search.weight[p] < bound[group]:
            bound[group] = search.weight[p]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _best_listed(search, found, p, k):  # type: ignore[no-untyped-def]
    weight, partner = UNBOUNDED, np.int64(-1)
    if search.listed[p]:
        group, core = search.group[p], search.core[p]
        for i in range(k):
            j = np.int64(found.place[p, i])
            if search.group[j] == group:
                continue
            reach = max(found.dist[p, i], core, search.core[j])
            if reach < weight or (
                reach == weight and _precedes(search, reach, p, j, weight, p, partner)
            ):
                weight, partner = reach, j
        search.listed[p] = partner >= 0
    search.weight[p], search.partner[p] = weight, partner
    # nothing weighs less than the core distance; is all that is as near listed?
    farthest = found.dist[p, k - 1]
    complete = farthest > search.core[p] or (farthest == search.core[p] and not found.tied[p])
    search.exact[p] = complete and partner >= 0 and weight == search.core[p]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _search(tree, search, bound, first, last):  # type: ignore[no-untyped-def]
    """Find the least edges of some leaves' points, if no heavier than their bounds."""
    top = tree.low.shape[0] // 2
    limits, scratch, apart = np.empty(LEAF), np.empty(LEAF), np.empty(LEAF)
    stack, stack_bound = np.empty(128, np.int64), np.empty(128)
    for leaf in range(first, last):
        reach, group = _begin(search, bound, leaf, limits)
        if reach < 0:
            continue
        own = top + leaf
        if group < 0 or search.node_group[own] != group:
            reach = _scan(tree, search, bound, leaf, leaf, limits, apart, scratch)
        node = own
        while node > 1:
            stack[0], size = node ^ 1, 1
            stack_bound[0] = box_distance(tree, own, node ^ 1)
            node >>= 1
            while size > 0:
                size -= 1
                at = stack[size]
                if (
                    stack_bound[size] > reach
                    or search.node_core[at] > reach
                    or (group >= 0 and search.node_group[at] == group)
                ):
                    continue
                if at >= top:
                    reach = _scan(tree, search, bound, leaf, at - top, limits, apart, scratch)
                    continue
                near, far = 2 * at, 2 * at + 1
                to_near, to_far = box_distance(tree, own, near), box_distance(tree, own, far)
                if to_far < to_near:
                    near, far = far, near
                    to_near, to_far = to_far, to_near
                stack[size], stack_bound[size] = far, to_far
                stack[size + 1], stack_bound[size + 1] = near, to_near
                size += 2
        _end(search, leaf, limits)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _begin(search, bound, leaf, limits):  # type: ignore[no-untyped-def]
    """Set the limits of the points that have to search (OUT), -1 for the others.

    Returns the greatest limit, and the component if all of them share one, else -1.
    """
    n = search.ids.shape[0]
    limits[:] = -1.0
    reach, group = -1.0, np.int32(-2)
    for p in range(leaf * LEAF, min(n, (leaf + 1) * LEAF)):
        limit = bound[search.group[p]]
        if not search.exact[p] and search.least[p] <= limit:
            limits[p - leaf * LEAF] = limit
            reach = max(reach, limit)
            group = search.group[p] if group in (np.int32(-2), search.group[p]) else np.int32(-1)
    return reach, group


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _end(search, leaf, limits):  # type: ignore[no-untyped-def]
    """Note what the search of a leaf's points has shown."""
    start = leaf * LEAF
    for q in range(min(LEAF, search.ids.shape[0] - start)):
        p = start + q
        if limits[q] < 0:
            continue
        if search.partner[p] >= 0 and search.weight[p] <= limits[q]:
            search.exact[p] = True
        search.least[p] = max(search.least[p], limits[q])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _scan(tree, search, bound, leaf, other, limits, apart, scratch):  # type: ignore[no-untyped-def]
    """Offer a leaf's points to those of another that search (limits: INOUT).

    Returns the greatest limit that is left.
    """
    node = tree.low.shape[0] // 2 + other
    start, place = leaf * LEAF, other * LEAF
    leaf_box_distances(tree, leaf, node, apart)
    active = lanes_up_to(apart, limits)
    while active != 0:
        q = lowest(active)
        active &= active - np.uint32(1)
        p = start + q
        group = search.group[p]
        if search.node_group[node] == group:
            continue
        limit = min(limits[q], bound[group])
        leaf_distances(tree, leaf, q, other, scratch)
        mutual_reach(scratch, search.core, search.group, place, search.core[p], group)
        lanes = lanes_up_to(scratch, limit)
        if lanes != 0:
            weight, partner = search.weight[p], search.partner[p]
            while lanes != 0:
                i = lowest(lanes)
                lanes &= lanes - np.uint32(1)
                if scratch[i] < weight or (
                    scratch[i] == weight
                    and _precedes(search, weight, p, place + i, weight, p, partner)
                ):
                    weight, partner = scratch[i], place + i
            search.weight[p], search.partner[p] = weight, partner
            if weight < bound[group]:
                bound[group] = weight
            limit = min(limit, weight)
        limits[q] = limit
    reach = -1.0
    for q in range(LEAF):
        if limits[q] >= 0:
            limits[q] = min(limits[q], bound[search.group[start + q]])
            reach = max(reach, limits[q])
    return reach


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _merge(search, components):  # type: ignore[no-untyped-def]
    """Join components along the least edge of each.

    Returns the edges' ends and weights, and the new component of each old one.
    """
    best = np.full(components, -1, np.int64)
    for p in range(search.ids.shape[0]):
        if search.partner[p] < 0:
            continue
        group = search.group[p]
        q = best[group]
        if q < 0 or _precedes(
            search,
            search.weight[p],
            p,
            search.partner[p],
            search.weight[q],
            q,
            search.partner[q],
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


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _join_groups(node_group):  # type: ignore[no-untyped-def]
    """Find which inner nodes lie in one component; empty nodes count as -2."""
    for node in range(node_group.shape[0] // 2 - 1, 0, -1):
        left, right = node_group[2 * node], node_group[2 * node + 1]
        node_group[node] = left if left == right else np.int32(-1)
