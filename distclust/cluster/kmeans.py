"""The K-Means estimator: scikit-learn's parameters, attributes and texts, on any backend.

Validation happens here, once; the work is `distclust.cluster.sampling`,
`distclust.cluster.seeding`, `distclust.cluster.lloyd` and `distclust.cluster.steps`.
"""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from distclust.cluster.base import CenterEstimator
from distclust.cluster.initial import checked_centers, count_runs
from distclust.cluster.labelling import Labelling, label_runs, merge_label_runs
from distclust.cluster.lloyd import LloydResult, lloyd_runs
from distclust.cluster.metric import METRICS, Euclidean
from distclust.cluster.sampling import sampled_start
from distclust.cluster.seeding import SEEDINGS
from distclust.cluster.statistics import DataStats, describe
from distclust.cluster.steps import Run
from distclust.cluster.verbose import VerboseOutput
from distclust.engine.events import Listener
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards
from distclust.errors import ConfigError
from distclust.inputs import Input
from distclust.kernels.exact_sum import exact_value

__all__ = ["KMeans"]

INITS = {"sampled": sampled_start, **SEEDINGS}


class KMeans(CenterEstimator):
    """K-Means clustering, the same bits on any backend and any number of workers.

    Labels are decided by a fixed-order float64 distance and sums are integers, so
    neither the backend, the partitioning, the number of threads nor the loss of a
    worker can change a result. Methods accept what `distclust.inputs` lists:
    arrays and frames, Parquet paths, Dask collections and Ray Datasets.

    Parameters
    ----------
    n_clusters : int, default=8
    init : {"sampled", "k-means||", "k-means++", "random"}, array of shape \
(n_clusters, n_features) or callable, default="sampled"
        ``"sampled"`` runs k-means|| and some iterations on a sample of a few hundred rows
        a cluster, and starts from where these have come to; from there, centers go on beyond
        the means of their rows, which saves up to two thirds of the iterations.
        Where rows are too few for a sample, it starts as ``"k-means||"`` does. That takes a
        few passes over the rows and then runs greedy k-means++ on the weighted candidates;
        ``"k-means++"`` takes two passes a center; ``"random"`` draws rows. A callable is
        given ``X, n_clusters, random_state`` and therefore needs X in memory.
    n_init : "auto" or int, default="auto"
        Runs with different seeds, of which the best is kept; ``"auto"`` means 10 for
        ``"random"`` and callables, else 1. They iterate side by side, sharing passes over
        the rows, and each takes 12 bytes a row meanwhile.
    max_iter : int, default=300
    tol : float, default=1e-4
        Stop when the centers' squared shifts sum to at most `tol` times the mean
        variance of the features.
    verbose : int, default=0
    random_state : int, RandomState instance or None, default=None
    copy_x : bool, default=True
        Accepted for compatibility; X is never modified.
    algorithm : {"lloyd", "elkan"}, default="lloyd"
        Accepted for compatibility; both give the same labels.
    metric : {"euclidean", "cosine"}, default="euclidean"
        ``"cosine"`` is spherical K-Means: rows and centers are scaled to unit length, and
        a distance is one minus the cosine of the angle between a row and a center.
        A row of zeros has no direction and is an error, in `fit` and afterwards.
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives. Rows held by this process are
        predicted in this process, unless a Backend is given.
    n_partitions : int, optional
        Parts the rows are split into; unless given, one for few rows, else as many as pay.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features), dtype of X
    labels_ : ndarray of shape (n_samples,), int32, or a collection like X
    inertia_ : float
        Weighted sum of squared distances to the nearest center, summed exactly; with
        ``metric="cosine"`` of distances, ``1 - cos``.
    n_iter_ : int
        Iterations over all rows; those on a sample do not count.
    inertia_history_ : list of float
        Inertia of the centers each iteration started from. With ``init="sampled"`` it may
        rise for one, of centers beyond the means that are then given up.
    cluster_sizes_ : ndarray of shape (n_clusters,), int64
        Rows in each cluster.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Notes
    -----
    The method is S. P. Lloyd's (1982); semantics are those of `sklearn.cluster.KMeans`.
    With ``metric="cosine"`` it is I. S. Dhillon's and D. S. Modha's (2001): each center is
    the direction of the sum of its rows, and one whose rows cancel out stays where it was.
    ``1 - cos`` is computed as half the squared distance of unit vectors that are rounded to
    the data's dtype: it keeps its digits where angles are small, and cosines equal within
    that rounding are not told apart by the lowest index. `tol` refers to these vectors.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> kmeans = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> kmeans.inertia_
    16.0
    >>> kmeans.predict([[0, 0], [12, 3]]) == kmeans.labels_[[0, 3]]
    array([ True,  True])

    Directions, whatever the lengths:

    >>> X = np.array([[1, 0], [5, 1], [0, 2], [1, 9]])
    >>> KMeans(n_clusters=2, metric="cosine", init=X[[0, 2]]).fit_predict(X)
    array([0, 0, 1, 1], dtype=int32)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions(set(INITS)), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "elkan"})],
        "metric": [StrOptions(set(METRICS))],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "sampled",
        n_init: str | int = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        metric: str = "euclidean",
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.metric = metric
        self.backend = backend
        self.n_partitions = n_partitions

    @property
    def _may_stride(self) -> bool:
        """Whether the fit may choose its way, as it does where it starts."""
        return isinstance(self.init, str) and self.init == "sampled"

    @property
    def _metric(self) -> Euclidean:
        return METRICS[self.metric]

    def _listeners(self) -> list[Listener]:
        return [VerboseOutput()] if self.verbose else []

    def _fit(self, session: Session, rows: Input, *, keep_labels: bool) -> Self:
        source = rows.source
        if source.n_rows < self.n_clusters:
            raise ConfigError(
                f"n_samples={source.n_rows} should be >= n_clusters={self.n_clusters}."
            )
        n_init = self._n_init = self._runs()
        seeds = check_random_state(self.random_state).randint(np.iinfo(np.int32).max, size=n_init)
        shards = self._shard(session, source)
        data = describe(shards, source.dtype, weighted=source.weighted, metric=self._metric)
        starts = [self._start(shards, data, rows, seed) for seed in seeds.tolist()]
        with session.stage("iterations"):
            results = lloyd_runs(
                shards,
                starts,
                data,
                max_iter=self.max_iter,
                tol=self.tol,
                striding=self._may_stride,
            )
        with session.stage("labelling"):
            keep = keep_labels and rows.assemble is None
            result, labelling = self._best(shards, data, results, keep_labels=keep)
        self.cluster_centers_ = result.centers
        self._n_features_out = self.n_clusters
        sq_distances = data.frame.in_data_units(exact_value(labelling.inertia))
        self.inertia_ = self._metric.inertia(sq_distances)
        self.inertia_history_ = result.inertia_history
        self.cluster_sizes_ = labelling.sizes
        self.n_iter_ = result.n_iter
        self._warn_of_missing_clusters()
        if keep_labels:
            self.labels_ = self._labels(shards, rows, labelling)
        return self

    def _start(self, shards: Shards, data: DataStats, rows: Input, seed: int) -> npt.NDArray[Any]:
        with shards.session.stage("seeding"):
            return data.metric.start(self._initial_centers(shards, data, rows, seed))

    def _best(
        self, shards: Shards, data: DataStats, results: list[LloydResult], *, keep_labels: bool
    ) -> tuple[LloydResult, Labelling]:
        """Return the run of least inertia, the first of equals, and what its labels sum to."""
        best = 0
        if len(results) > 1:
            runs = tuple(Run(number, result.centers) for number, result in enumerate(results))
            sent = shards.session.broadcast(runs), shards.session.broadcast(data.frame)
            found: list[Labelling] = shards.reduce(label_runs, merge_label_runs, *sent)
            best = min(range(len(found)), key=lambda number: found[number].inertia)
            if not keep_labels:
                return results[best], found[best]
        result = results[best]
        return result, self._labelling(
            shards, result.centers, data.frame, run=best, keep_labels=keep_labels
        )

    def _initial_centers(
        self, shards: Shards, data: DataStats, rows: Input, seed: int
    ) -> npt.NDArray[Any]:
        init = self.init
        if isinstance(init, str):
            return INITS[init](shards, self.n_clusters, data, seed)
        if callable(init):
            if rows.in_memory is None:
                raise ConfigError("init is a callable, which needs X in memory; pass an array")
            init = init(rows.in_memory, self.n_clusters, random_state=check_random_state(seed))
        return checked_centers(init, self.n_clusters, rows.source.n_features, data.dtype)

    def _runs(self) -> int:
        if self.algorithm == "elkan" and self.n_clusters == 1:
            warnings.warn(
                "algorithm='elkan' doesn't make sense for a single cluster. Using 'lloyd' instead.",
                RuntimeWarning,
                stacklevel=5,
            )
        return count_runs(self.init, self.n_init, auto=10, name=type(self).__name__)
