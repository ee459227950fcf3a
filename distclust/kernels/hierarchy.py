"""The condensed cluster tree, straight from sorted spanning-tree edges.

One bottom-up pass of union-find over the edges does it: components below the minimum
size are only union-find trees of rows, a component that reaches the size opens a cluster,
what joins a cluster while too small falls out of it there, and two clusters that meet
get a parent. The linkage matrix never exists; work is linear, nothing recurses.

A cluster's number is its place in a breadth-first walk of the single linkage tree from
the top, seen from row 0: of the two halves of a split, the one that the spanning tree
reaches first from row 0 goes first. That is the numbering of the `hdbscan` package when
Prim's algorithm builds its tree, and here a function of the edges alone.

The condensed tree is that of R. Campello, D. Moulavi and J. Sander, "Density-based
clustering based on hierarchical density estimates" (2013); density is ``1 / distance``.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.edges import SpanningTree
from distclust.kernels.intrinsics import fetch_soon

__all__ = ["CondensedTree", "condense", "densities"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

_AHEAD = 16  # edges whose rows are fetched from memory meanwhile


class CondensedTree(NamedTuple):
    """Clusters of at least the minimum size, the root first, parents before children.

    Densities are inverse mutual reachability distances; a distance of zero is infinitely
    dense.
    """

    parent: I64  # (c,): -1 for the root
    birth: F64  # (c,): density at which the cluster splits off its parent; 0 for the root
    death: F64  # (c,): density at which its last rows fall out or it splits
    size: I64  # (c,): rows when it is born
    row_cluster: I32  # (n,): the cluster each row falls out of
    row_density: F64  # (n,): and at which density

    @property
    def n_clusters(self) -> int:
        return len(self.parent)


def densities(weights: F64) -> F64:
    """Inverse of distances, infinite for zero."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse: F64 = 1.0 / weights
    return inverse


def condense(edges: SpanningTree, min_cluster_size: int) -> CondensedTree:
    """Condense the single linkage tree of a spanning tree.

    Parameters
    ----------
    edges : SpanningTree
        Of n rows, ascending. An infinite weight is a row infinitely far from the others.
    min_cluster_size : int
        At least 2. Where fewer rows than that are a finite distance apart, those make the
        root.

    Examples
    --------
    Two pairs of rows one apart, which meet at distance four:

    >>> edges = SpanningTree(np.array([0, 2, 1]), np.array([1, 3, 2]), np.array([1.0, 1.0, 4.0]))
    >>> tree = condense(edges, 2)
    >>> tree.parent, tree.birth, tree.row_cluster
    (array([-1,  0,  0]), array([0.  , 0.25, 0.25]), array([1, 1, 2, 2], dtype=int32))
    """
    if not len(edges.u):
        return _lone_row()
    within_reach = int(np.searchsorted(edges.weights, np.inf)) + 1
    smallest = max(2, min(min_cluster_size, within_reach))
    passed = _pass(edges, smallest)
    depth, rank = _walk(edges.u, edges.v, *passed)
    return _numbered(densities(edges.weights), passed, depth, rank)


def _lone_row() -> CondensedTree:
    zero, none = np.zeros(1), np.zeros(1, dtype=np.int32)
    return CondensedTree(np.array([-1]), zero, zero, np.array([1]), none, zero)


class Passed(NamedTuple):
    """What the bottom-up pass leaves: clusters in order of creation, so the root last."""

    u_child: I32  # (c,): the child that holds the lower row of the splitting edge; -1 for a leaf
    v_child: I32  # (c,): and the one that holds the higher
    last_edge: I64  # (c,): the edge of the split, or at which a leaf's last rows fall out
    size: I64  # (c,): rows when the cluster is born
    falls: I64  # (c,): times that rows fall out between its birth and its split
    row_cluster: I32  # (n,)
    row_edge: I64  # (n,): the edge at which each row falls out


_ROW = np.dtype([("above", np.int64), ("cluster", np.int64), ("at", np.int64)])
"""A row during the pass, in one place of memory: edges come in no order of rows.

``above`` leads to the root of a row's component. A root's own is negative: its number of
rows while that is below the smallest size, and beyond that, the number of its cluster.
A row falls out of ``cluster`` at edge ``at``; where that is -1, together with row ``at``.
"""


def _pass(edges: SpanningTree, smallest: int) -> Passed:
    n = len(edges.u) + 1
    rows = np.empty(n, _ROW)
    rows["above"], rows["cluster"] = -1, -1
    most = max(1, 2 * (n // smallest) - 1)
    children = np.full((2, most), -1, np.int32)
    last_edge, size, falls = np.zeros((3, most), np.int64)
    c = _union_pass(edges.u, edges.v, smallest, rows, *children, last_edge, size, falls)
    row_cluster, row_edge = np.empty(n, np.int32), np.empty(n, np.int64)
    _hand_down(rows, row_cluster, row_edge)
    u_child, v_child = children[:, :c]
    return Passed(u_child, v_child, last_edge[:c], size[:c], falls[:c], row_cluster, row_edge)


@numba.njit(nogil=True, cache=True, inline="always")
def _find(rows, x):  # type: ignore[no-untyped-def]
    above = rows[x].above
    while above >= 0:
        further = rows[above].above
        if further >= 0:
            rows[x].above = further
        x, above = above, further
    return x


@numba.njit(nogil=True, cache=True)
def _union_pass(u, v, smallest, rows, u_child, v_child, last_edge, size, falls):  # type: ignore[no-untyped-def]
    """Condense bottom-up (rows: INOUT, what is by cluster: OUT); return how many there are.

    A component is represented by its union-find root. Of two components the larger one's
    root stays, so in a merge of unequal kinds the cluster is the first one's.
    """
    n_clusters, n_edges = 0, u.shape[0]
    n_rows = np.empty(u_child.shape[0], np.int64)  # of each cluster, by now
    for edge in range(n_edges):
        ahead = min(edge + _AHEAD, n_edges - 1)
        fetch_soon(rows.ctypes.data + u[ahead] * rows.itemsize)
        fetch_soon(rows.ctypes.data + v[ahead] * rows.itemsize)
        first, second = _find(rows, u[edge]), _find(rows, v[edge])
        big, other = -smallest - rows[first].above, -smallest - rows[second].above
        more = n_rows[big] if big >= 0 else big + smallest
        fewer = n_rows[other] if other >= 0 else other + smallest
        swapped = more < fewer
        if swapped:
            first, second, big, other, more, fewer = second, first, other, big, fewer, more
        rows[second].above = first
        if more + fewer < smallest:
            rows[first].above = -(more + fewer)
            rows[second].at = first
            continue
        cluster = big if big >= 0 and other < 0 else n_clusters
        n_rows[cluster] = more + fewer
        for root, its in ((first, big), (second, other)):
            if its < 0:
                rows[root].cluster, rows[root].at = cluster, edge
        if cluster < n_clusters:
            falls[cluster] += 1
            continue
        if other >= 0:
            size[big], size[other] = more, fewer
            u_child[cluster], v_child[cluster] = (other, big) if swapped else (big, other)
        last_edge[cluster] = edge
        rows[first].above = -smallest - cluster
        n_clusters += 1
    size[n_clusters - 1] = n_edges + 1
    return n_clusters


@numba.njit(nogil=True, cache=True)
def _hand_down(rows, row_cluster, row_edge):  # type: ignore[no-untyped-def]
    """Write what each row falls out of, and at which edge (row_cluster, row_edge: OUT)."""
    for row in range(rows.shape[0]):
        at = row
        while rows[at].cluster < 0:
            at = rows[at].at
        row_cluster[row], row_edge[row] = rows[at].cluster, rows[at].at


@numba.njit(nogil=True, cache=True)
def _subtree_starts(u_child, v_child):  # type: ignore[no-untyped-def]
    """Preorder positions: a cluster's descendants are the ``below`` positions from its own."""
    c = u_child.shape[0]
    below = np.ones(c, np.int64)
    for k in range(c):  # children are created before their parents
        if u_child[k] >= 0:
            below[k] += below[u_child[k]] + below[v_child[k]]
    start = np.zeros(c, np.int64)
    for k in range(c - 1, -1, -1):
        if u_child[k] >= 0:
            start[u_child[k]] = start[k] + 1
            start[v_child[k]] = start[k] + 1 + below[u_child[k]]
    return start, below


@numba.njit(nogil=True, cache=True)
def _walk(u, v, u_child, v_child, last_edge, _, falls, row_cluster, row_edge):  # type: ignore[no-untyped-def]
    """Return each cluster's depth in the linkage tree when it splits, and its preorder rank.

    ``entry`` is the row at which the spanning tree, coming from row 0, enters a cluster.
    Once that row has fallen out, the far end of the edge it fell by takes its place.
    Falls ascend in density, so a cluster's entries move at most once a fall.
    """
    c = u_child.shape[0]
    start, below = _subtree_starts(u_child, v_child)
    entry, depth, rank = np.zeros(c, np.int64), np.zeros(c, np.int64), np.zeros(c, np.int64)
    for k in range(c - 1, -1, -1):
        depth[k] += falls[k]
        if u_child[k] < 0:
            continue
        row = entry[k]
        while row_cluster[row] == k:
            edge = row_edge[row]
            row = v[edge] if row_edge[u[edge]] == edge else u[edge]
        left, right, across = u_child[k], v_child[k], v[last_edge[k]]
        if not 0 <= start[row_cluster[row]] - start[left] < below[left]:
            left, right, across = right, left, u[last_edge[k]]
        entry[left], entry[right] = row, across
        depth[left] = depth[right] = depth[k] + 1
        rank[left] = rank[k] + 1
        rank[right] = rank[k] + 1 + below[left]
    return depth, rank


def _numbered(density: F64, passed: Passed, depth: I64, rank: I64) -> CondensedTree:
    """Number clusters breadth first: splits by depth and then from left to right."""
    count = len(depth)
    splits = np.flatnonzero(passed.u_child >= 0)
    splits = splits[np.lexsort((rank[splits], depth[splits]))]
    children = np.stack([passed.u_child[splits], passed.v_child[splits]], axis=1)
    right_first = rank[children[:, 0]] > rank[children[:, 1]]
    children[right_first] = children[right_first, ::-1]
    order = np.concatenate([[count - 1], children.ravel()])
    number = np.empty(count, dtype=np.int32)
    number[order] = np.arange(count, dtype=np.int32)
    parent = np.full(count, -1, dtype=np.int64)
    parent[1:] = np.repeat(number[splits], 2)
    death = density[passed.last_edge[order]]
    birth = np.zeros(count)
    birth[1:] = death[parent[1:]]
    return CondensedTree(
        parent=parent,
        birth=birth,
        death=death,
        size=passed.size[order],
        row_cluster=number[passed.row_cluster],
        row_density=density[passed.row_edge],
    )
