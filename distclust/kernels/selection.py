"""Which clusters of a condensed tree make the flat clustering.

Excess of mass and leaf selection are those of R. Campello et al. (2013, 2015), the
distance threshold that of C. Malzer and M. Baum, "A hybrid approach to hierarchical
density-based cluster selection" (2020). Parents come before their children in a
condensed tree, so each is one loop forwards or backwards over the clusters.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.hierarchy import CondensedTree

__all__ = ["Choice", "Method", "select", "stabilities"]

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Method(Enum):
    """How clusters are chosen."""

    EXCESS_OF_MASS = "eom"
    LEAF = "leaf"


class Choice(NamedTuple):
    """Clusters chosen from a condensed tree, none inside another."""

    chosen: Mask  # (c,)
    mass: F64  # (c,): stability, or that of the descendants that are preferred to the cluster


def stabilities(tree: CondensedTree) -> F64:
    """Return each cluster's excess of mass: how long its rows stay, summed over them.

    Infinite for a cluster whose rows stay for ever, because more than `min_samples` of
    them are equal; zero for one that is born infinitely dense.
    """
    total = np.zeros(tree.n_clusters)
    _sum_lifetimes(tree.parent, tree.birth, tree.size, tree.row_cluster, tree.row_density, total)
    return total


@numba.njit(nogil=True, cache=True)
def _sum_lifetimes(parent, birth, size, row_cluster, row_density, total):  # type: ignore[no-untyped-def]
    for row in range(row_cluster.shape[0]):
        cluster = row_cluster[row]
        if birth[cluster] < np.inf:
            total[cluster] += row_density[row] - birth[cluster]
    for child in range(1, parent.shape[0]):
        cluster = parent[child]
        if birth[cluster] < np.inf:
            total[cluster] += (birth[child] - birth[cluster]) * size[child]


def select(
    tree: CondensedTree,
    stability: F64,
    longest: float,
    *,
    method: Method = Method.EXCESS_OF_MASS,
    allow_single_cluster: bool = False,
    epsilon: float = 0.0,
    epsilon_max: float = np.inf,
    max_cluster_size: int | None = None,
) -> Choice:
    """Choose clusters of a flat clustering.

    Parameters
    ----------
    tree : CondensedTree
    stability : ndarray of shape (c,)
    longest : float
        Weight of the longest edge, at which the root ends.
    method : Method
    allow_single_cluster : bool
        Whether the root may be chosen.
    epsilon : float
        A cluster that splits off below this distance is replaced by its closest ancestor
        that does so above it.
    epsilon_max : float
        Excess of mass chooses none that splits off above this distance.
    max_cluster_size : int or None
        Excess of mass chooses none that is larger.
    """
    with np.errstate(divide="ignore"):
        distance = 1.0 / tree.birth
    distance[0] = longest
    if method is Method.LEAF:
        chosen, mass = _leaves(tree.parent), stability
    else:
        limit = np.iinfo(np.int64).max if max_cluster_size is None else max_cluster_size
        barred = (tree.size > limit) | (distance > epsilon_max)
        barred[0] |= not allow_single_cluster
        chosen, mass = _excess_of_mass(tree.parent, stability, barred)
    if epsilon > 0 and not chosen[0]:
        chosen = _widened(tree.parent, distance, chosen, epsilon, allow_single_cluster)
    return Choice(chosen, mass)


def _leaves(parent: npt.NDArray[np.int64]) -> Mask:
    """Clusters that do not split. A tree that is only a root has none to choose from."""
    leaf = np.ones(len(parent), dtype=np.bool_)
    leaf[parent[1:]] = False
    leaf[0] = False
    return leaf


@numba.njit(nogil=True, cache=True)
def _excess_of_mass(parent, stability, barred):  # type: ignore[no-untyped-def]
    """Choose what is at least as stable as the best choice among its descendants."""
    c = parent.shape[0]
    below, mass = np.zeros(c), stability.copy()
    chosen = np.empty(c, np.bool_)
    for k in range(c - 1, -1, -1):
        chosen[k] = not (barred[k] or below[k] > stability[k])
        if not chosen[k]:
            mass[k] = below[k]
        if k > 0:
            below[parent[k]] += mass[k]
    return _outermost(parent, chosen), mass


@numba.njit(nogil=True, cache=True)
def _outermost(parent, chosen):  # type: ignore[no-untyped-def]
    """Keep of nested clusters the outer one."""
    c = parent.shape[0]
    inside = np.zeros(c, np.bool_)
    for k in range(1, c):
        inside[k] = inside[parent[k]] or chosen[parent[k]]
        chosen[k] = chosen[k] and not inside[k]
    return chosen


@numba.njit(nogil=True, cache=True)
def _widened(parent, distance, chosen, epsilon, allow_single_cluster):  # type: ignore[no-untyped-def]
    """Replace clusters that split off below a distance by ancestors that do so above it."""
    c = parent.shape[0]
    wide = np.zeros(c, np.bool_)
    climbing = np.zeros(c, np.bool_)  # hands on that a chosen descendant is still too close
    for k in range(c - 1, 0, -1):
        if climbing[k] and distance[k] > epsilon:
            wide[k] = True
            continue
        if not (climbing[k] or chosen[k]):
            continue
        if chosen[k] and distance[k] >= epsilon:
            wide[k] = True
        elif parent[k] > 0 or allow_single_cluster:
            climbing[parent[k]] = True
        else:
            wide[k] = True
    wide[0] = climbing[0]
    return _outermost(parent, wide)
