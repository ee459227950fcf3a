"""The SampleThenAssign estimator: any clusterer on a sample, and its labels for all rows.

Owns parameters, fitting and labelling. Samples are `distclust.cluster.row_sample`'s and
`distclust.cluster.strata`'s, what becomes of one `distclust.cluster.sample_clustering`'s.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.utils import Tags, check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils.validation import check_is_fitted

from distclust.cluster.assigners import Assigned, Assigner, AssignmentScorer
from distclust.cluster.row_sample import SAMPLE_STAGE, Sample, coreset_sample, uniform_sample
from distclust.cluster.sample_clustering import (
    ASSIGN,
    Clustered,
    assigner_for,
    cluster_sample,
)
from distclust.cluster.sample_store import from_stored, to_stored
from distclust.cluster.sampling_error import SamplingError, estimate, sampled_inertia
from distclust.cluster.strata import stratified_sample
from distclust.data.blocks import Partition, Source
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards
from distclust.errors import ConfigError
from distclust.inputs import Input, open_input, opened, opened_fitted, shard_rows
from distclust.kernels.metrics import METRICS
from distclust.model import StoredModel, write_model

__all__ = ["SampleThenAssign"]


class Drawing(NamedTuple):
    """Where samples come from."""

    shards: Shards
    source: Source
    seed: int
    strata: Any  # of each row, or None


class SampleThenAssign(ClusterMixin, BaseEstimator):
    """Cluster a sample with any clusterer, then give every row a label.

    Methods that compare all pairs of rows, or want all rows in one process, become methods
    for data of any size. The sample is drawn row by row with keyed random numbers and the
    rows are labelled one by one, so labels depend neither on the backend nor on
    partitions or threads. Methods accept what `distclust.inputs` lists.

    Parameters
    ----------
    clusterer : estimator
        With scikit-learn's interface: distclust's, scikit-learn's, `hdbscan`'s, a pipeline …
        A copy of it is fitted in this process, with one BLAS and one OpenMP thread. Where it
        leaves a `random_state` open, that follows from the one given here.
    sample_size : int or float, default=10_000
        Rows of the sample, exactly; all rows, where there are no more. A float is a
        fraction of the rows.
    sampling : {"uniform", "coreset", "stratified"}, default="uniform"
        ``"uniform"``: every row is as likely as any other. ``"coreset"``: rows far from the
        mean are more likely and weigh less, as a lightweight coreset: for K-Means and the like on
        data with heavy tails. ``"stratified"``: in proportion to strata, at least one row of
        each. Rows of weight zero are never drawn.
    strata : int or str, default=64
        For ``"stratified"``: how many cells of a K-Means of a small sample are the strata, or
        the column whose values are: a feature or, for files, any numeric column. Strata of
        rows in memory can be given to `fit` instead.
    assign : {"auto", "predict", "nearest-center", "nearest-sample", "knn"}, default="auto"
        What labels all rows: the clusterer's own ``predict``; the nearest center, its own
        ``cluster_centers_`` or the weighted means of the sample's clusters; the nearest sampled
        row; or most of the `n_neighbors` nearest sampled rows, the lowest label of equals.
        ``"auto"`` is ``"predict"`` where the clusterer has it, else ``"nearest-sample"``.
    n_neighbors : int, default=5
        For ``"knn"``.
    metric : {"euclidean", "manhattan", "chebyshev", "cosine", "haversine"}, optional
        Of the distances of rows from sampled rows or, the Euclidean or the cosine, from centers.
        Unless given, that of the clusterer if its `metric` is one of these, else the Euclidean.
    max_distance : float, optional
        Rows whose `distance` (see `assignments`) is larger become noise, -1.
    estimate_error : bool, default=False
        Whether to fit a second sample, label all rows by both, and set `sampling_error_`.
    random_state : int, RandomState instance or None, default=None
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to draw and to label. ``"auto"`` goes where X lives. Rows held by this process
        are predicted in this process, unless a Backend is given.
    n_partitions : int, optional
        Parts the rows are split into; unless given, one for few rows, else as many as pay.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), int32, or a collection like X
        Noise is -1.
    clusterer_ : estimator
        The fitted copy.
    sample_indices_ : ndarray of shape (n_sampled,), int64
        Numbers of the sampled rows, ascending.
    sample_weights_ : ndarray of shape (n_sampled,), float64, or None
        What they weighed for the clusterer: their own weight, times how much more likely an
        average row was to be drawn. None where all weigh one.
    sample_labels_ : ndarray of shape (n_sampled,), int32
        What the clusterer said of them.
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        The clusterer's, or the weighted means of the sample's clusters, by ascending label.
    sampling_error_ : SamplingError
        Inertia on the sample and on all rows, and how alike two samples' labels are.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Notes
    -----
    If the rows have weights, or the sample is a coreset, the clusterer is given
    `sample_weight`; one whose ``fit`` takes none is fitted without, with a `UserWarning`.

    Noise of the sample stays noise for rows nearest to it, or voted so; the nearest center
    is never noise, so there only `max_distance` makes some.

    A third-party ``predict`` is the same bits on machines of one kind: another processor may
    round its matrix products in another way.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.cluster import AgglomerativeClustering
    >>> X = np.repeat([[0.0, 0.0], [9.0, 9.0]], 500, axis=0)
    >>> model = SampleThenAssign(AgglomerativeClustering(2), sample_size=20, random_state=0)
    >>> model.fit(X).labels_[[0, 1, 998, 999]]
    array([1, 1, 0, 0], dtype=int32)
    >>> model.set_params(max_distance=2.0).fit(X).predict([[1.0, 0.0], [4.0, 4.0]])
    array([ 1, -1], dtype=int32)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "clusterer": [HasMethods(["fit", "get_params"]), None],
        "sample_size": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
        ],
        "sampling": [StrOptions({"uniform", "coreset", "stratified"})],
        "strata": [Interval(Integral, 1, None, closed="left"), str],
        "assign": [StrOptions(set(ASSIGN))],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "metric": [None, StrOptions(set(METRICS))],
        "max_distance": [None, Interval(Real, 0, None, closed="left")],
        "estimate_error": ["boolean"],
        "random_state": ["random_state"],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }

    _assigner: Assigner

    def __init__(
        self,
        clusterer: Any,
        *,
        sample_size: int | float = 10_000,
        sampling: str = "uniform",
        strata: int | str = 64,
        assign: str = "auto",
        n_neighbors: int = 5,
        metric: str | None = None,
        max_distance: float | None = None,
        estimate_error: bool = False,
        random_state: Any = None,
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.clusterer = clusterer
        self.sample_size = sample_size
        self.sampling = sampling
        self.strata = strata
        self.assign = assign
        self.n_neighbors = n_neighbors
        self.metric = metric
        self.max_distance = max_distance
        self.estimate_error = estimate_error
        self.random_state = random_state
        self.backend = backend
        self.n_partitions = n_partitions

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, strata: Any = None) -> Self:
        """Cluster a sample of the rows, and label all of them.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), frame, path, or collection
        y : Ignored
        sample_weight : array of shape (n_samples,), or a column's name for files
        strata : array of shape (n_samples,), optional
            The stratum of each row, numbers or text, for ``sampling="stratified"``.

        Returns
        -------
        self : SampleThenAssign

        Raises
        ------
        ValueError
            Wrong parameters or data; `distclust.DataError` says where the data is wrong.
        """
        with opened(self, X, sample_weight, self.backend, reset=True) as (backend, rows):
            session = Session(backend)
            shards = self._fit(session, rows, strata)
            with session.stage("labelling"):
                self.labels_ = self._labels(shards, rows)
        return self

    def fit_source(self, session: Session, source: Source) -> Self:
        """Fit on a source in an existing session, without labelling: ``labels_`` is not set.

        Parameters
        ----------
        session : Session
        source : Source
        """
        self._validate_params()
        self._fit(session, open_input(self, source, None, session.backend, reset=True), None)
        return self

    def _fit(self, session: Session, rows: Input, strata: Any) -> Shards:
        if self.clusterer is None:
            raise ConfigError("clusterer is None: this model was loaded without the one it had")
        if strata is not None and self.sampling != "stratified":
            raise ConfigError(f"strata are given, but sampling={self.sampling!r}")
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        shards = shard_rows(session, rows.source, self.n_partitions)
        drawing = Drawing(shards, rows.source, seed, strata)
        clustered = self._cluster(drawing, number=0)
        self._assigner = self._assigner_for(clustered)
        sample = clustered.sample
        self.clusterer_ = clustered.clusterer
        self.sample_indices_ = sample.row_id
        self.sample_weights_ = sample.weights
        self.sample_labels_ = clustered.labels
        self.cluster_centers_ = clustered.centers.points
        if self.estimate_error:
            self.sampling_error_ = self._sampling_error(drawing, clustered)
        return shards

    def _cluster(self, drawing: Drawing, number: int) -> Clustered:
        """Cluster one of several samples."""
        session = drawing.shards.session
        with session.stage("sampling"):
            sample = self._sample(drawing, SAMPLE_STAGE + number)
        with session.stage("clustering the sample"):
            return cluster_sample(self.clusterer, sample, drawing.seed + number, self.metric)

    def _sample(self, drawing: Drawing, stage: int) -> Sample:
        shards, source, seed, strata = drawing
        given: Any = self.sample_size
        exact = isinstance(given, Integral)
        size = int(given) if exact else max(1, round(given * source.n_rows))
        if self.sampling == "stratified":
            return stratified_sample(shards, source, size, seed, stage, self.strata, strata)
        draw = coreset_sample if self.sampling == "coreset" else uniform_sample
        return draw(shards, source, size, seed, stage)

    def _assigner_for(self, clustered: Clustered) -> Assigner:
        assigner = assigner_for(clustered, self.assign, self.metric, self.n_neighbors)
        if self.max_distance is not None and "distance" not in assigner.columns:
            raise ConfigError(
                f"max_distance={self.max_distance}: {type(clustered.clusterer).__name__}.predict "
                "tells no distances; set assign='nearest-sample', 'knn' or 'nearest-center'"
            )
        return assigner

    def _sampling_error(self, drawing: Drawing, clustered: Clustered) -> SamplingError:
        again = self._assigner_for(self._cluster(drawing, number=1))
        scorer, other = self.scorer(["label"]), AssignmentScorer(again, self.max_distance)
        expected = sampled_inertia(clustered.sample, scorer, clustered.centers)
        with drawing.shards.session.stage("sampling error"):
            inertia, ari = estimate(drawing.shards, scorer, clustered.centers, other)
        return SamplingError(expected, inertia, ari)

    def fit_predict(
        self, X: Any, y: Any = None, sample_weight: Any = None, strata: Any = None
    ) -> Any:
        """Fit, and return ``labels_``."""
        return self.fit(X, sample_weight=sample_weight, strata=strata).labels_

    def predict(self, X: Any) -> Any:
        """Return the label of each row, in the form X came in."""
        with opened_fitted(self, X) as (backend, rows):
            shards = shard_rows(Session(backend), rows.source, self.n_partitions)
            return self._labels(shards, rows)

    def assignments(self, X: Any) -> Assigned:
        """Return the label of each row, and how far or how sure it is.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), frame or path

        Returns
        -------
        labels : ndarray of shape (n_samples,), int32
        distance : ndarray of shape (n_samples,), float64, or None
            To the nearest sampled row, for ``"nearest-sample"`` and ``"knn"``; else to the
            center of the row's cluster, infinite for noise. None where ``"predict"`` is by
            a clusterer without ``cluster_centers_``.
        confidence : ndarray of shape (n_samples,), float64, or None
            Share of the votes for ``"knn"``; for ``"predict"`` the largest of the
            clusterer's ``predict_proba``, or the probability of `distclust.HDBSCAN`, where
            it is one of these.
        """
        with opened_fitted(self, X) as (backend, rows):
            if rows.assemble is not None:
                raise ConfigError(
                    "assignments takes arrays, frames and paths; predict labels collections"
                )
            shards = shard_rows(Session(backend), rows.source, self.n_partitions)
            scorer = shards.session.broadcast(self.scorer(["label", *self._assigner.columns]))
            found = [piece for _, pieces in shards.map(assigned_rows, scorer) for piece in pieces]
        gathered = {
            name: rows.gather([(row, getattr(part, name)) for row, part in found])
            for name in ("labels", *self._assigner.columns)
        }
        return Assigned(**gathered)

    def scorer(self, columns: Sequence[str] = ("label",)) -> AssignmentScorer:
        """Return a picklable function that computes output columns of a `Block`.

        Parameters
        ----------
        columns : sequence of {"label", "distance", "confidence"}
            Of the last two, those that `assignments` gives.
        """
        check_is_fitted(self)
        return AssignmentScorer(self._assigner, self.max_distance, columns)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model into directory `path`; `distclust.load` reads it.

        What labels rows is kept, not the clusterer unless it is one of distclust's. Where
        that is the ``predict`` of another library's clusterer, nothing can be saved.
        """
        check_is_fitted(self)
        write_model(path, to_stored(self, self._assigner))

    @classmethod
    def from_stored(cls, stored: StoredModel) -> Self:
        """Rebuild a fitted estimator from what `save` wrote."""
        model: Self
        model, model._assigner = from_stored(cls, stored)
        return model

    def __getstate__(self) -> Any:
        """Leave a connected backend behind: it means nothing to another process."""
        state: dict[str, Any] = super().__getstate__()
        return state if isinstance(self.backend, str) else {**state, "backend": "auto"}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_assigner")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _labels(self, shards: Shards, rows: Input) -> npt.NDArray[Any] | Any:
        scorer = shards.session.broadcast(self.scorer(["label"]))
        if rows.assemble is not None:
            return rows.assemble(shards.futures(block_labels, scorer))
        found = shards.map(assigned_rows, scorer)
        return rows.gather([(row, part.labels) for _, pieces in found for row, part in pieces])


# What workers do ------------------------------------------------------------------------


def assigned_rows(partition: Partition, scorer: AssignmentScorer) -> list[tuple[int, Assigned]]:
    """Label each row: (global id of the first row, labels) of pieces."""
    return scorer.of_partition(partition)


def block_labels(partition: Partition, scorer: AssignmentScorer) -> list[npt.NDArray[np.int32]]:
    """Label each row: one array a block, in the order of the partition's blocks."""
    labels = np.concatenate([part.labels for _, part in scorer.of_partition(partition)])
    ends = np.cumsum([block.n_rows for block in partition.blocks])
    return np.split(labels, ends[:-1])
