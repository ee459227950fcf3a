"""How strongly rows belong to each chosen cluster, rather than only to their own."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.hierarchy import CondensedTree

__all__ = ["memberships"]

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

_LEAST = 1e-8  # what a difference of densities counts at least


def memberships(
    tree: CondensedTree, selected: I64, cluster: I32, density: F64, distances: F64
) -> F64:
    """Combine how near rows are to clusters' exemplars with where they join them.

    Parameters
    ----------
    tree : CondensedTree
    selected : ndarray of shape (k,)
        The chosen clusters.
    cluster : ndarray of shape (n,)
        The cluster that each row's neighbor falls out of.
    density : ndarray of shape (n,)
        The lower of the densities at which row and neighbor do.
    distances : ndarray of shape (n, k)
        From each row to the nearest exemplar of each cluster.

    Returns
    -------
    memberships : ndarray of shape (n, k)
        A row of it sums to the probability of being in some cluster.
    """
    heights = np.empty(distances.shape)
    _merge_heights(tree.parent, tree.birth, selected, cluster, density, heights)
    ends = tree.death[cluster][:, None]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        score = ends / np.maximum(ends - heights, _LEAST)
        score = np.where(np.isfinite(score), score, np.finfo(np.float64).max)
        joining = np.exp(score - score.max(axis=1, keepdims=True))
        joining /= joining.sum(axis=1, keepdims=True)
        nearness = distances.min(axis=1, keepdims=True) / distances
        nearness = np.where(distances > 0, nearness, 1.0)
        nearness /= nearness.sum(axis=1, keepdims=True)
        both = np.sqrt(nearness) * joining**2
        both /= both.sum(axis=1, keepdims=True)
        rows = np.arange(len(cluster))
        nearest = heights.argmax(axis=1)
        height = heights[rows, nearest]
        end = np.maximum(density, tree.death[selected[nearest]])
        some = np.where(np.isinf(height), 1.0, height / (end + _LEAST))
    found: F64 = both * some[:, None]
    return found


@numba.njit(nogil=True, cache=True)
def _merge_heights(parent, birth, selected, cluster, density, heights):  # type: ignore[no-untyped-def]
    """Find the density at which each row's cluster meets each chosen one (heights: OUT)."""
    for row in range(cluster.shape[0]):
        for label in range(selected.shape[0]):
            own, other = np.int64(cluster[row]), selected[label]
            climbed_own, climbed_other, last = False, False, own
            while own != other:
                if own > other:
                    climbed_own, last, own = True, own, parent[own]
                else:
                    climbed_other, last, other = True, other, parent[other]
            apart = climbed_own and climbed_other
            heights[row, label] = birth[last] if apart else density[row]
