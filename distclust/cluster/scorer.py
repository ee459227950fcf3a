"""Output columns from centers: what workers compute of each block when labels are written."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.cluster.metric import EUCLIDEAN, Euclidean
from distclust.data.blocks import Block, Partition
from distclust.engine.threads import map_tiles, n_threads
from distclust.errors import ConfigError
from distclust.kernels.assign import CenterTable, assign, center_table
from distclust.kernels.scaling import Frame

__all__ = ["CenterScorer"]

COLUMNS = ("label", "distance")


class CenterScorer:
    """Computes ``label`` (int32) and ``distance`` (float64) of a block's rows.

    Parameters
    ----------
    centers : ndarray of shape (k, d)
    columns : tuple of str
        Which of them.
    metric : Euclidean
        What a distance is.
    """

    def __init__(
        self,
        centers: npt.NDArray[Any],
        columns: tuple[str, ...],
        metric: Euclidean = EUCLIDEAN,
    ) -> None:
        unknown = sorted(set(columns) - set(COLUMNS))
        if unknown:
            raise ConfigError(f"output columns {unknown} are unknown; known are {list(COLUMNS)}")
        self.centers = centers
        self.columns = columns
        self.metric = metric

    def __call__(self, block: Block) -> dict[str, npt.NDArray[Any]]:
        block = self.metric.block(block)
        shares = Partition([block]).shares(n_threads())
        tables = map_tiles(lambda share: [self._assign(b.X) for b, _ in share], shares)
        found = [pair for pairs in tables for pair in pairs] or [self._assign(block.X)]
        labels, sq_dist = (np.concatenate(part) for part in zip(*found, strict=True))
        distance = self.metric.distances(sq_dist, self._table.scale)
        values = {"label": labels, "distance": distance}
        return {name: values[name] for name in self.columns}

    def _assign(self, X: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Label rows, and measure squared distances to their centers through the frame."""
        return assign(X, self._table)

    @cached_property
    def _table(self) -> CenterTable:
        return center_table(self.centers, Frame.of_centers(self.centers))

    def __getstate__(self) -> dict[str, Any]:
        return {"centers": self.centers, "columns": self.columns, "metric": self.metric}
