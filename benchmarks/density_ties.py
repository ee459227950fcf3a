"""Where two exact HDBSCANs disagree: only in the order of merges at equal distances?

Mutual reachability distances tie by construction, so there are many minimum spanning trees,
and binary merges at one distance can be made in many orders; clusters of the minimum size may
come out differently. That this and nothing else tells two clusterings apart is shown in
three steps, without perturbing anything:

1. both hierarchies have the same heights;
2. at every height both have the same components;
3. the labels of each follow from its own order of merges by one and the same function.
"""

from __future__ import annotations

import numba
import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import contingency_matrix

from distclust.cluster.flat_clustering import Selection, cluster
from distclust.kernels.edges import SpanningTree

__all__ = ["differing_rows", "only_ties_differ"]

ROUNDING = 1e-12  # relative; closer heights count as equal


def only_ties_differ(
    one: np.ndarray,
    one_labels: np.ndarray,
    other: np.ndarray,
    other_labels: np.ndarray,
    min_cluster_size: int,
) -> bool:
    """Say whether the proof succeeds.

    Parameters
    ----------
    one, other : ndarray of shape (n - 1, 3) or wider
        Single linkage trees: two nodes that merge, and at which height; node ``n + i`` is
        made by the i-th merge.
    one_labels, other_labels : ndarray of shape (n,)
    min_cluster_size : int
        Of both; other parameters of selection are the defaults.
    """
    edges = _edges(one), _edges(other)
    return (
        np.allclose(edges[0].weights, edges[1].weights, rtol=ROUNDING, atol=0)
        and _same_components(*edges)
        and _follow(one_labels, edges[0], min_cluster_size)
        and _follow(other_labels, edges[1], min_cluster_size)
    )


def differing_rows(one: np.ndarray, other: np.ndarray) -> int:
    """Count the rows labelled otherwise, under the numbering of clusters that leaves fewest."""
    clustered = (one >= 0) & (other >= 0)
    alike = np.count_nonzero((one < 0) & (other < 0))
    if clustered.any():
        shared = contingency_matrix(one[clustered], other[clustered])
        alike += shared[linear_sum_assignment(shared, maximize=True)].sum()
    return len(one) - int(alike)


def _edges(linkage: np.ndarray) -> SpanningTree:
    """Return edges, one of any two rows a merge, in the order of merges."""
    left, right = linkage[:, 0].astype(np.int64), linkage[:, 1].astype(np.int64)
    a, b = _rows_of(left, right)
    return SpanningTree(
        np.minimum(a, b), np.maximum(a, b), np.ascontiguousarray(linkage[:, 2], dtype=np.float64)
    )


@numba.njit
def _rows_of(left, right):  # type: ignore[no-untyped-def]
    """Give each side of a merge its lowest row."""
    n = len(left) + 1
    lowest = np.arange(2 * n - 1)
    for merge in range(n - 1):
        lowest[n + merge] = min(lowest[left[merge]], lowest[right[merge]])
    return lowest[left], lowest[right]


def _same_components(one: SpanningTree, other: SpanningTree) -> bool:
    """Compare after the last merge of each height; there are equally many merges up to it."""
    gaps = np.diff(one.weights) > ROUNDING * one.weights[1:]
    ends = np.append(np.flatnonzero(gaps) + 1, len(one.weights))
    return bool(_joins_nothing(one.u, one.v, other.u, other.v, ends))


@numba.njit
def _joins_nothing(u, v, other_u, other_v, ends):  # type: ignore[no-untyped-def]
    """Say whether the other's merges up to each end are within components of the first's."""
    above = np.arange(len(u) + 1)
    start = 0
    for end in ends:
        for edge in range(start, end):
            above[_root(above, u[edge])] = _root(above, v[edge])
        for edge in range(start, end):
            if _root(above, other_u[edge]) != _root(above, other_v[edge]):
                return False
        start = end
    return True


@numba.njit
def _root(above, row):  # type: ignore[no-untyped-def]
    while above[row] != row:
        above[row] = above[above[row]]
        row = above[row]
    return row


def _follow(labels: np.ndarray, edges: SpanningTree, min_cluster_size: int) -> bool:
    """Whether labels are, numbers aside, what this order of merges leads to."""
    selection = Selection(
        min_cluster_size=min_cluster_size,
        cluster_selection_method="eom",
        cluster_selection_epsilon=0.0,
        cluster_selection_epsilon_max=np.inf,
        cluster_selection_persistence=0.0,
        max_cluster_size=None,
        allow_single_cluster=False,
    )
    found = cluster(edges, selection).labels
    return differing_rows(labels, found) == 0
