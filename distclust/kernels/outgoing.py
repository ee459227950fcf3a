"""Least edges out of components: the search that Boruvka's rounds are made of.

A search goes from the points of one tree to those of the same or another one. It skips
subtrees that are too far, too sparse (by their least core distance) or of the searching
points' own component. Pruning is strict, so ties survive to the total order (weight,
lower row id, higher row id).

Threads share `bound`, the weight of each component's best known edge, without locks: a
stale value only prunes less. Which edges of a component are found may depend on timing;
the first of them in the total order does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.arrays import Mapper, copied, full
from distclust.kernels.kdtree import (
    LEAF,
    UNBOUNDED,
    KDTree,
    box_distance,
    leaf_box_distances,
    leaf_distances,
    over_leaves,
    searching,
)
from distclust.kernels.lanes import lanes_of, lanes_up_to, lanes_within, lowest, mutual_reach
from distclust.kernels.sieve import Room, empty_room, sift

__all__ = [
    "Edges",
    "Search",
    "edges_between",
    "join_edges",
    "join_groups",
    "precedes",
    "search_leaves",
    "start_search",
]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


class Edges(NamedTuple):
    """Edges between places of a tree, in no particular order."""

    a: I64
    b: I64
    weights: F64  # reduced mutual reachability


def join_edges(parts: Sequence[Edges]) -> Edges:
    """Put edges together."""
    nothing = np.empty(0, np.int64)
    a, b, weights = zip(Edges(nothing, nothing, np.empty(0)), *parts, strict=True)
    return Edges(np.concatenate(a), np.concatenate(b), np.concatenate(weights))


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


class Scratch(NamedTuple):
    """What scans of leaves work in."""

    apart: F64  # (LEAF,)
    dist: F64  # (LEAF,)
    sift: Room


def start_search(tree: KDTree, core: F64, ids: I64, group: I32, map_tiles: Mapper) -> Search:
    """Prepare a search from or among the points of a tree; all in tree order."""
    n, padded, nodes = len(ids), tree.n_leaves * LEAF, len(tree.low)
    search = Search(
        core=full(padded, np.inf, np.float64, map_tiles),
        ids=ids,
        group=full(padded, -1, np.int32, map_tiles),
        node_group=np.full(nodes, -1, np.int32),
        node_core=np.full(nodes, np.inf),
        least=copied(core, map_tiles),
        weight=full(n, UNBOUNDED, np.float64, map_tiles),
        partner=full(n, -1, np.int64, map_tiles),
        exact=np.zeros(n, np.bool_),
        listed=np.ones(n, np.bool_),
    )
    search.core[:n], search.group[:n] = core, group
    _summarise(search, tree.n_leaves)
    return search


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _summarise(search, leaves):  # type: ignore[no-untyped-def]
    """Set each node's component and least core distance (INOUT)."""
    n, nodes = search.ids.shape[0], search.node_core.shape[0]
    for leaf in range(leaves):
        whole, least = search.group[leaf * LEAF], np.inf
        for p in range(leaf * LEAF, min(n, (leaf + 1) * LEAF)):
            least = min(least, search.core[p])
            if search.group[p] != whole:
                whole = np.int32(-1)
        search.node_group[nodes // 2 + leaf] = whole
        search.node_core[nodes // 2 + leaf] = least
    for node in range(nodes // 2 - 1, 0, -1):
        search.node_core[node] = min(search.node_core[2 * node], search.node_core[2 * node + 1])
    join_groups(search.node_group)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def join_groups(node_group):  # type: ignore[no-untyped-def]
    """Find which inner nodes lie in one component."""
    for node in range(node_group.shape[0] // 2 - 1, 0, -1):
        left, right = node_group[2 * node], node_group[2 * node + 1]
        node_group[node] = left if left == right else np.int32(-1)


def edges_between(
    queries: KDTree, mine: Search, tree: KDTree, theirs: Search, bound: F64, map_tiles: Mapper
) -> Edges:
    """Find edges from points of one tree to those of another, of other components.

    Parameters
    ----------
    queries : KDTree
    mine : Search
        Of `queries`, just started.
    tree : KDTree
    theirs : Search
        Of `tree`; only read.
    bound : ndarray
        For each component, what its edges must not weigh more than. Falls (INOUT).
    map_tiles : callable

    Returns
    -------
    Edges
        At most one for each query, and the first of each component among them.
    """
    queries = searching(queries, tree, map_tiles)
    over_leaves(map_tiles, queries, search_leaves, queries, mine, tree, theirs, False, bound)
    a = np.flatnonzero(mine.partner >= 0)
    return Edges(a, mine.partner[a], mine.weight[a])


@numba.njit(nogil=True, cache=True, inline="always")
def precedes(u, v, x, y):  # type: ignore[no-untyped-def]
    """Whether edge {u, v} comes before the edge {x, y} of the same weight, by row ids."""
    low, other_low = min(u, v), min(x, y)
    return low < other_low or (low == other_low and max(u, v) < max(x, y))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def search_leaves(queries, mine, tree, theirs, own, bound, first, last):  # type: ignore[no-untyped-def]
    """Find the least edges of some leaves' points, if no heavier than their bounds.

    `own` says that both trees are the same (mine, bound: INOUT).
    """
    top, own_top = tree.low.shape[0] // 2, queries.low.shape[0] // 2
    limits, room = np.empty(LEAF), Scratch(np.empty(LEAF), np.empty(LEAF), empty_room())
    stack, stack_bound = np.empty(128, np.int64), np.empty(128)
    for leaf in range(first, last):
        reach, group = _begin(mine, bound, leaf, limits)
        if reach < 0:
            continue
        box = own_top + leaf
        stack[0], size = 1, 1
        stack_bound[0] = box_distance(queries, box, tree, 1)
        begun = not own
        if own:
            stack[1], stack_bound[1], size = box, 0.0, 2
        while size > 0:
            size -= 1
            at = stack[size]
            if (
                stack_bound[size] > reach
                or theirs.node_core[at] > reach
                or (group >= 0 and theirs.node_group[at] == group)
                or (own and begun and at == box)
            ):
                continue
            begun = True
            if at >= top:
                other = at - top
                reach = _scan(queries, mine, tree, theirs, bound, leaf, other, limits, room)
                continue
            near, far = 2 * at, 2 * at + 1
            to_near = box_distance(queries, box, tree, near)
            to_far = box_distance(queries, box, tree, far)
            if to_far < to_near:
                near, far = far, near
                to_near, to_far = to_far, to_near
            stack[size], stack_bound[size] = far, to_far
            stack[size + 1], stack_bound[size + 1] = near, to_near
            size += 2
        _end(mine, leaf, limits)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _begin(mine, bound, leaf, limits):  # type: ignore[no-untyped-def]
    """Set the limits of the points that have to search (OUT), -1 for the others.

    Returns the greatest limit, and the component if all of them share one, else -1.
    """
    n = mine.ids.shape[0]
    limits[:] = -1.0
    reach, group = -1.0, np.int32(-2)
    for p in range(leaf * LEAF, min(n, (leaf + 1) * LEAF)):
        limit = bound[mine.group[p]]
        if not mine.exact[p] and mine.least[p] <= limit:
            limits[p - leaf * LEAF] = limit
            reach = max(reach, limit)
            group = mine.group[p] if group in (np.int32(-2), mine.group[p]) else np.int32(-1)
    return reach, group


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _end(mine, leaf, limits):  # type: ignore[no-untyped-def]
    """Note what the search of a leaf's points has shown."""
    start = leaf * LEAF
    for q in range(min(LEAF, mine.ids.shape[0] - start)):
        p = start + q
        if limits[q] < 0:
            continue
        if mine.partner[p] >= 0 and mine.weight[p] <= limits[q]:
            mine.exact[p] = True
        mine.least[p] = max(mine.least[p], limits[q])


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _scan(queries, mine, tree, theirs, bound, leaf, other, limits, room):  # type: ignore[no-untyped-def]
    """Offer the points of leaf `other` to those of a leaf that search (limits: INOUT).

    Returns the greatest limit that is left.
    """
    node = tree.low.shape[0] // 2 + other
    start, place, whole = leaf * LEAF, other * LEAF, theirs.node_group[node]
    apart, scratch, sieved = room.apart, room.dist, tree.sieve.longest.shape[0] > 0
    leaf_box_distances(queries, leaf, tree, node, apart)
    active = lanes_up_to(apart, limits)
    if whole >= 0:
        active &= ~lanes_of(mine.group, start, whole)
    if sieved:
        active = sift(queries.sieve, leaf, tree.sieve, other, active, limits, room.sift)
    while active != 0:
        q = lowest(active)
        active &= active - np.uint32(1)
        p = start + q
        group = mine.group[p]
        limit = min(limits[q], bound[group])
        if sieved:
            near = room.sift.lanes[q] & lanes_within(theirs.core, place, limit)
            if near & ~lanes_of(theirs.group, place, group) == 0:
                continue
        leaf_distances(queries, leaf, q, tree, other, scratch)
        mutual_reach(scratch, theirs.core, theirs.group, place, mine.core[p], group)
        lanes = lanes_up_to(scratch, limit)
        if lanes != 0:
            limit = min(limit, _improve(mine, theirs, p, place, lanes, scratch))
            bound[group] = min(bound[group], limit)
        limits[q] = limit
    reach = -1.0
    for q in range(LEAF):
        if limits[q] >= 0:
            limits[q] = min(limits[q], bound[mine.group[start + q]])
            reach = max(reach, limits[q])
    return reach


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _improve(mine, theirs, p, place, lanes, scratch):  # type: ignore[no-untyped-def]
    """Keep the first of the known and the offered edges of p; return its weight."""
    weight, partner = mine.weight[p], mine.partner[p]
    while lanes != 0:
        i = lowest(lanes)
        lanes &= lanes - np.uint32(1)
        if scratch[i] < weight or (
            scratch[i] == weight
            and precedes(mine.ids[p], theirs.ids[place + i], mine.ids[p], theirs.ids[partner])
        ):
            weight, partner = scratch[i], place + i
    mine.weight[p], mine.partner[p] = weight, partner
    return weight
