"""The single linkage tree, for those who want to see it, and its horizontal cuts."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from distclust.kernels.edges import SpanningTree

__all__ = ["cut_labels", "linkage_matrix"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def linkage_matrix(edges: SpanningTree) -> F64:
    """Return the hierarchy as `scipy.cluster.hierarchy` writes it.

    Parameters
    ----------
    edges : SpanningTree
        Of n rows, ascending.

    Returns
    -------
    linkage : ndarray of shape (n - 1, 4)
        The two joined nodes, their distance and the rows of both. The first node is the
        one nearer row 0 along the spanning tree, as `condense` sees it.
    """
    n_rows = len(edges.u) + 1
    _, towards = breadth_first_order(_graph(edges, n_rows), 0, directed=False)
    swapped = towards[edges.u] == edges.v
    near, far = np.where(swapped, edges.v, edges.u), np.where(swapped, edges.u, edges.v)
    linkage = np.empty((n_rows - 1, 4))
    linkage[:, 2] = edges.weights
    _join(near, far, linkage)
    return linkage


@numba.njit(nogil=True, cache=True)
def _join(near, far, linkage):  # type: ignore[no-untyped-def]
    n = near.shape[0] + 1
    above, rows = np.arange(2 * n - 1), np.ones(2 * n - 1, np.int64)
    for edge in range(n - 1):
        for side, node in enumerate((near[edge], far[edge])):
            while above[node] != node:
                above[node] = above[above[node]]
                node = above[node]
            linkage[edge, side] = node
        first, second = np.int64(linkage[edge, 0]), np.int64(linkage[edge, 1])
        above[first] = above[second] = n + edge
        rows[n + edge] = rows[first] + rows[second]
        linkage[edge, 3] = rows[n + edge]


def cut_labels(edges: SpanningTree, distance: float, min_cluster_size: int) -> I64:
    """Label the components of edges shorter than a distance; small ones are noise, -1.

    Labels follow the lowest row of each component.
    """
    n_rows = len(edges.u) + 1
    count = int(np.searchsorted(edges.weights, distance, side="left"))
    short = SpanningTree(edges.u[:count], edges.v[:count], edges.weights[:count])
    _, component = connected_components(_graph(short, n_rows), directed=False)
    large = np.bincount(component) >= min_cluster_size
    label = np.where(large, np.cumsum(large) - 1, -1)
    labels: I64 = label[component]
    return labels


def _graph(edges: SpanningTree, n_rows: int) -> csr_array:
    """Edges as a graph; weights are left out, since a zero would be no edge."""
    present = np.ones(len(edges.u), dtype=np.int8)
    return csr_array((present, (edges.u, edges.v)), shape=(n_rows, n_rows))
