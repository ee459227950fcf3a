"""What estimators with cluster centers share: predicting, measuring, saving.

`distclust.cluster.kmeans` and its relatives own how centers are found; here is what can
be done with them afterwards, on any input and backend.
"""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from distclust.cluster.labelling import (
    Labelling,
    block_labels,
    distance_rows,
    label_rows,
    merge_labellings,
)
from distclust.cluster.metric import EUCLIDEAN, Euclidean
from distclust.cluster.scorer import CenterScorer
from distclust.cluster.steps import Run
from distclust.data.blocks import Source
from distclust.engine.events import Listener
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards
from distclust.errors import ConfigError, ModelError
from distclust.inputs import Input, open_input, opened, opened_fitted, shard_rows
from distclust.kernels.exact_sum import exact_value
from distclust.kernels.scaling import Frame
from distclust.model import StoredModel, write_model

__all__ = ["CenterEstimator"]


class CenterEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator, ABC
):
    """Base of estimators whose model is a set of centers."""

    backend: str | Backend
    n_partitions: int | None
    n_clusters: int
    cluster_centers_: npt.NDArray[Any]
    cluster_sizes_: npt.NDArray[Any]

    _saved_arrays: ClassVar[tuple[str, ...]] = ("cluster_centers_", "cluster_sizes_")
    _saved_scalars: ClassVar[tuple[str, ...]] = ("inertia_", "n_iter_", "inertia_history_")
    _sklearn_class: ClassVar[type] = SklearnKMeans

    @property
    def _metric(self) -> Euclidean:
        return EUCLIDEAN

    @abstractmethod
    def _fit(self, session: Session, rows: Input, *, keep_labels: bool) -> Self:
        """Find the centers; set ``labels_`` only where asked."""

    def _listeners(self) -> list[Listener]:
        """Return who hears of a fit that this object starts itself."""
        return []

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Compute the clustering.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), frame, path, or collection
        y : Ignored
        sample_weight : array of shape (n_samples,), or a column's name for files
            Not used in seeding if `init` is an array or a callable.

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            Wrong parameters or data; `distclust.DataError` says where the data is wrong.
        """
        with opened(self, X, sample_weight, self.backend, reset=True) as (backend, rows):
            session = Session(backend, listeners=self._listeners())
            return self._fit(session, rows, keep_labels=True)

    def fit_source(self, session: Session, source: Source) -> Self:
        """Fit on a source in an existing session, without labelling: ``labels_`` is not set.

        Parameters
        ----------
        session : Session
        source : Source
        """
        self._validate_params()
        rows = open_input(self, source, None, session.backend, reset=True)
        return self._fit(session, rows, keep_labels=False)

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return ``labels_``."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def predict(self, X: Any) -> Any:
        """Return the label of the nearest center for each row, in the form X came in."""
        with opened_fitted(self, X) as (backend, rows):
            shards = self._shard(Session(backend), rows.source)
            return self._labels(shards, rows)

    def transform(self, X: Any) -> npt.NDArray[Any]:
        """Return each row's distance to each center.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), frame or path

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_clusters), dtype of X
        """
        with opened_fitted(self, X) as (backend, rows):
            if rows.assemble is not None:
                raise ConfigError(
                    "transform takes arrays, frames and paths; map "
                    "model.to_sklearn().transform over the chunks of a collection"
                )
            shards = self._shard(Session(backend), rows.source)
            centers = shards.session.broadcast(self._centers(rows.source))
            found = shards.map(distance_rows, centers, self._metric)
            return rows.gather([pair for _, pairs in found for pair in pairs])

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> npt.NDArray[Any]:
        """Fit, and return each row's distance to each center."""
        fitted: Self = self.fit(X, sample_weight=sample_weight)
        return fitted.transform(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return the negative inertia of X."""
        with opened_fitted(self, X, sample_weight) as (backend, rows):
            shards = self._shard(Session(backend), rows.source)
            centers = self._centers(rows.source)
            frame = Frame.of_centers(centers)
            found = self._labelling(shards, centers, frame, keep_labels=False)
            return -self._metric.inertia(frame.in_data_units(exact_value(found.inertia)))

    def scorer(self, columns: Sequence[str] = ("label",)) -> CenterScorer:
        """Return a small picklable function that computes output columns of a `Block`.

        Parameters
        ----------
        columns : sequence of {"label", "distance"}
        """
        check_is_fitted(self)
        return CenterScorer(self.cluster_centers_, tuple(columns), self._metric)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model into directory `path`; `distclust.load` reads it.

        Labels of the training rows are not part of a model.
        """
        write_model(path, self.to_stored())

    def to_stored(self) -> StoredModel:
        """Return what `save` writes."""
        check_is_fitted(self)
        params = self.get_params(deep=False)
        arrays = self._fitted(self._saved_arrays)
        if not isinstance(params["init"], str):
            params["init"] = "k-means||" if callable(params["init"]) else None
            if params["init"] is None:
                arrays["init"] = np.asarray(self.init)
        if not isinstance(params["backend"], str):
            params["backend"] = "auto"
        if not isinstance(params["random_state"], Integral):
            params["random_state"] = None
        params = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in params.items()
        }
        scalars = self._fitted((*self._saved_scalars, "n_features_in_"))
        scalars["feature_names_in_"] = [
            str(name) for name in getattr(self, "feature_names_in_", [])
        ]
        kind = type(self).__name__
        return StoredModel(kind=kind, params=params, scalars=scalars, arrays=arrays)

    @classmethod
    def from_stored(cls, stored: StoredModel) -> Self:
        """Rebuild a fitted estimator from what `save` wrote."""
        arrays, scalars = dict(stored.arrays), dict(stored.scalars)
        params = dict(stored.params)
        if "init" in arrays:
            params["init"] = arrays.pop("init")
        cls._check_stored(params, {**scalars, **arrays})
        model = cls(**params)
        names = scalars.pop("feature_names_in_")
        if names:
            model.feature_names_in_ = np.asarray(names, dtype=object)
        for name, value in {**scalars, **arrays}.items():
            setattr(model, name, value)
        model._n_features_out = len(model.cluster_centers_)
        return model

    @classmethod
    def _check_stored(cls, params: dict[str, Any], fitted: dict[str, Any]) -> None:
        """Refuse what `save` does not write, before it becomes an attribute."""
        known = {*cls._saved_arrays, *cls._saved_scalars, "n_features_in_", "feature_names_in_"}
        unknown = {*params} - {*cls._get_param_names()} | {*fitted} - known
        needed = {"cluster_centers_", "n_features_in_", "feature_names_in_"} - {*fitted}
        if unknown or needed:
            raise ModelError(
                f"not a {cls.__name__} as it was saved: "
                f"unknown {sorted(unknown)}, missing {sorted(needed)}"
            )

    def __getstate__(self) -> Any:
        """Leave a connected backend behind: it means nothing to another process."""
        state: dict[str, Any] = super().__getstate__()
        return state if isinstance(self.backend, str) else {**state, "backend": "auto"}

    def to_sklearn(self) -> Any:
        """Return a fitted `sklearn.cluster.KMeans` that predicts the same labels.

        The same up to rows whose two nearest centers are equally far within rounding:
        scikit-learn does not decide those canonically. With ``metric="cosine"`` it is the
        last step of a `sklearn.pipeline.Pipeline` after a `Normalizer`: its distances and
        its inertia are the Euclidean ones of unit vectors, not ``1 - cos``.
        """
        check_is_fitted(self)
        centers = self.cluster_centers_
        model = self._sklearn_class(self.n_clusters, init=centers, n_init=1, max_iter=1)
        with warnings.catch_warnings():  # centers may be equal
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(centers)  # sets what scikit-learn's methods rely on
        del model.labels_
        model.set_params(max_iter=self.max_iter, tol=self.tol)
        shared = ("cluster_centers_", "inertia_", "n_iter_", "n_features_in_", "feature_names_in_")
        for name, value in self._fitted((*shared, "labels_")).items():
            setattr(model, name, value)
        return self._metric.for_sklearn(model)

    def _fitted(self, names: Iterable[str]) -> dict[str, Any]:
        """Return those of the named attributes that are set."""
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _shard(self, session: Session, source: Source) -> Shards:
        return shard_rows(session, self._metric.source(source), self.n_partitions)

    def _centers(self, source: Source) -> npt.NDArray[Any]:
        """Centers in the dtype of the rows, which kernels multiply them with."""
        return self.cluster_centers_.astype(source.dtype, copy=False)

    def _warn_of_missing_clusters(self) -> None:
        distinct = int((self.cluster_sizes_ > 0).sum())
        if distinct < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({distinct}) found smaller than n_clusters "
                f"({self.n_clusters}). Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _labelling(
        self,
        shards: Shards,
        centers: npt.NDArray[Any],
        frame: Frame | None = None,
        *,
        run: int = 0,
        keep_labels: bool,
    ) -> Labelling:
        send = shards.session.broadcast
        sent = send(Run(run, centers)), send(frame or Frame.of_centers(centers))
        found: Labelling = shards.reduce(label_rows, merge_labellings, *sent, keep_labels)
        return found

    def _labels(self, shards: Shards, rows: Input, known: Labelling | None = None) -> Any:
        centers = self._centers(rows.source)
        if rows.assemble is not None:
            sent = shards.session.broadcast(Run(0, centers)), Frame.of_centers(centers)
            return rows.assemble(shards.futures(block_labels, *sent))
        if known is None or not known.labels:
            known = self._labelling(shards, centers, keep_labels=True)
        return rows.gather(known.labels)
