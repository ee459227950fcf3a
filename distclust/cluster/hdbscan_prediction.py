"""New rows in a fitted HDBSCAN: their labels, and how strongly they belong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.cluster.hdbscan_results import HierarchyResults
from distclust.cluster.neighbor_index import NeighborIndex
from distclust.cluster.prediction import (
    Predicted,
    Predictor,
    block_predictions,
    predict_rows,
)
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards, one_uses_all
from distclust.engine.threads import worker_threads
from distclust.errors import ConfigError
from distclust.inputs import Input, is_in_memory, opened
from distclust.kernels.membership import memberships

__all__ = ["HierarchyPrediction"]


class HierarchyPrediction(HierarchyResults):
    """Prediction from a fitted hierarchy."""

    backend: str | Backend
    n_partitions: int | None

    def predict(self, X: Any) -> Any:
        """Return the labels of new rows in the fitted hierarchy, in the form X came in.

        The hierarchy stays as it is: a new row joins the fitted row that it reaches most
        densely, as by `hdbscan.approximate_predict`.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), frame, path, or collection
        """
        with self._fitted_input(X) as (backend, rows):
            shards = self._shards(X, backend, rows)
            predictor = shards.session.broadcast(self.predictor())
            if rows.assemble is not None:
                return rows.assemble(shards.futures(block_predictions, predictor))
            found = shards.map(predict_rows, predictor)
            return rows.gather([(row, new.labels) for _, part in found for row, new in part])

    def approximate_predict(self, X: Any) -> Predicted:
        """Return labels and probabilities of new rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), frame or path

        Returns
        -------
        labels : ndarray of shape (n_samples,), int32
        probabilities : ndarray of shape (n_samples,), float64
        """
        with self._fitted_input(X) as (backend, rows):
            if rows.assemble is not None:
                raise ConfigError(
                    "approximate_predict takes arrays, frames and paths; predict labels collections"
                )
            shards = self._shards(X, backend, rows)
            found = list(shards.map(predict_rows, shards.session.broadcast(self.predictor())))
            labels = [(row, new.labels) for _, part in found for row, new in part]
            strengths = [(row, new.probabilities) for _, part in found for row, new in part]
            return Predicted(rows.gather(labels), rows.gather(strengths))

    def membership_vectors(self, X: Any, top_k: int | None = None) -> Any:
        """Return how strongly new rows belong to each cluster.

        By distance to the clusters' exemplars and by the density at which a row joins
        them, as `hdbscan.membership_vector` does.

        Parameters
        ----------
        X : array of shape (n_samples, n_features) or frame
        top_k : int, optional
            Give only so many memberships a row, the strongest first.

        Returns
        -------
        memberships : ndarray of shape (n_samples, n_clusters)
            A row of it sums to the probability of being in some cluster. Zero for rows
            that are not finite.
        labels, memberships : ndarrays of shape (n_samples, min(top_k, n_clusters))
            Instead, if `top_k` is given; of equal ones the lowest label first.
        """
        if not is_in_memory(X):
            raise ConfigError("membership_vectors takes arrays and frames; map it over chunks")
        if top_k is not None and top_k < 1:
            raise ConfigError(f"top_k={top_k} should be at least 1")
        with self._fitted_input(X) as (_, rows):
            given = rows.in_memory
            dense = given.toarray() if hasattr(given, "toarray") else given
        found = self._memberships(dense)
        if top_k is None:
            return found
        labels = np.argsort(-found, axis=1, kind="stable")[:, :top_k]
        return labels, np.take_along_axis(found, labels, axis=1)

    def _memberships(self, X: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        exemplars, tree = self.exemplars_, self._clustering.tree
        found = np.zeros((len(X), len(exemplars)))
        finite = np.flatnonzero(np.isfinite(X).all(axis=1))
        if not exemplars or not len(finite):
            return found
        predictor = self.predictor()
        with _all_threads():
            joined = predictor.join(X[finite])
            distances = [
                NeighborIndex(rows, self.metric).nearest(X[finite], 1)[0] for rows in exemplars
            ]
        found[finite] = memberships(
            tree,
            self._clustering.flat.selected,
            tree.row_cluster[joined.neighbor],
            np.minimum(joined.density, tree.row_density[joined.neighbor]),
            np.hstack(distances),
        )
        return found

    @contextmanager
    def _fitted_input(self, X: Any) -> Iterator[tuple[Backend, Input]]:
        self._check_fitted()
        at_home = isinstance(self.backend, str) and is_in_memory(X)
        wanted = "local" if at_home else self.backend
        with opened(self, X, None, wanted, reset=False, finite=False) as backend_and_rows:
            yield backend_and_rows

    def _shards(self, X: Any, backend: Backend, rows: Input) -> Shards:
        """Place new rows, together if they are here: the nearer to each other, the faster found."""
        together = is_in_memory(X) and one_uses_all(backend)
        return Session(backend).shard(rows.source, self.n_partitions or (1 if together else None))

    def predictor(self) -> Predictor:
        """Return a picklable function that labels arrays of new rows.

        It is kept, since making it takes longer than a few labels.
        """
        self._check_fitted()
        if "predictor" not in self._made:
            with _all_threads():
                self._made["predictor"] = Predictor(
                    self._fitted_rows(), self.metric, self.min_samples_, self._clustering
                )
        predictor: Predictor = self._made["predictor"]
        return predictor


def _all_threads() -> AbstractContextManager[None]:
    return worker_threads(len(os.sched_getaffinity(0)))
