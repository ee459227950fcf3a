"""How rows get the labels of a clustered sample: small picklable functions of a block.

Each labels a row by itself, so that neither partitioning nor threads can reach a label,
and tells how far or how sure that is where it knows. Which one serves a clusterer is
`distclust.cluster.sample_clustering`'s choice.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property, lru_cache
from math import inf
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from distclust.cluster.metric import Euclidean
from distclust.cluster.neighbor_index import NeighborIndex
from distclust.cluster.prediction import Predictor
from distclust.data.blocks import Block, Partition, Share
from distclust.engine.threads import map_tiles, n_threads
from distclust.errors import ConfigError
from distclust.kernels.assign import CenterTable, center_table, nearest_labels, own_sq_distances
from distclust.kernels.scaling import Frame
from distclust.kernels.vote import majority

__all__ = [
    "Assigned",
    "Assigner",
    "AssignmentScorer",
    "CenterAssigner",
    "DensityAssigner",
    "PredictAssigner",
    "SampleAssigner",
    "single_threaded",
]

NOISE = -1
PREDICTED_ROWS = 8192  # that a clusterer predicts at a time

F64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]


class Assigned(NamedTuple):
    """Labels of rows, and how far or how sure they are where that is known."""

    labels: Labels  # (n,)
    distance: F64 | None = None  # (n,)
    confidence: F64 | None = None  # (n,)


class Assigner(ABC):
    """Labels dense blocks.

    Attributes
    ----------
    columns : tuple of str
        What it gives besides labels: of ``distance`` and ``confidence``.
    """

    columns: tuple[str, ...]

    @abstractmethod
    def assign(self, block: Block, *, measured: bool) -> Assigned:
        """Label the rows of a piece; measure only where asked, if that takes time."""


class Centers:
    """Centers of clusters, as some metric sees them.

    Parameters
    ----------
    points : ndarray of shape (k, d)
    labels : ndarray of shape (k,), int32
        Ascending.
    metric : Euclidean
    """

    def __init__(self, points: npt.NDArray[Any], labels: Labels, metric: Euclidean) -> None:
        self.points, self.labels, self.metric = points, labels, metric
        self.numbered = bool((labels == np.arange(len(labels))).all())  # label i is row i
        self._tables: dict[np.dtype[Any], CenterTable] = {}

    def table(self, dtype: np.dtype[Any]) -> CenterTable:
        """Return the centers prepared for rows of this precision."""
        if dtype not in self._tables:
            points = np.ascontiguousarray(self.points, dtype=dtype)
            self._tables[dtype] = center_table(points, Frame.of_centers(points))
        return self._tables[dtype]

    def sq_distances(self, X: npt.NDArray[Any], labels: Labels) -> F64:
        """Return squared distances to the own centers, (n,); of noise, infinity.

        Rows are as the metric wants them, and half of this is its distance if it is the cosine.
        """
        sq_dist = np.full(len(X), inf)
        clustered = np.flatnonzero(labels != NOISE)
        if len(clustered):
            table = self.table(X.dtype)
            rows = X if len(clustered) == len(X) else X[clustered]
            which = np.searchsorted(self.labels, labels[clustered]).astype(np.int32)
            found = own_sq_distances(rows, table, which) / table.scale / table.scale
            sq_dist[clustered] = found
        return sq_dist

    def distances(self, X: npt.NDArray[Any], labels: Labels) -> F64:
        """Return distances to the own centers, (n,); of noise, infinity."""
        return self.metric.distances(self.sq_distances(X, labels), 1.0)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": {}}


class CenterAssigner(Assigner):
    """A row is of the cluster whose center is nearest, the lowest label of equals."""

    columns = ("distance",)

    def __init__(self, centers: Centers) -> None:
        self.centers = centers

    def assign(self, block: Block, *, measured: bool) -> Assigned:
        X = self.centers.metric.block(block).X
        if not len(self.centers.labels):
            return Assigned(np.full(len(X), NOISE, dtype=np.int32), np.full(len(X), inf))
        labels = nearest_labels(X, self.centers.table(X.dtype))
        if not self.centers.numbered:
            labels = self.centers.labels[labels]
        return Assigned(labels, self.centers.distances(X, labels) if measured else None)


class SampleAssigner(Assigner):
    """A row is of the cluster of the nearest sampled rows: of most of them, the lowest of equals.

    Parameters
    ----------
    rows : ndarray of shape (m, d)
    labels : ndarray of shape (m,), int32
    metric : str
        Of `distclust.kernels.metrics.METRICS`.
    rows_as : Euclidean
        How that metric wants rows.
    k : int
        How many sampled rows are looked at.
    votes : bool
        Whether there is a vote, or k is one.
    """

    def __init__(
        self,
        rows: npt.NDArray[Any],
        labels: Labels,
        metric: str,
        rows_as: Euclidean,
        k: int,
        votes: bool,
    ) -> None:
        self.rows, self.labels = rows, labels
        self.metric, self.rows_as = metric, rows_as
        self.k = min(k, len(rows))
        self.columns = ("distance", "confidence") if votes else ("distance",)

    @cached_property
    def index(self) -> NeighborIndex:
        """Made again on each worker."""
        return NeighborIndex(self.rows_as.block(Block(self.rows, 0)).X, self.metric)

    def assign(self, block: Block, *, measured: bool) -> Assigned:
        distances, near = self.index.nearest(self.rows_as.block(block).X, self.k)
        if len(self.columns) == 1:
            return Assigned(self.labels[near[:, 0]], distances[:, 0])
        labels, votes = majority(self.labels[near])
        return Assigned(labels, distances[:, 0], votes / self.k)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "index"}


class DensityAssigner(Assigner):
    """A row joins a fitted `distclust.HDBSCAN`; its confidence is its probability."""

    columns = ("confidence",)

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def assign(self, block: Block, *, measured: bool) -> Assigned:
        labels, probabilities = self.predictor(block.X)
        return Assigned(labels, None, probabilities)


class PredictAssigner(Assigner):
    """A row gets the label that a clusterer of any library predicts.

    A matrix product may round a row differently in another place of a matrix. So rows are
    predicted in matrices of one size, each in the place that its id gives it, with a
    sampled row in places that are not needed.

    Parameters
    ----------
    clusterer : estimator
        Fitted.
    filler : ndarray of shape (d,)
        A row it can predict.
    centers : Centers or None
        For distances.
    """

    def __init__(
        self, clusterer: Any, filler: npt.NDArray[Any], centers: Centers | None = None
    ) -> None:
        self.clusterer, self.filler, self.centers = clusterer, filler, centers
        self.sure = hasattr(clusterer, "predict_proba")
        self.columns = (
            *(("distance",) if centers is not None else ()),
            *(("confidence",) if self.sure else ()),
        )

    def assign(self, block: Block, *, measured: bool) -> Assigned:
        labels = np.empty(block.n_rows, dtype=np.int32)
        confidence = np.empty(block.n_rows) if measured and self.sure else None
        batch = np.empty((PREDICTED_ROWS, block.X.shape[1]), dtype=block.X.dtype)
        start = 0
        with single_threaded():
            while start < block.n_rows:
                place = (block.row_start + start) % PREDICTED_ROWS
                stop = min(start + PREDICTED_ROWS - place, block.n_rows)
                here = slice(place, place + stop - start)
                batch[:] = self.filler
                batch[here] = block.X[start:stop]
                labels[start:stop] = self.clusterer.predict(batch)[here]
                if confidence is not None:
                    proba = self.clusterer.predict_proba(batch)[here]
                    confidence[start:stop] = proba.max(axis=1)
                start = stop
        distance = None
        if measured and self.centers is not None:
            X = self.centers.metric.block(block).X
            distance = self.centers.distances(X, labels)
        return Assigned(labels, distance, confidence)


class AssignmentScorer:
    """Computes ``label`` and other columns of a block, with the threads of the current call.

    Parameters
    ----------
    assigner : Assigner
    max_distance : float or None
        Rows farther than this are noise.
    columns : sequence of str
        Of ``label`` and those of the assigner.
    """

    def __init__(
        self, assigner: Assigner, max_distance: float | None, columns: Sequence[str] = ("label",)
    ) -> None:
        unknown = sorted({*columns} - {"label", *assigner.columns})
        if unknown:
            known = ["label", *assigner.columns]
            raise ConfigError(f"output columns {unknown} are unknown; known are {known}")
        self.assigner, self.max_distance = assigner, max_distance
        self.columns = tuple(columns)

    def __call__(self, block: Block) -> dict[str, npt.NDArray[Any]]:
        found = [piece for _, piece in self.of_partition(Partition([block]))]
        none = np.empty(0)
        values: dict[str, Any] = {
            "label": np.concatenate([none.astype(np.int32), *(part.labels for part in found)])
        }
        for name in self.columns:
            if name != "label":
                values[name] = np.concatenate([none, *(getattr(part, name) for part in found)])
        return {name: values[name] for name in self.columns}

    def of_partition(self, partition: Partition) -> list[tuple[int, Assigned]]:
        """Label rows: (global id of the first row, labels) of pieces of a partition, in order."""

        def of_share(share: Share) -> list[tuple[int, Assigned]]:
            return [(block.row_start, self.of_piece(block)) for block, _ in share]

        parts = map_tiles(of_share, partition.shares(n_threads()))
        return [piece for pieces in parts for piece in pieces]

    def of_piece(self, block: Block) -> Assigned:
        """Label a dense block in this thread."""
        limit = self.max_distance
        measured = limit is not None or len({*self.columns} - {"label"}) > 0
        found = self.assigner.assign(block, measured=measured)
        if limit is not None and found.distance is not None:
            far = found.distance > limit
            found = found._replace(labels=np.where(far, np.int32(NOISE), found.labels))
        return found


@lru_cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def single_threaded() -> Any:
    """Return a context in which BLAS and OpenMP have one thread.

    Sums that several threads add up in the order they finish differ in their last bits.
    """
    return _controller().limit(limits=1)
