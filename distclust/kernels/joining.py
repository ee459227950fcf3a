"""Where in a condensed tree a new row would join: at the row it reaches most densely."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.hierarchy import CondensedTree

__all__ = ["Joined", "join", "reach"]

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


class Joined(NamedTuple):
    """Where new rows would join."""

    neighbor: I64  # (n,): the row they join at
    cluster: I32  # (n,): the cluster that they would fall out of
    density: F64  # (n,): and at which density


def reach(distances: F64, neighbors: I64, own_core: F64, core: F64) -> tuple[I64, F64]:
    """Return the neighbor at the least mutual reachability distance, and that distance.

    Parameters
    ----------
    distances : ndarray of shape (n, k)
        To the nearest fitted rows, ascending.
    neighbors : ndarray of shape (n, k), int64
    own_core : ndarray of shape (n,)
        Core distances of the new rows.
    core : ndarray
        Core distances of the fitted rows.
    """
    n = len(distances)
    nearest, least = np.empty(n, dtype=np.int64), np.empty(n)
    _reach(distances, neighbors, own_core, core, nearest, least)
    return nearest, least


@numba.njit(nogil=True, cache=True)
def _reach(distances, neighbors, own_core, core, nearest, least):  # type: ignore[no-untyped-def]
    for row in range(distances.shape[0]):
        least[row] = np.inf
        nearest[row] = neighbors[row, 0]
        for k in range(distances.shape[1]):
            if least[row] <= own_core[row] or least[row] <= distances[row, k]:
                break  # no later one is closer than that
            other = neighbors[row, k]
            reached = max(distances[row, k], own_core[row], core[other])
            if reached < least[row]:
                least[row], nearest[row] = reached, other


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
