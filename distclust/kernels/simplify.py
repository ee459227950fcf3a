"""A condensed tree without the clusters that hardly rise above their splits."""

from __future__ import annotations

import numba
import numpy as np

from distclust.kernels.flat import peak_densities
from distclust.kernels.hierarchy import CondensedTree

__all__ = ["simplify"]


def simplify(tree: CondensedTree, threshold: float) -> CondensedTree:
    """Undo splits of which one side's peak is less than a threshold above the split.

    Where neither side splits again, the parent takes in both as they are. Otherwise it
    goes on as the side with the higher peak, and the other's rows fall out at the split.

    Parameters
    ----------
    tree : CondensedTree
    threshold : float
        In units of density.
    """
    gone, fallen_at = _undo(tree.parent, tree.birth, peak_densities(tree), threshold)
    into = np.arange(tree.n_clusters)
    _follow(tree.parent, gone, into, fallen_at)
    number = np.cumsum(~gone, dtype=np.int32) - np.int32(1)
    kept = np.flatnonzero(~gone)
    death = np.zeros(tree.n_clusters)
    np.maximum.at(death, into, np.minimum(tree.death, fallen_at))
    parent = np.full(len(kept), -1, dtype=np.int64)
    parent[1:] = number[into[tree.parent[kept[1:]]]]
    return CondensedTree(
        parent=parent,
        birth=tree.birth[kept],
        death=death[kept],
        size=tree.size[kept],
        row_cluster=number[into][tree.row_cluster],
        row_density=np.minimum(tree.row_density, fallen_at[tree.row_cluster]),
    )


@numba.njit(nogil=True, cache=True)
def _undo(parent, birth, peak, threshold):  # type: ignore[no-untyped-def]
    """Say which clusters go, and at which density the rows of the weaker sides fall out."""
    c = parent.shape[0]
    leaf, gone = np.ones(c, np.bool_), np.zeros(c, np.bool_)
    for k in range(1, c):
        leaf[parent[k]] = False
    fallen_at = np.full(c, np.inf)
    for left in range(c - 2, 0, -2):  # siblings have neighbouring numbers
        right = left + 1
        weak, strong = (left, right) if peak[left] <= peak[right] else (right, left)
        if peak[weak] - birth[weak] >= threshold:
            continue
        gone[left] = gone[right] = True
        if leaf[strong]:
            leaf[parent[left]] = True
        else:
            fallen_at[weak] = birth[weak]
    return gone, fallen_at


@numba.njit(nogil=True, cache=True)
def _follow(parent, gone, into, fallen_at):  # type: ignore[no-untyped-def]
    """Hand down what becomes of a cluster to those that went into it."""
    for k in range(1, parent.shape[0]):
        if gone[k]:
            into[k] = into[parent[k]]
            fallen_at[k] = min(fallen_at[k], fallen_at[parent[k]])
