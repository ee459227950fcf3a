"""Labels of new rows in a fitted hierarchy, which stays as it is.

A new row joins at the fitted row it reaches most densely. Core distances are those of
`hdbscan.approximate_predict`, so that labels are the same: the fitted row itself counts
among its `min_samples` neighbors, and a new row looks one neighbor further.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.cluster.flat_clustering import FlatClustering
from distclust.cluster.neighbor_index import NeighborIndex
from distclust.data.blocks import Partition
from distclust.engine.threads import n_threads
from distclust.kernels.flat import row_labels, row_probabilities
from distclust.kernels.hierarchy import densities
from distclust.kernels.joining import Joined, join, reach

__all__ = ["Predicted", "Predictor", "block_predictions", "predict_rows"]

F64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]

ROWS_AT_ONCE = 1 << 18


class Predicted(NamedTuple):
    """What is said of new rows."""

    labels: Labels  # (n,)
    probabilities: F64  # (n,)


class Predictor:
    """All that is needed to label new rows, anywhere.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The fitted rows.
    metric : str
    min_samples : int
    clustering : FlatClustering
    threads : int
        For looking up the fitted rows' core distances.
    """

    def __init__(
        self,
        X: npt.NDArray[Any],
        metric: str,
        min_samples: int,
        clustering: FlatClustering,
        threads: int = 1,
    ) -> None:
        self.rows = np.flatnonzero(np.isfinite(X).all(axis=1))
        finite = X if len(self.rows) == len(X) else X[self.rows]
        self.index = NeighborIndex(finite, metric)
        self.min_samples = min_samples
        self.flat, self.tree = clustering.flat, clustering.tree
        self.core = np.concatenate(
            [
                self._nearest(finite[start : start + ROWS_AT_ONCE], min_samples, threads)[0][:, -1]
                for start in range(0, len(finite), ROWS_AT_ONCE)
            ]
        )

    def join(self, X: npt.NDArray[Any], threads: int) -> Joined:
        """Say where finite rows would join."""
        distances, near = self._nearest(X, self.min_samples + 1, threads)
        own_core = np.ascontiguousarray(distances[:, -1])
        neighbor, least = reach(distances, near, own_core, self.core)
        further = np.flatnonzero(least > own_core)  # a neighbor beyond may be reached sooner
        if len(further):
            distances, near = self._nearest(X[further], 2 * self.min_samples, threads)
            neighbor[further], least[further] = reach(distances, near, own_core[further], self.core)
        return join(self.tree, self.rows[neighbor], densities(least))

    def __call__(self, X: npt.NDArray[Any], threads: int = 1) -> Predicted:
        """Label rows; what is not finite is noise."""
        found = Predicted(np.full(len(X), -1, dtype=np.int32), np.zeros(len(X)))
        for start in range(0, len(X), ROWS_AT_ONCE):
            rows = start + np.flatnonzero(np.isfinite(X[start : start + ROWS_AT_ONCE]).all(axis=1))
            if len(rows):
                joined = self.join(X[rows], threads)
                labels = row_labels(self.flat, joined.cluster, joined.density)
                found.labels[rows] = labels
                found.probabilities[rows] = row_probabilities(self.flat, labels, joined.density)
        return found

    def _nearest(self, X: npt.NDArray[Any], k: int, threads: int) -> Any:
        return self.index.nearest(X, min(k, len(self.rows)), threads)


def predict_rows(partition: Partition, predictor: Predictor) -> list[tuple[int, Predicted]]:
    """Label each block: (global id of the first row, what is said of its rows)."""
    blocks = partition.blocks
    return [(block.row_start, predictor(block.dense().X, n_threads())) for block in blocks]


def block_predictions(partition: Partition, predictor: Predictor) -> list[Labels]:
    """Label the rows of a partition: one array a block, in the order of its blocks."""
    return [found.labels for _, found in predict_rows(partition, predictor)]
