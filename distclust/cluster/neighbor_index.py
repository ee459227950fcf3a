"""Nearest fitted rows of new ones, in any metric that HDBSCAN takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.engine.threads import map_tiles
from distclust.kernels.joining import Reached, reach
from distclust.kernels.kdtree import UNBOUNDED, KDTree, build
from distclust.kernels.metrics import METRICS
from distclust.kernels.neighbors import neighbors, neighbors_within

__all__ = ["NeighborIndex"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class NeighborIndex:
    """Rows to be found, on the threads of the current call.

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
        self.scale = METRICS[metric].scale(max(float(vectors.max()), -float(vectors.min())))
        self.tree = self._tree(vectors)

    def nearest(self, X: npt.NDArray[Any], k: int) -> tuple[F64, I64]:
        """Return distances of the `k` nearest rows, ascending, and their positions.

        The order of equal distances is the same whatever other rows are asked for.

        Parameters
        ----------
        X : ndarray of shape (m, d)
        k : int
            Not more than there are rows.

        Returns
        -------
        distances, positions : ndarray of shape (m, k)
        """
        distances, positions = np.empty((len(X), k)), np.empty((len(X), k), dtype=np.int64)
        if len(X):
            queries = self._queries(X)
            radius = np.full(len(X), UNBOUNDED)
            near = neighbors_within(queries, radius, self.tree, k, map_tiles)
            distances[queries.order] = self._distance(near.dist)
            positions[queries.order] = self.tree.order[near.place]
        return distances, positions

    def core(self, k: int) -> F64:
        """Return the reduced distance of each row to its `k`-th nearest other, in tree order."""
        n = len(self.tree.order)
        return neighbors(self.tree, k, map_tiles, k - 1).dist[:, 0] if k else np.zeros(n)

    def reach(self, X: npt.NDArray[Any], core: F64, min_samples: int) -> tuple[I64, F64]:
        """Return the position of the row that each of X reaches first, and how far that is.

        See `distclust.kernels.joining.reach`.
        """
        positions, distances = np.empty(len(X), dtype=np.int64), np.empty(len(X))
        queries = self._queries(X)
        found: Reached = reach(queries, self.tree, core, min_samples, map_tiles)
        positions[queries.order] = self.tree.order[found.place]
        distances[queries.order] = self._distance(found.dist)
        return positions, distances

    def _queries(self, X: npt.NDArray[Any]) -> KDTree:
        """Group rows that are near each other."""
        return self._tree(METRICS[self.metric].vectors(X))

    def _tree(self, vectors: F64) -> KDTree:
        scaled = vectors if self.scale == 1.0 else vectors * self.scale
        return build(scaled, METRICS[self.metric].kernel, map_tiles)

    def _distance(self, reduced: F64) -> F64:
        return METRICS[self.metric].distance(reduced) / self.scale
