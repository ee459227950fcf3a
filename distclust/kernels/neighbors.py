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

__all__ = ["Neighbors", "neighbors"]


class Neighbors(NamedTuple):
    """The k nearest other points of each point, places and points in tree order."""

    dist: npt.NDArray[np.float64]  # (n, k): reduced distances, ascending
    place: npt.NDArray[np.int32]  # (n, k): which points
    tied: npt.NDArray[np.bool_]  # (n,): there may be more as near as the k-th


def neighbors(tree: KDTree, k: int, map_tiles: Mapper) -> Neighbors:
    """Find the `k` nearest other points of each point, 1 <= k < n."""
    n = len(tree.order)
    found = Neighbors(np.empty((n, k)), np.empty((n, k), np.int32), np.zeros(n, np.bool_))
    over_leaves(map_tiles, tree, _neighbors, tree, found)
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _neighbors(tree, found, first, last):  # type: ignore[no-untyped-def]
    """Search from some leaves (found: OUT)."""
    n = found.dist.shape[0]
    top = tree.low.shape[0] // 2
    scratch, bounds = np.empty(LEAF), np.empty(LEAF)
    stack, stack_bound = np.empty(128, np.int64), np.empty(128)
    for leaf in range(first, last):
        start, stop = leaf * LEAF, min(n, (leaf + 1) * LEAF)
        found.dist[start:stop] = UNBOUNDED
        bounds[:] = -1.0
        bounds[: stop - start] = UNBOUNDED
        own = top + leaf
        _scan(tree, found, leaf, leaf, bounds, scratch)
        reach = bounds.max()
        node = own
        while node > 1:
            stack[0], size = node ^ 1, 1
            stack_bound[0] = box_distance(tree, own, node ^ 1)
            node >>= 1
            while size > 0:
                size -= 1
                at = stack[size]
                if stack_bound[size] > reach or reach == 0:
                    continue
                if at >= top:
                    _scan(tree, found, leaf, at - top, bounds, scratch)
                    reach = bounds.max()
                    continue
                near, far = 2 * at, 2 * at + 1
                to_near = box_distance(tree, own, near)
                to_far = box_distance(tree, own, far)
                if to_far < to_near:
                    near, far = far, near
                    to_near, to_far = to_far, to_near
                stack[size], stack_bound[size] = far, to_far
                stack[size + 1], stack_bound[size + 1] = near, to_near
                size += 2


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _scan(tree, found, leaf, other, bounds, scratch):  # type: ignore[no-untyped-def]
    """Offer a leaf's points to each point of another (found, bounds: INOUT)."""
    k = found.dist.shape[1]
    node = tree.low.shape[0] // 2 + other
    start, place = leaf * LEAF, other * LEAF
    leaf_box_distances(tree, leaf, node, scratch)
    equal = lanes_equal(scratch, bounds)
    while equal != 0:
        found.tied[start + lowest(equal)] = True
        equal &= equal - np.uint32(1)
    active = lanes_below(scratch, bounds)
    while active != 0:
        q = lowest(active)
        active &= active - np.uint32(1)
        leaf_distances(tree, leaf, q, other, scratch)
        if other == leaf:
            scratch[q] = np.inf
        bound = bounds[q]
        lanes = lanes_up_to(scratch, bound)
        if lanes == 0:
            continue
        dist, places, tied = found.dist[start + q], found.place[start + q], found.tied[start + q]
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
                bound = dist[k - 1]
            elif x == bound:
                tied = True
        found.tied[start + q] = tied
        bounds[q] = bound
