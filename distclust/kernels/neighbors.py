"""Exact nearest neighbours of all points of a tree, and their core distances."""

from __future__ import annotations

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
from distclust.kernels.lanes import lanes_below, lanes_equal, lanes_up_to, lowest

__all__ = ["Neighbors", "neighbors", "neighbors_within"]


class Neighbors(NamedTuple):
    """The k nearest other points of each point, places and points in tree order."""

    dist: npt.NDArray[np.float64]  # (n, k): reduced distances, ascending
    place: npt.NDArray[np.int32]  # (n, k): which points
    tied: npt.NDArray[np.bool_]  # (n,): there may be more as near as the k-th


def neighbors(tree: KDTree, k: int, map_tiles: Mapper) -> Neighbors:
    """Find the `k` nearest other points of each point, 1 <= k < n."""
    n = len(tree.order)
    found = Neighbors(np.empty((n, k)), np.empty((n, k), np.int32), np.zeros(n, np.bool_))
    over_leaves(map_tiles, tree, _neighbors, tree, tree, True, np.full(n, UNBOUNDED), found)
    return found


def neighbors_within(
    queries: KDTree, radius: npt.NDArray[np.float64], tree: KDTree, k: int, map_tiles: Mapper
) -> npt.NDArray[np.float64]:
    """Measure the reduced distances of points to the `k` nearest ones of another tree.

    Parameters
    ----------
    queries : KDTree
    radius : ndarray of shape (n_queries,)
        Only what is nearer than this counts; in tree order, as the result.
    tree : KDTree
    k : int
    map_tiles : callable

    Returns
    -------
    ndarray of shape (n_queries, k)
        Ascending; `UNBOUNDED` where there are fewer than `k`.
    """
    n = len(queries.order)
    found = Neighbors(np.empty((n, k)), np.empty((n, k), np.int32), np.zeros(n, np.bool_))
    over_leaves(map_tiles, queries, _neighbors, queries, tree, False, radius, found)
    return found.dist


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _neighbors(queries, tree, own, radius, found, first, last):  # type: ignore[no-untyped-def]
    """Search from some leaves (found: OUT); `own` says that both trees are the same."""
    n = found.dist.shape[0]
    top, own_top = tree.low.shape[0] // 2, queries.low.shape[0] // 2
    scratch, bounds = np.empty(LEAF), np.empty(LEAF)
    stack, stack_bound = np.empty(128, np.int64), np.empty(128)
    for leaf in range(first, last):
        start, stop = leaf * LEAF, min(n, (leaf + 1) * LEAF)
        found.dist[start:stop] = UNBOUNDED
        bounds[:] = -1.0
        bounds[: stop - start] = radius[start:stop]
        box = own_top + leaf
        if own:
            _scan(queries, tree, own, found, leaf, leaf, bounds, scratch)
        reach = bounds.max()
        stack[0], size = 1, 1
        stack_bound[0] = box_distance(queries, box, tree, 1)
        while size > 0:
            size -= 1
            at = stack[size]
            if stack_bound[size] > reach or reach == 0 or (own and at == box):
                continue
            if at >= top:
                _scan(queries, tree, own, found, leaf, at - top, bounds, scratch)
                reach = bounds.max()
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


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _scan(queries, tree, own, found, leaf, other, bounds, scratch):  # type: ignore[no-untyped-def]
    """Offer the points of leaf `other` to each query of a leaf (found, bounds: INOUT)."""
    k = found.dist.shape[1]
    start, place = leaf * LEAF, other * LEAF
    leaf_box_distances(queries, leaf, tree, tree.low.shape[0] // 2 + other, scratch)
    equal = lanes_equal(scratch, bounds)
    while equal != 0:
        found.tied[start + lowest(equal)] = True
        equal &= equal - np.uint32(1)
    active = lanes_below(scratch, bounds)
    while active != 0:
        q = lowest(active)
        active &= active - np.uint32(1)
        leaf_distances(queries, leaf, q, tree, other, scratch)
        if own and other == leaf:
            scratch[q] = np.inf
        bound = bounds[q]
        lanes = lanes_up_to(scratch, bound)
        if lanes != 0:
            bounds[q] = _insert(found, k, start + q, place, lanes, scratch, bound)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _insert(found, k, p, place, lanes, scratch, bound):  # type: ignore[no-untyped-def]
    """Put candidates into the list of query p; return what is too far from now on."""
    dist, places, tied = found.dist[p], found.place[p], found.tied[p]
    while lanes != 0:
        i = lowest(lanes)
        lanes &= lanes - np.uint32(1)
        x = scratch[i]
        if x < bound:
            at = k - 1
            while at > 0 and dist[at - 1] > x:
                dist[at], places[at] = dist[at - 1], places[at - 1]
                at -= 1
            dist[at], places[at] = x, place + i
            tied = dist[k - 1] == bound
            bound = min(bound, dist[k - 1])
        elif x == bound:
            tied = True
    found.tied[p] = tied
    return bound
