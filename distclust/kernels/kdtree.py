"""An implicit kd-tree over a permuted copy of the points.

Every leaf holds exactly `LEAF` points (the last one is padded with infinity) and keeps
its coordinates feature by feature, so a scan of a leaf is a few SIMD loops of constant
length. Nodes are numbered as in a binary heap: children of ``k`` are ``2k`` and
``2k + 1``, and leaf ``l`` is node ``2**depth + l``. A node splits where the number of
leaves on its left is a power of two, so nothing but boxes has to be stored.

Distances are *reduced*: squared for the Euclidean metric, plain for the others. The
reduced distance of two points is a sum (or maximum) over features in order, in float64
and without contraction: symmetric, and the same bits wherever it is computed. Bounds
from boxes add up in the same order; as rounding is monotone, they are never above a
distance they bound.

Queries go a leaf at a time, in tree order, so that neighbours share what they read:
`distclust.kernels.neighbors` and `distclust.kernels.boruvka`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.arrays import Mapper, copied
from distclust.kernels.lanes import (
    LANES,
    box_chebyshev,
    box_manhattan,
    box_sq_euclidean,
    chebyshev,
    manhattan,
    sq_euclidean,
)
from distclust.kernels.sieve import Sieve, fill_sieve, make_sieve

__all__ = [
    "CHEBYSHEV",
    "EUCLIDEAN",
    "LEAF",
    "MANHATTAN",
    "UNBOUNDED",
    "KDTree",
    "box_distance",
    "build",
    "leaf_box_distances",
    "leaf_distances",
    "over_leaves",
    "searching",
]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

LEAF = LANES  # points a leaf
EUCLIDEAN, MANHATTAN, CHEBYSHEV = 0, 1, 2
UNBOUNDED = float(np.finfo(np.float64).max)  # below the infinity of padding
SIEVED = 5  # features from which on products rule out pairs before they are measured
_TILES, _MIN_TILE_LEAVES = 128, 16
_CENTER_ROWS = 1000  # that the center of products is the median of: outliers do not move it


class KDTree(NamedTuple):
    """Points in tree order, and the boxes of the nodes."""

    blocks: F64  # (leaves, d, LEAF): coordinates, infinite beyond the last point
    low: F64  # (nodes, d): a node's tight box; empty nodes have low > high
    high: F64  # (nodes, d)
    order: I64  # (n,): which row of the input is at each place of the tree
    metric: int
    sieve: Sieve

    @property
    def n_leaves(self) -> int:
        return len(self.blocks)


def over_leaves(map_tiles: Mapper, tree: KDTree, kernel: Callable[..., None], *args: Any) -> None:
    """Run ``kernel(*args, first, last)`` on ranges of leaves."""
    n = tree.n_leaves
    step = max(_MIN_TILE_LEAVES, n // _TILES)
    map_tiles(lambda start: kernel(*args, start, min(start + step, n)), range(0, n, step))


def build(X: F64, metric: int, map_tiles: Mapper) -> KDTree:
    """Build a tree over the rows of X of shape (n, d), float64 and finite, n >= 1."""
    n, d = X.shape
    leaves = -(-n // LEAF)
    depth = max(leaves - 1, 0).bit_length()
    points, order = copied(X, map_tiles), np.arange(n, dtype=np.int64)
    tops = min(depth, 6)
    for level in range(tops):
        map_tiles(
            lambda node: _arrange(points, order, node, depth, 1), range(1 << level, 2 << level)
        )
    map_tiles(lambda node: _arrange(points, order, node, depth, depth), range(1 << tops, 2 << tops))
    blocks = np.empty((leaves, d, LEAF))
    low, high = np.full((2 << depth, d), np.inf), np.full((2 << depth, d), -np.inf)
    center = np.median(X[:: -(-n // _CENTER_ROWS)], axis=0)
    tree = KDTree(blocks, low, high, order, metric, make_sieve(0, center))
    over_leaves(map_tiles, tree, _fill_leaves, points, blocks, low, high, depth)
    _join_boxes(low, high)
    return _sieved(tree, center, map_tiles) if metric == EUCLIDEAN and d >= SIEVED else tree


def _sieved(tree: KDTree, center: F64, map_tiles: Mapper) -> KDTree:
    sieve = make_sieve(tree.n_leaves, center)
    over_leaves(map_tiles, tree, fill_sieve, tree.blocks, len(tree.order), sieve)
    return tree._replace(sieve=sieve)


def searching(queries: KDTree, tree: KDTree, map_tiles: Mapper) -> KDTree:
    """Return queries ready to search another tree: products are relative to its center."""
    mine, theirs = queries.sieve, tree.sieve
    if not len(theirs.longest) or np.array_equal(mine.center, theirs.center):
        return queries
    return _sieved(queries, theirs.center, map_tiles)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _arrange(points, order, root, depth, levels):  # type: ignore[no-untyped-def]
    """Split node `root`, and what is under it to that many levels, in place (INOUT)."""
    n = points.shape[0]
    stack = np.empty(2 * depth + 2, np.int64)
    stack[0], size = root, 1
    level_of_root = _level(root)
    while size > 0:
        size -= 1
        node = stack[size]
        level = _level(node)
        below = depth - level
        start = ((node - (1 << level)) << below) * LEAF
        if below == 0 or level - level_of_root >= levels or start >= n:
            continue
        stop = min(n, start + (LEAF << below))
        middle = start + (LEAF << (below - 1))
        if middle < stop:
            axis, extent = _widest(points[start:stop])
            if extent > 0:
                _select(points[start:stop], order[start:stop], middle - start, axis)
            stack[size] = 2 * node + 1
            size += 1
        stack[size] = 2 * node
        size += 1


@numba.njit(nogil=True, cache=True)
def _level(node):  # type: ignore[no-untyped-def]
    level = 0
    while node > 1:
        node >>= 1
        level += 1
    return level


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _widest(points):  # type: ignore[no-untyped-def]
    """Return the feature that varies most, and how much (halved: it cannot overflow)."""
    n, d = points.shape
    low, high = points[0].copy(), points[0].copy()
    for i in range(n):
        for j in range(d):
            x = points[i, j]
            low[j] = x if x < low[j] else low[j]
            high[j] = x if x > high[j] else high[j]
    axis, extent = 0, 0.0
    for j in range(d):
        if high[j] / 2 - low[j] / 2 > extent:
            axis, extent = j, high[j] / 2 - low[j] / 2
    return axis, extent


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _select(points, order, k, axis):  # type: ignore[no-untyped-def]
    """Arrange rows so that the first k are not above the others along `axis` (INOUT)."""
    d = points.shape[1]
    left, right = 0, points.shape[0] - 1
    while left < right:
        pivot = _pivot(points, left, right, axis)
        i, j = left, right
        while i <= j:
            while points[i, axis] < pivot:
                i += 1
            while points[j, axis] > pivot:
                j -= 1
            if i <= j:
                for f in range(d):
                    points[i, f], points[j, f] = points[j, f], points[i, f]
                order[i], order[j] = order[j], order[i]
                i += 1
                j -= 1
        if k <= j:
            right = j
        elif k >= i:
            left = i
        else:
            return


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _pivot(points, left, right, axis):  # type: ignore[no-untyped-def]
    """Return the median of nine rows spread over the range (of three, if it is short)."""
    if right - left < 64:
        return _median(points[left, axis], points[(left + right) // 2, axis], points[right, axis])
    step = (right - left) // 8
    a = _median(points[left, axis], points[left + step, axis], points[left + 2 * step, axis])
    i = left + 3 * step
    b = _median(points[i, axis], points[i + step, axis], points[i + 2 * step, axis])
    i = left + 6 * step
    c = _median(points[i, axis], points[i + step, axis], points[i + 2 * step, axis])
    return _median(a, b, c)


@numba.njit(nogil=True, cache=True, inline="always")
def _median(a, b, c):  # type: ignore[no-untyped-def]
    return max(min(a, b), min(max(a, b), c))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _fill_leaves(points, blocks, low, high, depth, first, last):  # type: ignore[no-untyped-def]
    """Write blocks and boxes of some leaves (OUT)."""
    n, d = points.shape
    for leaf in range(first, last):
        start = leaf * LEAF
        stop = min(n, start + LEAF)
        node = (1 << depth) + leaf
        for j in range(d):
            line = blocks[leaf, j]
            line[:] = np.inf
            least, most = points[start, j], points[start, j]
            for i in range(start, stop):
                x = points[i, j]
                line[i - start] = x
                least = x if x < least else least
                most = x if x > most else most
            low[node, j], high[node, j] = least, most


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _join_boxes(low, high):  # type: ignore[no-untyped-def]
    """Make each inner node's box of its children's (INOUT)."""
    for node in range(low.shape[0] // 2 - 1, 0, -1):
        for j in range(low.shape[1]):
            low[node, j] = min(low[2 * node, j], low[2 * node + 1, j])
            high[node, j] = max(high[2 * node, j], high[2 * node + 1, j])


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def box_distance(queries, a, tree, b):  # type: ignore[no-untyped-def]
    """Return a lower bound of the reduced distance between points of two nodes."""
    total = 0.0
    for j in range(tree.low.shape[1]):
        t = max(tree.low[b, j] - queries.high[a, j], queries.low[a, j] - tree.high[b, j], 0.0)
        if tree.metric == EUCLIDEAN:
            total += t * t
        elif tree.metric == MANHATTAN:
            total += t
        else:
            total = max(total, t)
    return total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def leaf_box_distances(queries, leaf, tree, node, out):  # type: ignore[no-untyped-def]
    """Bound the reduced distances of a leaf's points to a node's from below (OUT)."""
    if tree.metric == EUCLIDEAN:
        box_sq_euclidean(queries.blocks, leaf, tree.low, tree.high, node, out)
    elif tree.metric == MANHATTAN:
        box_manhattan(queries.blocks, leaf, tree.low, tree.high, node, out)
    else:
        box_chebyshev(queries.blocks, leaf, tree.low, tree.high, node, out)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def leaf_distances(queries, leaf, q, tree, other, out):  # type: ignore[no-untyped-def]
    """Measure the reduced distances of point q of a leaf to another leaf's points (OUT)."""
    if tree.metric == EUCLIDEAN:
        sq_euclidean(queries.blocks, leaf, q, tree.blocks, other, out)
    elif tree.metric == MANHATTAN:
        manhattan(queries.blocks, leaf, q, tree.blocks, other, out)
    else:
        chebyshev(queries.blocks, leaf, q, tree.blocks, other, out)
