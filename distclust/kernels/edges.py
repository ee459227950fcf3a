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

__all__ = ["SpanningTree", "in_total_order", "total_order"]

_FEW = 32  # edges that insertion sorts best


class SpanningTree(NamedTuple):
    """The minimum spanning tree of n rows, edges ascending by ``(weight, u, v)``."""

    u: npt.NDArray[np.int64]  # (n - 1,): lower row id
    v: npt.NDArray[np.int64]  # (n - 1,): higher row id
    weights: npt.NDArray[np.float64]  # (n - 1,): mutual reachability distance


def in_total_order(
    a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> SpanningTree:
    """Sort edges, given by their ends in any order, ascending by ``(weight, u, v)``.

    Examples
    --------
    >>> in_total_order(np.array([2, 1]), np.array([1, 0]), np.array([0.5, 0.5]))
    SpanningTree(u=array([0, 1]), v=array([1, 2]), weights=array([0.5, 0.5]))
    """
    order = total_order(a, b, weights)
    u, v = np.minimum(a, b), np.maximum(a, b)
    return SpanningTree(u[order], v[order], weights[order])


def total_order(
    a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Return what sorts edges ascending by ``(weight, lower id, higher id)``."""
    order = np.argsort(weights)
    ascending = weights[order]
    starts = np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])
    sizes = np.diff(np.r_[starts, len(weights)])
    ties = sizes > 1
    _sort_ties(order, np.minimum(a, b), np.maximum(a, b), starts[ties], sizes[ties])
    return order


@numba.njit(nogil=True, cache=True)
def _sort_ties(order, u, v, starts, sizes):  # type: ignore[no-untyped-def]
    """Order edges of equal weight by their ends (order: INOUT)."""
    for start, size in zip(starts, sizes):  # noqa: B905 - numba knows no strict=
        ties = order[start : start + size]
        if size <= _FEW:
            for i in range(1, size):
                edge, at = ties[i], i
                while at > 0 and (u[ties[at - 1]], v[ties[at - 1]]) > (u[edge], v[edge]):
                    ties[at] = ties[at - 1]
                    at -= 1
                ties[at] = edge
        else:
            ties[:] = ties[np.argsort(v[ties], kind="mergesort")]
            ties[:] = ties[np.argsort(u[ties], kind="mergesort")]
