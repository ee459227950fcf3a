"""Labels, probabilities and outlier scores of rows, from a condensed tree and a choice.

Everything about a row follows from the cluster it falls out of, its density there, and a
few numbers of that cluster; so any part of the rows can be labelled anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.hierarchy import CondensedTree

__all__ = [
    "FlatClusters",
    "flatten",
    "outlier_scores",
    "peak_densities",
    "persistence",
    "row_labels",
    "row_probabilities",
]

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class FlatClusters(NamedTuple):
    """A flat clustering, told by cluster."""

    selected: I64  # (k,): the cluster behind each label
    label: I32  # (c,): of the rows that fall out of each cluster; -1 for noise
    least_density: F64  # (c,): rows that fall out below are noise
    death: F64  # (k,): density at which each label's cluster ends
    peak: F64  # (c,): highest density under each cluster


def flatten(tree: CondensedTree, chosen: Mask, *, epsilon: float = 0.0) -> FlatClusters:
    """Number the chosen clusters and hand their labels down to their descendants.

    If the root is the only one, the rows that belong to it are those as dense as its end,
    or within `epsilon` of each other where that is given.
    """
    selected = np.flatnonzero(chosen)
    label = np.full(tree.n_clusters, -1, dtype=np.int32)
    label[selected] = np.arange(len(selected), dtype=np.int32)
    _hand_down(tree.parent, label)
    least = np.zeros(tree.n_clusters)
    if chosen[0]:
        least[:] = 1.0 / epsilon if epsilon > 0 else tree.death[0]
    least = np.maximum(least, np.nextafter(0, 1))  # what is infinitely far is in no cluster
    return FlatClusters(selected, label, least, tree.death[selected], peak_densities(tree))


@numba.njit(nogil=True, cache=True)
def _hand_down(parent, label):  # type: ignore[no-untyped-def]
    for k in range(1, parent.shape[0]):
        if label[k] < 0:
            label[k] = label[parent[k]]


def peak_densities(tree: CondensedTree) -> F64:
    """Return the highest density among each cluster's rows, its descendants' included."""
    peak = tree.death.copy()
    _raise(tree.parent, peak)
    return peak


@numba.njit(nogil=True, cache=True)
def _raise(parent, peak):  # type: ignore[no-untyped-def]
    for k in range(parent.shape[0] - 1, 0, -1):
        peak[parent[k]] = max(peak[parent[k]], peak[k])


def row_labels(flat: FlatClusters, row_cluster: I32, row_density: F64) -> I32:
    """Label rows by the cluster and the density at which they fall out."""
    dense = row_density >= flat.least_density[row_cluster]
    labels: I32 = np.where(dense, flat.label[row_cluster], np.int32(-1))
    return labels


def row_probabilities(flat: FlatClusters, labels: I32, row_density: F64) -> F64:
    """Return how strongly rows belong to their clusters: their density over its last.

    Zero for noise, one for a row that never falls out.
    """
    strength = np.zeros(len(labels))
    _strengths(flat.death, labels, row_density, strength)
    return strength


@numba.njit(nogil=True, cache=True)
def _strengths(death, labels, row_density, strength):  # type: ignore[no-untyped-def]
    for row in range(labels.shape[0]):
        label = labels[row]
        if label >= 0:
            end = death[label]
            if end == 0 or row_density[row] >= end:
                strength[row] = 1.0
            else:
                strength[row] = row_density[row] / end


def outlier_scores(flat: FlatClusters, row_cluster: I32, row_density: F64) -> F64:
    """Return GLOSH scores: how far a row's density is from the peak near it, in [0, 1].

    R. Campello, D. Moulavi, A. Zimek and J. Sander, "Hierarchical density estimates for
    data clustering, visualization, and outlier detection" (2015).
    """
    scores = np.zeros(len(row_cluster))
    _glosh(flat.peak, row_cluster, row_density, scores)
    return scores


@numba.njit(nogil=True, cache=True)
def _glosh(peak, row_cluster, row_density, scores):  # type: ignore[no-untyped-def]
    for row in range(row_cluster.shape[0]):
        top = peak[row_cluster[row]]
        if top == np.inf:
            scores[row] = 0.0 if row_density[row] == np.inf else 1.0
        elif top > 0:
            scores[row] = (top - row_density[row]) / top


def persistence(flat: FlatClusters, mass: F64, labels: I32) -> F64:
    """Return each label's excess of mass, relative to its rows staying up to the highest peak.

    Parameters
    ----------
    flat : FlatClusters
    mass : ndarray of shape (c,)
        Of `distclust.kernels.selection.Choice`.
    labels : ndarray of shape (n,), int32

    Returns
    -------
    persistence : ndarray of shape (k,)
        One where the highest peak is infinite or zero, or a label has no row.
    """
    rows = np.zeros(len(flat.selected), np.int64)
    _count_rows(labels, rows)
    highest = flat.peak[0]
    if highest == 0 or np.isinf(highest):
        return np.ones(len(rows))
    relative: F64 = mass[flat.selected] / np.where(rows > 0, rows * highest, np.inf)
    return np.where(rows > 0, relative, 1.0)


@numba.njit(nogil=True, cache=True)
def _count_rows(labels, rows):  # type: ignore[no-untyped-def]
    for label in labels:
        if label >= 0:
            rows[label] += 1
