"""Which edges of a cell's own tree are known to be in the whole tree, and joining the rest.

Every edge of the whole tree between rows of a cell is in the cell's own tree (cycle
property). And an edge is in the whole tree if it is the first one out of a component
(cut property): of the cell's rows this is known where even the nearest other cell is
farther away than the edge is long.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["certify", "join", "merge_components"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]


def certify(a: I64, b: I64, weights: F64, outward: F64) -> tuple[npt.NDArray[np.bool_], I32, int]:
    """Find the edges of a tree that belong to any greater tree.

    Parameters
    ----------
    a, b : ndarray of shape (n - 1,)
        Ends of the edges, ascending in the total order.
    weights : ndarray of shape (n - 1,)
    outward : ndarray of shape (n,)
        No edge from here to elsewhere weighs less.

    Returns
    -------
    certified : ndarray of shape (n - 1,), bool
    fragment : ndarray of shape (n,), int32
        The parts they join, numbered from 0.
    n_fragments : int

    Examples
    --------
    >>> edges = np.array([0, 1]), np.array([1, 2]), np.array([1.0, 2.0])
    >>> certify(*edges, outward=np.array([5.0, 1.5, 1.5]))
    (array([ True, False]), array([0, 0, 1], dtype=int32), 2)
    """
    certified = np.zeros(len(weights), np.bool_)
    parent = np.arange(len(outward))
    _certify(a, b, weights, outward.copy(), parent, certified)
    fragment, count = _number(parent)
    return certified, fragment, count


@numba.njit(nogil=True, cache=True)
def _root(parent, i):  # type: ignore[no-untyped-def]
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@numba.njit(nogil=True, cache=True)
def _certify(a, b, weights, outward, parent, certified):  # type: ignore[no-untyped-def]
    """One pass in ascending order is enough (parent: INOUT, certified: OUT).

    An edge that fails leaves both its components for good: what they reach outwards only
    falls as they grow. So a component with a failed edge has lost its first edge, and none
    of the later ones can be certified from its side. Copies of a row are in one cell, so
    nothing elsewhere precedes the edges between them, which weigh 0.
    """
    open_edge = np.zeros(parent.shape[0], np.bool_)
    for edge in range(weights.shape[0]):
        x, y = _root(parent, a[edge]), _root(parent, b[edge])
        weight = weights[edge]
        if (
            (not open_edge[x] and weight < outward[x])
            or (not open_edge[y] and weight < outward[y])
            or weight == 0
        ):
            certified[edge] = True
            low, high = min(x, y), max(x, y)
            parent[high] = low
            outward[low] = min(outward[low], outward[high])
            open_edge[low] |= open_edge[high]
        else:
            open_edge[x] = open_edge[y] = True


@numba.njit(nogil=True, cache=True)
def _number(parent):  # type: ignore[no-untyped-def]
    """Number the components; a root precedes what it is the root of."""
    number = np.empty(parent.shape[0], np.int32)
    count = 0
    for i in range(parent.shape[0]):
        if parent[i] == i:
            number[i] = count
            count += 1
        else:
            number[i] = number[_root(parent, i)]
    return number, count


def merge_components(a: I64, b: I64, n: int) -> tuple[npt.NDArray[np.bool_], I32, int]:
    """Join each component along its first edge.

    Parameters
    ----------
    a, b : ndarray of shape (m,)
        Components that known edges join, ascending in the total order.
    n : int
        Components there are.

    Returns
    -------
    chosen : ndarray of shape (m,), bool
    component : ndarray of shape (n,), int32
        The new component of each old one.
    n_components : int
    """
    chosen, parent = np.zeros(len(a), np.bool_), np.arange(n)
    _merge_first(a, b, parent, chosen)
    component, count = _number(parent)
    return chosen, component, count


@numba.njit(nogil=True, cache=True)
def _merge_first(a, b, parent, chosen):  # type: ignore[no-untyped-def]
    has_edge = np.zeros(parent.shape[0], np.bool_)
    for edge in range(a.shape[0]):
        if a[edge] != b[edge] and not (has_edge[a[edge]] and has_edge[b[edge]]):
            has_edge[a[edge]] = has_edge[b[edge]] = True
            _join_edge(parent, a[edge], b[edge], edge, chosen)


@numba.njit(nogil=True, cache=True)
def _join_edge(parent, a, b, edge, chosen):  # type: ignore[no-untyped-def]
    x, y = _root(parent, a), _root(parent, b)
    if x != y:
        parent[max(x, y)] = min(x, y)
        chosen[edge] = True


def join(a: I64, b: I64, n: int) -> tuple[npt.NDArray[np.bool_], I32, int]:
    """Join components along every edge that joins any: returns as `merge_components`."""
    chosen, parent = np.zeros(len(a), np.bool_), np.arange(n)
    _join_all(a, b, parent, chosen)
    component, count = _number(parent)
    return chosen, component, count


@numba.njit(nogil=True, cache=True)
def _join_all(a, b, parent, chosen):  # type: ignore[no-untyped-def]
    for edge in range(a.shape[0]):
        _join_edge(parent, a[edge], b[edge], edge, chosen)
