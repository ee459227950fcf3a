"""Nearest fitted rows of new ones, in any metric that HDBSCAN takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from distclust.kernels.kdtree import CHEBYSHEV, EUCLIDEAN, MANHATTAN
from distclust.kernels.metrics import METRICS

__all__ = ["NeighborIndex"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

EXPONENTS = {EUCLIDEAN: 2.0, MANHATTAN: 1.0, CHEBYSHEV: np.inf}


class NeighborIndex:
    """Rows to be found.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Finite rows.
    metric : str
        Of `METRICS`.
    """

    def __init__(self, X: npt.NDArray[Any], metric: str) -> None:
        self.metric = metric
        vectors = METRICS[metric].vectors(X)
        self.tree = cKDTree(vectors, compact_nodes=False, balanced_tree=False)

    def nearest(self, X: npt.NDArray[Any], k: int, threads: int = 1) -> tuple[F64, I64]:
        """Return distances of the `k` nearest rows, ascending, and their positions.

        Parameters
        ----------
        X : ndarray of shape (m, d)
        k : int
            Not more than there are rows.
        threads : int

        Returns
        -------
        distances, positions : ndarray of shape (m, k)
        """
        metric = METRICS[self.metric]
        vectors = metric.vectors(X)
        near_each_other = cKDTree(
            vectors, leafsize=64, compact_nodes=False, balanced_tree=False
        ).indices  # queries in this order find in the cache what the last one read
        wanted, exponent = np.arange(1, k + 1), EXPONENTS[metric.kernel]
        found = self.tree.query(vectors[near_each_other], wanted, p=exponent, workers=threads)
        distances, positions = np.empty((len(X), k)), np.empty((len(X), k), dtype=np.int64)
        distances[near_each_other], positions[near_each_other] = found
        reduced = np.square(distances) if metric.kernel == EUCLIDEAN else distances
        return metric.distance(reduced), positions
