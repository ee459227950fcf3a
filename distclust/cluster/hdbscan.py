"""The HDBSCAN estimator: exact, on one machine or many, the same labels everywhere.

Owns parameters, fitting and prediction. Where edges come from is
`distclust.cluster.spanning_tree`'s; what follows from them
`distclust.cluster.flat_clustering`'s; further views `distclust.cluster.hdbscan_results`'s.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Sequence
from dataclasses import fields, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

from sklearn.base import BaseEstimator, ClusterMixin, _fit_context
from sklearn.utils import Tags
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)

from distclust.cluster.flat_clustering import (
    COLUMNS,
    DensityScorer,
    Selection,
    block_labels,
    cluster,
    compare,
)
from distclust.cluster.hdbscan_prediction import HierarchyPrediction
from distclust.cluster.hdbscan_rows import dense_rows, kept_rows
from distclust.cluster.hdbscan_store import from_stored, to_stored
from distclust.cluster.spanning_tree import spanning_tree
from distclust.data.blocks import Source
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session
from distclust.errors import ConfigError
from distclust.inputs import Input, open_input, opened
from distclust.kernels.flat import outlier_scores
from distclust.kernels.metrics import METRICS
from distclust.model import StoredModel, write_model

__all__ = ["HDBSCAN"]


class HDBSCAN(HierarchyPrediction, ClusterMixin, BaseEstimator):
    """Hierarchical density-based clustering, exact on any number of workers.

    Mutual reachability distances are float64, their minimum spanning tree is the true one,
    and equal distances are ordered by row number. So labels are a function of the rows
    and their order alone: neither the backend, nor partitions, nor the loss of a worker
    can change them. Methods accept what `distclust.inputs` lists.

    Parameters
    ----------
    min_cluster_size : int, default=5
        Smaller groups are noise, or leave their cluster without ending it.
    min_samples : int, optional
        A row's core distance is that to its `min_samples`-th nearest *other* row, as in
        the `hdbscan` package; scikit-learn's `HDBSCAN` counts the row itself, so its
        ``min_samples=m + 1`` is ``min_samples=m`` here. `min_cluster_size` unless given.
    cluster_selection_epsilon : float, default=0.0
        Clusters that part at less than this distance are not told apart.
    cluster_selection_persistence : float, default=0.0
        Clusters whose density rises less than this above where they part are merged.
    max_cluster_size : int, optional
        ``"eom"`` selects no larger cluster; 0 is no limit either.
    metric : {"euclidean", "manhattan", "chebyshev", "cosine", "haversine"}, \
default="euclidean"
        ``"cosine"`` is one minus the cosine; ``"haversine"`` takes latitude and longitude
        in radians and gives radians.
    alpha : float, default=1.0
        Divides distances between rows, not core distances (robust single linkage).
    cluster_selection_method : {"eom", "leaf"}, default="eom"
        Excess of mass prefers clusters that last; ``"leaf"`` takes the finest.
    allow_single_cluster : bool, default=False
        Whether all rows may be one cluster.
    gen_min_span_tree : bool, default=False
        Accepted for compatibility; the tree is always kept.
    prediction_data : bool, default=False
        Whether to keep a copy of rows of files and collections, for `predict` and what
        else looks at rows; arrays and frames are kept by reference anyway.
    cluster_selection_epsilon_max : float, default=inf
        ``"eom"`` selects no cluster that parts at a larger distance.
    mode : {"exact", "approximate"}, default="exact"
        ``"approximate"`` gives up the search for edges between partitions early: it is
        faster on clusters, and `certified_fraction_` says what came of it.
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives. Rows held by this process are
        predicted in this process, unless a Backend is given.
    n_partitions : int, optional
        Parts that space is cut into; as many as keep the workers busy unless given.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,), int32, or a collection like X
        Noise is -1, and so are rows with NaN or infinity. Clusters are numbered as by the
        `hdbscan` package.
    probabilities_ : ndarray of shape (n_samples,), float64
        How strongly rows belong to their clusters.
    outlier_scores_ : ndarray of shape (n_samples,), float64
        GLOSH: 0 in the densest part of a row's surroundings, near 1 far from it.
    cluster_persistence_ : ndarray of shape (n_clusters,), float64
    core_distances_ : ndarray of shape (n_samples,), float64
    min_samples_ : int
        The number used, at most one less than the number of finite rows.
    certified_fraction_ : float
        Part of the edges known to be in the true spanning tree: 1.0 for ``mode="exact"``.
    condensed_tree_, single_linkage_tree_, minimum_spanning_tree_ : object
        The `hdbscan` package's, for plots and exports; it is the extra ``hdbscan``.
    exemplars_ : list of ndarray
    exemplar_indices_ : list of ndarray
    relative_validity_ : float
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Notes
    -----
    The method is R. Campello, D. Moulavi and J. Sander's (2013), semantics those of L.
    McInnes, J. Healy and S. Astels' package `hdbscan` (2017). The driver holds the
    edges: 24 bytes a row.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [9, 9], [9, 8], [8, 9], [40, 40]])
    >>> hdbscan = HDBSCAN(min_cluster_size=3, min_samples=1).fit(X)
    >>> hdbscan.labels_
    array([ 0,  0,  0,  1,  1,  1, -1], dtype=int32)
    >>> hdbscan.predict([[1, 1], [8, 8], [20, 0]])
    array([ 0,  1, -1], dtype=int32)
    >>> hdbscan.reselect(min_cluster_size=4).labels_
    array([-1, -1, -1, -1, -1, -1, -1], dtype=int32)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "min_cluster_size": [Interval(Integral, 2, None, closed="left")],
        "min_samples": [None, Interval(Integral, 1, None, closed="left")],
        "cluster_selection_epsilon": [Interval(Real, 0, None, closed="left")],
        "cluster_selection_persistence": [Interval(Real, 0, None, closed="left")],
        "max_cluster_size": [None, Interval(Integral, 0, None, closed="left")],
        "metric": [StrOptions(set(METRICS))],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "cluster_selection_method": [StrOptions({"eom", "leaf"})],
        "allow_single_cluster": ["boolean"],
        "gen_min_span_tree": ["boolean"],
        "prediction_data": ["boolean"],
        "cluster_selection_epsilon_max": [Interval(Real, 0, None, closed="both")],
        "mode": [StrOptions({"exact", "approximate"})],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        min_cluster_size: int = 5,
        min_samples: int | None = None,
        cluster_selection_epsilon: float = 0.0,
        cluster_selection_persistence: float = 0.0,
        max_cluster_size: int | None = None,
        metric: str = "euclidean",
        alpha: float = 1.0,
        *,
        cluster_selection_method: str = "eom",
        allow_single_cluster: bool = False,
        gen_min_span_tree: bool = False,
        prediction_data: bool = False,
        cluster_selection_epsilon_max: float = float("inf"),
        mode: Literal["exact", "approximate"] = "exact",
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.min_cluster_size = min_cluster_size
        self.min_samples = min_samples
        self.cluster_selection_epsilon = cluster_selection_epsilon
        self.cluster_selection_persistence = cluster_selection_persistence
        self.max_cluster_size = max_cluster_size
        self.metric = metric
        self.alpha = alpha
        self.cluster_selection_method = cluster_selection_method
        self.allow_single_cluster = allow_single_cluster
        self.gen_min_span_tree = gen_min_span_tree
        self.prediction_data = prediction_data
        self.cluster_selection_epsilon_max = cluster_selection_epsilon_max
        self.mode = mode
        self.backend = backend
        self.n_partitions = n_partitions

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Compute the clustering.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), frame, path, or collection
            Rows that have NaN or infinity (nulls count as NaN) become noise.
        y : Ignored

        Returns
        -------
        self : HDBSCAN

        Raises
        ------
        ValueError
            Wrong parameters or data; `distclust.DataError` says where the data is wrong.
        """
        with opened(self, X, None, self.backend, reset=True, finite=False) as (backend, rows):
            session = Session(backend)
            self._fit(session, rows)
            if rows.assemble is not None:
                shards = session.shard(rows.source, self.n_partitions)
                labels = session.broadcast(self.scorer(["label"]))
                self.labels_ = rows.assemble(shards.futures(block_labels, labels))
        return self

    def fit_source(self, session: Session, source: Source) -> Self:
        """Fit on a source in an existing session.

        Parameters
        ----------
        session : Session
        source : Source
        """
        self._validate_params()
        rows = open_input(self, source, None, session.backend, reset=True, finite=False)
        self._fit(session, rows)
        return self

    def _fit(self, session: Session, rows: Input) -> None:
        Selection.of(self).check()
        X, source = dense_rows(rows)
        spanned = spanning_tree(
            session,
            source,
            min_samples=int(self.min_samples or self.min_cluster_size),
            alpha=float(self.alpha),
            metric=self.metric,
            mode=self.mode,
            n_partitions=self.n_partitions,
        )
        self._edges = spanned.tree
        self.core_distances_ = spanned.core_distances
        self.min_samples_ = spanned.min_samples
        self.certified_fraction_ = float(spanned.certified)
        self._X = kept_rows(session, source) if X is None and self.prediction_data else X
        with session.stage("clusters"):
            self._cluster()

    def _cluster(self) -> None:
        """Set all that follows from the edges."""
        self._made = {}
        self._clustering = found = cluster(self._edges, Selection.of(self))
        self.labels_ = found.labels
        self.probabilities_ = found.probabilities
        self.cluster_persistence_ = found.persistence
        tree = found.tree
        self.outlier_scores_ = outlier_scores(found.flat, tree.row_cluster, tree.row_density)

    def reselect(self, **parameters: Any) -> Self:
        """Return a fitted copy that selects clusters in another way, from the same tree.

        No distance is computed again: it takes one pass over the edges. The copy's labels
        are an array even if X was a collection.

        Parameters
        ----------
        **parameters
            Any of `min_cluster_size`, `max_cluster_size`, `allow_single_cluster` and
            those whose names begin with ``cluster_selection``.
        """
        self._check_fitted()
        _check_names(parameters)
        model = copy.copy(self)
        model.backend = self.backend
        model.set_params(min_samples=self.min_samples_, **parameters)
        model._validate_params()
        model._cluster()
        return model

    def tune(self, **choices: Sequence[Any]) -> list[dict[str, Any]]:
        """Try all combinations of selection parameters on the fitted tree.

        Parameters
        ----------
        **choices
            For each parameter of `reselect` to vary, the values to try.

        Returns
        -------
        list of dict
            For each combination the varied parameters, ``n_clusters``, ``noise_fraction``
            and ``relative_validity``; the last given parameter varies fastest.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.array([[0.0], [1], [2], [10], [11], [12]])
        >>> for found in HDBSCAN(min_samples=1).fit(X).tune(min_cluster_size=[2, 3, 4]):
        ...     print(found["min_cluster_size"], found["n_clusters"], found["noise_fraction"])
        2 2 0.0
        3 2 0.0
        4 0 1.0
        """
        self._check_fitted()
        _check_names(choices)
        trials = [
            dict(zip(choices, values, strict=True))
            for values in itertools.product(*choices.values())
        ]
        for trial in trials:
            constraints = {name: self._parameter_constraints[name] for name in trial}
            validate_parameter_constraints(constraints, trial, type(self).__name__)
        selections = [replace(Selection.of(self), **trial) for trial in trials]
        summaries = compare(self._edges, selections)
        return [trial | found for trial, found in zip(trials, summaries, strict=True)]

    def scorer(self, columns: Sequence[str] = COLUMNS) -> DensityScorer:
        """Return a picklable function that computes output columns of a `Block` of fitted rows.

        Parameters
        ----------
        columns : sequence of {"label", "probability", "outlier_score"}
        """
        self._check_fitted()
        return DensityScorer(self._clustering, columns)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model into directory `path`; `distclust.load` reads it.

        The fitted rows are part of it where they are at hand (see `prediction_data`).
        """
        write_model(path, self.to_stored())

    def to_stored(self) -> StoredModel:
        """Return what `save` writes."""
        self._check_fitted()
        return to_stored(self, self._edges, self._X)

    @classmethod
    def from_stored(cls, stored: StoredModel) -> Self:
        """Rebuild a fitted estimator from what `save` wrote."""
        model: Self
        model, model._edges, model._X = from_stored(cls, stored)
        model._cluster()
        return model

    def __getstate__(self) -> Any:
        """Leave behind a connected backend, and what can be made again."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "_made" in state:
            state["_made"] = {}
        return state if isinstance(self.backend, str) else {**state, "backend": "auto"}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        return tags


def _check_names(parameters: dict[str, Any]) -> None:
    known = [field.name for field in fields(Selection)]
    for name in parameters:
        if name not in known:
            raise ConfigError(
                f"{name!r} cannot be changed without fitting again; these can: {', '.join(known)}"
            )
