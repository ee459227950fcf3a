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
from distclust.kernels.flat import row_labels, row_probabilities
from distclust.kernels.hierarchy import densities
from distclust.kernels.joining import Joined, join

__all__ = ["Predicted", "Predictor", "block_predictions", "predict_rows"]

F64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]

ROWS_AT_ONCE = 1 << 18


class Predicted(NamedTuple):
    """What is said of new rows."""

    labels: Labels  # (n,)
    probabilities: F64  # (n,)


class Predictor:
    """All that is needed to label new rows, anywhere; works on the current call's threads.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The fitted rows.
    metric : str
    min_samples : int
    clustering : FlatClustering
    """

    def __init__(
        self, X: npt.NDArray[Any], metric: str, min_samples: int, clustering: FlatClustering
    ) -> None:
        self.rows = np.flatnonzero(np.isfinite(X).all(axis=1))
        self.index = NeighborIndex(X if len(self.rows) == len(X) else X[self.rows], metric)
        self.min_samples = min_samples
        self.flat, self.tree = clustering.flat, clustering.tree
        self.core = self.index.core(min(min_samples, len(self.rows)) - 1)

    def join(self, X: npt.NDArray[Any]) -> Joined:
        """Say where finite rows would join."""
        neighbor, distance = self.index.reach(X, self.core, self.min_samples)
        return join(self.tree, self.rows[neighbor], densities(distance))

    def __call__(self, X: npt.NDArray[Any]) -> Predicted:
        """Label rows; what is not finite is noise."""
        found = Predicted(np.full(len(X), -1, dtype=np.int32), np.zeros(len(X)))
        for start in range(0, len(X), ROWS_AT_ONCE):
            part = X[start : start + ROWS_AT_ONCE]
            finite = np.flatnonzero(np.isfinite(part).all(axis=1))
            if len(finite):
                joined = self.join(part if len(finite) == len(part) else part[finite])
                labels = row_labels(self.flat, joined.cluster, joined.density)
                found.labels[start + finite] = labels
                strengths = row_probabilities(self.flat, labels, joined.density)
                found.probabilities[start + finite] = strengths
        return found


def predict_rows(partition: Partition, predictor: Predictor) -> list[tuple[int, Predicted]]:
    """Label each block: (global id of the first row, what is said of its rows)."""
    blocks = partition.blocks
    return [(block.row_start, predictor(block.dense().X)) for block in blocks]


def block_predictions(partition: Partition, predictor: Predictor) -> list[Labels]:
    """Label the rows of a partition: one array a block, in the order of its blocks."""
    return [found.labels for _, found in predict_rows(partition, predictor)]
