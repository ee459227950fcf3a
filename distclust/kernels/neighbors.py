"""Exact nearest neighbours: of all points of a tree among each other, and in another tree.

Of equally near ones those come first that are first in the tree searched, so what is found
for a point does not depend on which others are asked for along with it.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.arrays import Mapper
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
from distclust.kernels.lanes import (
    RUN,
    insert_run,
    lanes_below,
    lanes_equal,
    lanes_up_to,
    lowest,
)
from distclust.kernels.sieve import Room, empty_room, sift

__all__ = ["Neighbors", "empty_lists", "fill_lists", "neighbors", "neighbors_within"]


class Neighbors(NamedTuple):
    """The k nearest points of each point, places and points in tree order."""

    dist: npt.NDArray[np.float64]  # (n, k - skipped): reduced distances, ascending
    place: npt.NDArray[np.int32]  # (n, k): which points, also where distances were skipped
    tied: npt.NDArray[np.bool_]  # (n,): there may be more as near as the k-th


class Lists(NamedTuple):
    """Neighbours of the points of one leaf, while they are searched."""

    dist: npt.NDArray[np.float64]  # (LEAF, RUN + k or more): the k from RUN on
    place: npt.NDArray[np.int32]
    tied: npt.NDArray[np.bool_]  # (LEAF,)
    bounds: npt.NDArray[np.float64]  # (LEAF,): what is farther does not count; -1 for no point
    last: int  # where the k-th is
    room: Room


def neighbors(tree: KDTree, k: int, map_tiles: Mapper, skipped: int = 0) -> Neighbors:
    """Find the `k` nearest other points of each point, 1 <= k < n.

    The distances of the first `skipped` are left out, which saves most of the memory.
    """
    found = _empty(len(tree.order), k, skipped)
    over_leaves(map_tiles, tree, _neighbors, tree, tree, True, np.empty(0), found)
    return found


def neighbors_within(
    queries: KDTree, radius: npt.NDArray[np.float64], tree: KDTree, k: int, map_tiles: Mapper
) -> Neighbors:
    """Find the `k` nearest points of another tree.

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
    Neighbors
        At distance `UNBOUNDED` where there are fewer than `k`.
    """
    found = _empty(len(queries.order), k)
    queries = searching(queries, tree, map_tiles)
    over_leaves(map_tiles, queries, _neighbors, queries, tree, False, radius, found)
    return found


def _empty(n: int, k: int, skipped: int = 0) -> Neighbors:
    place, tied = np.empty((n, k), np.int32), np.empty(n, np.bool_)
    return Neighbors(np.empty((n, k - skipped)), place, tied)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _neighbors(queries, tree, own, radius, found, first, last):  # type: ignore[no-untyped-def]
    """Search from some leaves (found: OUT).

    `own` says that both trees are the same; then there is no radius.
    """
    n, k = found.place.shape
    skipped = k - found.dist.shape[1]
    lists = empty_lists(k)
    for leaf in range(first, last):
        start, stop = leaf * LEAF, min(n, (leaf + 1) * LEAF)
        lists.bounds[:] = -1.0
        if own:
            lists.bounds[: stop - start] = UNBOUNDED
        else:
            lists.bounds[: stop - start] = radius[start:stop]
        fill_lists(queries, leaf, tree, own, lists)
        found.dist[start:stop] = lists.dist[: stop - start, RUN + skipped : RUN + k]
        found.place[start:stop] = lists.place[: stop - start, RUN : RUN + k]
        found.tied[start:stop] = lists.tied[: stop - start]


@numba.njit(nogil=True, cache=True)
def empty_lists(k):  # type: ignore[no-untyped-def]
    """Make room for the `k` nearest of each point of a leaf."""
    shape = (LEAF, RUN + -(-k // RUN) * RUN)
    dist, place = np.empty(shape), np.empty(shape, np.int32)
    bounds, tied = np.empty(LEAF), np.empty(LEAF, np.bool_)
    return Lists(dist, place, tied, bounds, RUN + k - 1, empty_room())


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fill_lists(queries, leaf, tree, own, lists):  # type: ignore[no-untyped-def]
    """List the nearest points of `tree`, of each point of a leaf of `queries`.

    Parameters
    ----------
    queries : KDTree
    leaf : int
    tree : KDTree
    own : bool
        Whether both trees are the same; a point is not its own neighbour.
    lists : Lists
        INOUT: in come the bounds, out what is nearer.
    """
    top, box = tree.low.shape[0] // 2, queries.low.shape[0] // 2 + leaf
    lists.dist[:, :RUN] = -np.inf
    lists.dist[:, RUN:] = UNBOUNDED
    lists.place[:] = 0
    lists.tied[:] = False
    gaps, scratch = np.empty(LEAF), np.empty(LEAF)
    stack, stack_bound = np.empty(128, np.int64), np.empty(128)
    home = box if own else _leaf_around(queries, box, tree)
    reach, begun = lists.bounds.max(), False
    stack[0], stack[1], size = 1, home, 2
    stack_bound[0], stack_bound[1] = box_distance(queries, box, tree, 1), 0.0
    while size > 0:
        size -= 1
        at = stack[size]
        if stack_bound[size] > reach or (begun and at == home):
            continue
        if reach == 0 and _first_place(at, top) > lists.place[:, lists.last].max():
            continue  # copies of one point, and lists are full of earlier ones
        if at >= top:
            begun = True
            _scan(queries, leaf, tree, at - top, own, lists, gaps, scratch)
            reach = lists.bounds.max()
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
def _leaf_around(queries, box, tree):  # type: ignore[no-untyped-def]
    """Descend to the leaf in or near the middle of a box: what it has bounds the search."""
    at = 1
    while at < tree.low.shape[0] // 2:
        left, right = 0.0, 0.0
        for j in range(tree.low.shape[1]):
            middle = queries.low[box, j] / 2 + queries.high[box, j] / 2
            left += max(tree.low[2 * at, j] - middle, middle - tree.high[2 * at, j], 0.0)
            right += max(tree.low[2 * at + 1, j] - middle, middle - tree.high[2 * at + 1, j], 0.0)
        at = 2 * at + (right < left)
    return at


@numba.njit(nogil=True, cache=True, inline="always")
def _first_place(node, top):  # type: ignore[no-untyped-def]
    while node < top:
        node *= 2
    return (node - top) * LEAF


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _scan(queries, leaf, tree, other, own, lists, gaps, scratch):  # type: ignore[no-untyped-def]
    """Offer the points of a leaf to each query of another (lists: INOUT)."""
    bounds, first = lists.bounds, other * LEAF
    leaf_box_distances(queries, leaf, tree, tree.low.shape[0] // 2 + other, gaps)
    active, equal = lanes_below(gaps, bounds), lanes_equal(gaps, bounds)
    while equal != 0:
        q = lowest(equal)
        lists.tied[q] = True
        if first < lists.place[q, lists.last]:
            active |= equal & (~equal + np.uint32(1))
        equal &= equal - np.uint32(1)
    if tree.sieve.longest.shape[0] > 0:
        active = sift(queries.sieve, leaf, tree.sieve, other, active, bounds, lists.room)
    while active != 0:
        q = lowest(active)
        active &= active - np.uint32(1)
        leaf_distances(queries, leaf, q, tree, other, scratch)
        if own and other == leaf:
            scratch[q] = np.inf
        lanes = lanes_up_to(scratch, bounds[q])
        if lanes != 0:
            _insert(lists, q, first, lanes, scratch)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _insert(lists, q, first, lanes, scratch):  # type: ignore[no-untyped-def]
    """Put candidates into the list of query q, and lower what it is bounded by."""
    dist, places, last = lists.dist, lists.place, lists.last
    bound, tied = lists.bounds[q], lists.tied[q]
    while lanes != 0:
        i = lowest(lanes)
        lanes &= lanes - np.uint32(1)
        x, place = scratch[i], np.int32(first + i)
        if x < bound or (x == dist[q, last] and place < places[q, last]):
            for run in range(dist.shape[1] - RUN, 0, -RUN):
                insert_run(dist, places, q, run, x, place)
            tied = dist[q, last] == bound
            bound = min(bound, dist[q, last])
        elif x == bound:
            tied = True
    lists.bounds[q], lists.tied[q] = bound, tied
