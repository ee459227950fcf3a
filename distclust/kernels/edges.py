"""Edges of a spanning tree as flat arrays, in the total order that makes the tree unique.

Mutual reachability distances tie by construction (all of a dense neighbourhood is at its
core distance), so a minimum spanning tree is made unique by ordering edges by
``(weight, lower row id, higher row id)``. Whatever is derived from the tree is then a
function of the data and the row ids alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.arrays import Mapper
from distclust.kernels.intrinsics import bits_of

__all__ = ["SpanningTree", "in_total_order", "total_order"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_FEW = 32  # edges that insertion sorts best
_PART = 1 << 15  # edges that are sorted in a cache
_TRAILING_BITS = 47  # of a weight; before them a sign, the exponent and five bits


class SpanningTree(NamedTuple):
    """The minimum spanning tree of n rows, edges ascending by ``(weight, u, v)``."""

    u: npt.NDArray[np.int64]  # (n - 1,): lower row id
    v: npt.NDArray[np.int64]  # (n - 1,): higher row id
    weights: npt.NDArray[np.float64]  # (n - 1,): mutual reachability distance


def in_total_order(a: I64, b: I64, weights: F64, map_tiles: Mapper) -> SpanningTree:
    """Sort edges, given by their ends in any order, ascending by ``(weight, u, v)``.

    Examples
    --------
    >>> def in_turn(fn, tiles):
    ...     return [fn(tile) for tile in tiles]
    >>> in_total_order(np.array([2, 1]), np.array([1, 0]), np.array([0.5, 0.5]), in_turn)
    SpanningTree(u=array([0, 1]), v=array([1, 2]), weights=array([0.5, 0.5]))
    """
    order = total_order(a, b, weights, map_tiles)
    tree = SpanningTree(np.empty_like(a), np.empty_like(a), np.empty_like(weights))
    map_tiles(
        lambda start: _take(a, b, weights, order, *tree, start, start + _PART),
        range(0, len(order), _PART),
    )
    return tree


def total_order(a: I64, b: I64, weights: F64, map_tiles: Mapper) -> I64:
    """Return what sorts edges ascending by ``(weight, lower id, higher id)``.

    Weights are zero or positive, so their bits ascend as they do: edges are first spread by
    leading bits to parts that fit into a cache, and those sorted one by one.
    """
    order, spread, starts = _spread(weights) if len(weights) > _PART else _all_of(weights)

    def sort(i: int) -> None:
        part = slice(starts[i], starts[i + 1])
        ascending = np.argsort(spread[part])
        order[part] = order[part][ascending]
        _sort_ties(order[part], spread[part][ascending], a, b)

    map_tiles(sort, range(len(starts) - 1))
    return order


def _all_of(weights: F64) -> tuple[I64, F64, I64]:
    return np.arange(len(weights)), weights, np.array([0, len(weights)])


def _spread(weights: F64) -> tuple[I64, F64, I64]:
    """Return the edges by leading bits of their weights, these, and where parts begin."""
    counts = np.zeros(1 << (64 - _TRAILING_BITS), np.int64)
    _count(weights, counts)
    ends = np.cumsum(counts)
    order, spread = np.empty(len(weights), np.int64), np.empty(len(weights))
    _scatter(weights, ends - counts, order, spread)
    firsts = np.searchsorted(ends, np.arange(0, len(weights), _PART), side="right")
    return order, spread, np.unique(np.append(ends[firsts] - counts[firsts], len(weights)))


@numba.njit(nogil=True, cache=True)
def _count(weights, counts):  # type: ignore[no-untyped-def]
    for i in range(weights.shape[0]):
        counts[bits_of(weights[i]) >> _TRAILING_BITS] += 1


@numba.njit(nogil=True, cache=True)
def _scatter(weights, places, order, spread):  # type: ignore[no-untyped-def]
    """Put each edge and its weight where its bits belong (order, spread: OUT)."""
    for i in range(weights.shape[0]):
        bits = bits_of(weights[i]) >> _TRAILING_BITS
        place = places[bits]
        places[bits] = place + 1
        order[place], spread[place] = i, weights[i]


@numba.njit(nogil=True, cache=True)
def _take(a, b, weights, order, u, v, ascending, start, stop):  # type: ignore[no-untyped-def]
    """Write some of the edges in their order, lower ids first (u, v, ascending: OUT)."""
    for i in range(start, min(stop, order.shape[0])):
        edge = order[i]
        u[i], v[i], ascending[i] = min(a[edge], b[edge]), max(a[edge], b[edge]), weights[edge]


@numba.njit(nogil=True, cache=True)
def _sort_ties(order, ascending, a, b):  # type: ignore[no-untyped-def]
    """Order edges of equal weight by their ends (order: INOUT)."""
    start, n = 0, order.shape[0]
    while start < n:
        stop = start + 1
        while stop < n and ascending[stop] == ascending[start]:
            stop += 1
        if stop - start > _FEW:
            ties = order[start:stop]
            ties[:] = ties[np.argsort(np.maximum(a[ties], b[ties]), kind="mergesort")]
            ties[:] = ties[np.argsort(np.minimum(a[ties], b[ties]), kind="mergesort")]
        elif stop - start > 1:
            _insert_in_turn(order[start:stop], a, b)
        start = stop


@numba.njit(nogil=True, cache=True)
def _insert_in_turn(ties, a, b):  # type: ignore[no-untyped-def]
    for i in range(1, ties.shape[0]):
        edge, at = ties[i], i
        ends = min(a[edge], b[edge]), max(a[edge], b[edge])
        while at > 0:
            before = ties[at - 1]
            if (min(a[before], b[before]), max(a[before], b[before])) <= ends:
                break
            ties[at] = before
            at -= 1
        ties[at] = edge
