"""Where in a condensed tree a new row would join: at the row it reaches most densely."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.arrays import Mapper
from distclust.kernels.hierarchy import CondensedTree
from distclust.kernels.kdtree import LEAF, UNBOUNDED, KDTree, over_leaves, searching
from distclust.kernels.lanes import RUN
from distclust.kernels.neighbors import empty_lists, fill_lists

__all__ = ["Joined", "Reached", "join", "reach"]

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


class Reached(NamedTuple):
    """The fitted row at the least mutual reachability distance of each new one.

    Of those at the same distance the nearest, and of those the first in the fitted tree.
    """

    place: I32  # (n,): in the fitted tree
    dist: F64  # (n,): reduced


class Joined(NamedTuple):
    """Where new rows would join."""

    neighbor: I64  # (n,): the row they join at
    cluster: I32  # (n,): the cluster that they would fall out of
    density: F64  # (n,): and at which density


def reach(queries: KDTree, tree: KDTree, core: F64, min_samples: int, map_tiles: Mapper) -> Reached:
    """Reach into a fitted tree; a new row's core distance is to its nearest but `min_samples`.

    Looks at twice as many neighbours at most.

    Parameters
    ----------
    queries : KDTree
        The new rows. Results are in its order.
    tree : KDTree
        The fitted rows.
    core : ndarray
        Their reduced core distances, in tree order.
    min_samples : int
    map_tiles : callable
    """
    n, rows = len(queries.order), len(tree.order)
    found = Reached(np.zeros(n, np.int32), np.empty(n))
    few, more = min(min_samples + 1, rows), min(2 * min_samples, rows)
    queries = searching(queries, tree, map_tiles)
    over_leaves(map_tiles, queries, _reach, queries, tree, core, few, more, found)
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _reach(queries, tree, core, few, more, found, first, last):  # type: ignore[no-untyped-def]
    """Reach from some leaves (found: OUT)."""
    n = found.dist.shape[0]
    near, further = empty_lists(few), empty_lists(more)
    own_core = np.empty(LEAF)
    for leaf in range(first, last):
        start, stop = leaf * LEAF, min(n, (leaf + 1) * LEAF)
        near.bounds[:], further.bounds[:] = -1.0, -1.0
        near.bounds[: stop - start] = UNBOUNDED
        fill_lists(queries, leaf, tree, False, near)
        own_core[:] = near.dist[:, near.last]
        found.dist[start:stop] = np.inf
        for q in range(stop - start):
            _least(near, q, own_core[q], core, found, start + q)
            if found.dist[start + q] > own_core[q]:  # one that is beyond may be reached sooner
                further.bounds[q] = found.dist[start + q]
        if further.bounds.max() > 0:
            fill_lists(queries, leaf, tree, False, further)
            for q in range(stop - start):
                _least(further, q, own_core[q], core, found, start + q)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _least(lists, q, own_core, core, found, p):  # type: ignore[no-untyped-def]
    """Look for what is reached sooner among the neighbours of query q (found: INOUT)."""
    for i in range(RUN, lists.last + 1):
        dist, place = lists.dist[q, i], lists.place[q, i]
        if found.dist[p] <= max(dist, own_core):
            return  # no later one is
        reached = max(dist, own_core, core[place])
        if reached < found.dist[p]:
            found.dist[p], found.place[p] = reached, place


def join(tree: CondensedTree, neighbor: I64, density: F64) -> Joined:
    """Climb from each neighbor's cluster to the one that is as sparse as the new row.

    A new row that is denser than its neighbor leaves with it.
    """
    cluster = tree.row_cluster[neighbor]
    _climb(tree.parent, tree.birth, density, cluster)
    return Joined(neighbor, cluster, density)


@numba.njit(nogil=True, cache=True)
def _climb(parent, birth, density, cluster):  # type: ignore[no-untyped-def]
    for row in range(cluster.shape[0]):
        k = cluster[row]
        while k > 0 and birth[k] >= density[row]:
            k = parent[k]
        cluster[row] = k
