"""The mini-batch K-Means estimator: scikit-learn's parameters and attributes, on any backend.

Validation and initialisation happen here; the iterations are
`distclust.cluster.minibatch_loop`, and what workers do `distclust.cluster.minibatch_steps`.
"""

from __future__ import annotations

import sys
import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import _fit_context
from sklearn.cluster import MiniBatchKMeans as SklearnMiniBatchKMeans
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from distclust.cluster.base import CenterEstimator
from distclust.cluster.drawing import distinct_rows, gather_rows
from distclust.cluster.initial import checked_centers, count_runs
from distclust.cluster.minibatch_loop import MiniBatchState, Pool, iterate, take_step
from distclust.cluster.seeding import FEW_ROWS, SEEDINGS
from distclust.cluster.statistics import DataStats, describe
from distclust.data.blocks import Source
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards
from distclust.errors import ConfigError
from distclust.inputs import Input, is_in_memory, opened
from distclust.kernels.exact_sum import exact_value
from distclust.kernels.scaling import Frame

__all__ = ["MiniBatchKMeans"]

Rows = npt.NDArray[Any]


class MiniBatchKMeans(CenterEstimator):
    """Mini-batch K-Means, the same bits on any backend and any number of workers.

    Each step draws a batch of rows, in proportion to their weights, and moves the centers
    towards the means of their rows. Rows stay where they are: the driver draws numbers,
    workers find the rows and return sums. Methods accept what `distclust.inputs`
    lists; rows of files are resident on the workers, as for `KMeans`, and a step reads
    only those drawn.

    Parameters
    ----------
    n_clusters : int, default=8
    init : {"k-means||", "k-means++", "random"}, array of shape (n_clusters, n_features) \
or callable, default="k-means||"
        See `KMeans`. Centers are chosen from a sample of `init_size` rows; a callable is
        given that sample.
    max_iter : int, default=100
        Stop when as many rows were drawn as `max_iter` passes would look at.
    batch_size : int, default=1024
        Rows drawn for a step, with replacement. If there are no more rows than that,
        every step takes each row once, with its weight.
    verbose : int, default=0
    compute_labels : bool, default=True
        Whether `fit` labels all rows in the end.
    random_state : int, RandomState instance or None, default=None
    tol : float, default=0.0
        Stop when the centers' squared shifts in a step sum to at most `tol` times the mean
        variance of the features; 0 means never.
    max_no_improvement : int or None, default=10
        Stop after so many steps in which the smoothed inertia did not improve; None means
        never.
    init_size : int, optional
        Rows to choose initial centers from; three batches unless given, or three times
        `n_clusters` if that would be fewer rows than centers.
    n_init : "auto" or int, default="auto"
        Initial centers to choose from, by their inertia on another sample; ``"auto"``
        means 3 for ``"random"`` and callables, else 1.
    reassignment_ratio : float, default=0.01
        A center that gathered less than this fraction of the heaviest one's weight is
        replaced by a row from time to time.
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives. Rows held by this process are
        predicted in this process, unless a Backend is given.
    n_partitions : int, optional
        Parts the rows are split into; unless given, one for few rows, else as many as pay.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features), dtype of X
    labels_ : ndarray of shape (n_samples,), int32, or a collection like X
        Of the rows last given; only if `compute_labels`.
    inertia_ : float
        Weighted sum of squared distances to the nearest center, summed exactly. Without
        `compute_labels`, what the last batches make expect.
    n_iter_ : int
        Passes over the rows that were begun, going by how many were drawn.
    n_steps_ : int
        Batches processed.
    cluster_sizes_ : ndarray of shape (n_clusters,), int64
        Rows in each cluster; only if `compute_labels`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Notes
    -----
    The method is D. Sculley's, "Web-scale k-means clustering", 2010; semantics are those
    of `sklearn.cluster.MiniBatchKMeans`. Up to 8192 rows are brought to the driver, where
    equal rows are merged and all are sorted: repeating a row is then the same as doubling
    its weight, and the order of rows does not matter.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> kmeans = MiniBatchKMeans(n_clusters=2, random_state=0).fit(X)
    >>> kmeans.inertia_
    16.0
    >>> kmeans.partial_fit([[1, 2], [10, 2]]).n_steps_ > 1
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions(set(SEEDINGS)), callable, "array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "verbose": ["verbose"],
        "compute_labels": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_no_improvement": [Interval(Integral, 0, None, closed="left"), None],
        "init_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "reassignment_ratio": [Interval(Real, 0, None, closed="left")],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }

    _saved_arrays = ("cluster_centers_", "cluster_sizes_", "_counts")
    _saved_scalars = ("inertia_", "n_iter_", "n_steps_", "_n_since_last_reassign")
    _sklearn_class = SklearnMiniBatchKMeans

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means||",
        max_iter: int = 100,
        batch_size: int = 1024,
        verbose: int = 0,
        compute_labels: bool = True,
        random_state: Any = None,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        n_init: str | int = "auto",
        reassignment_ratio: float = 0.01,
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.compute_labels = compute_labels
        self.random_state = random_state
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.backend = backend
        self.n_partitions = n_partitions

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take one step with the rows of X as the batch; choose initial centers at first.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), or frame
            Held by this process, where the step is taken.
        y : Ignored
        sample_weight : array of shape (n_samples,)

        Returns
        -------
        self : MiniBatchKMeans
        """
        if not is_in_memory(X):
            raise ConfigError(f"partial_fit takes an array or a frame, not {X!r}; fit takes it")
        first = not hasattr(self, "cluster_centers_")
        if not hasattr(self, "_random_state"):
            self._random_state = check_random_state(self.random_state)
        with opened(self, X, sample_weight, "local", reset=first) as (backend, rows):
            shards = self._shard(Session(backend), rows.source)
            pool = Pool(shards, rows.source, batch_size=None)
            if first:
                self._check_sizes(pool.data.n_rows, pool.data.n_rows)
                self._remember(self._start(pool, rows, self._random_state))
                self.n_steps_ = 0
            state = MiniBatchState(
                centers=self.cluster_centers_,
                weight_sums=self._counts.copy(),
                since_reassignment=self._n_since_last_reassign,
            )
            take_step(
                pool,
                state,
                self._random_state,
                reassignment_ratio=self.reassignment_ratio,
                say=self._say,
            )
            self._remember(state)
            self.n_steps_ += 1
            if self.compute_labels:
                self._label(shards, rows, keep_labels=True)
        return self

    def to_sklearn(self) -> Any:
        """Return a fitted `sklearn.cluster.MiniBatchKMeans` that predicts the same labels.

        The same up to rows whose two nearest centers are equally far within rounding:
        scikit-learn does not decide those canonically. Its ``partial_fit`` goes on from
        where this one is.
        """
        model = super().to_sklearn()
        model.cluster_centers_ = self.cluster_centers_.copy()  # it updates them in place
        model.n_steps_ = self.n_steps_
        model._counts = self._counts.astype(self.cluster_centers_.dtype)
        model._n_since_last_reassign = self._n_since_last_reassign
        return model

    def _fit(self, session: Session, rows: Input, *, keep_labels: bool) -> Self:
        rng = check_random_state(self.random_state)
        shards = self._shard(session, rows.source)
        with session.stage("seeding"):
            pool = self._pool(shards, rows.source)
            state = self._start(pool, rows, rng)
        with session.stage("iterations"):
            done = iterate(
                pool,
                state,
                rng,
                max_iter=self.max_iter,
                tol=self.tol,
                patience=self.max_no_improvement,
                reassignment_ratio=self.reassignment_ratio,
                say=self._say,
            )
        self._remember(state)
        self.n_steps_ = done.n_steps
        self.n_iter_ = int(np.ceil(self.n_steps_ * pool.batch_size / pool.data.n_rows))
        if self.compute_labels:
            with session.stage("labelling"):
                self._label(shards, rows, keep_labels=keep_labels)
        else:
            self.inertia_ = done.mean_inertia * pool.data.total_weight
        return self

    def _pool(self, shards: Shards, source: Source) -> Pool:
        """Make ready to draw batches; of few rows, from the distinct ones in a fixed order."""
        n_samples = source.n_rows
        if n_samples <= FEW_ROWS:
            gathered = gather_rows(shards)
            source = distinct_rows(gathered.rows, gathered.weights)
            shards = self._shard(shards.session, source)
        self._check_sizes(n_samples, source.n_rows)
        return Pool(shards, source, self.batch_size if self.batch_size < source.n_rows else None)

    def _check_sizes(self, n_samples: int, n_rows: int) -> None:
        """Fill in the sizes that depend on how many rows came and how many are drawn from."""
        if n_samples < self.n_clusters:
            raise ConfigError(f"n_samples={n_samples} should be >= n_clusters={self.n_clusters}.")
        self._n_init = count_runs(self.init, self.n_init, auto=3, name="MiniBatchKMeans")
        self._batch_size = min(self.batch_size, n_rows)
        init_size = 3 * self._batch_size if self.init_size is None else self.init_size
        if init_size < self.n_clusters:
            if self.init_size is not None:
                warnings.warn(
                    f"init_size={init_size} should be larger than n_clusters={self.n_clusters}. "
                    "Setting it to min(3*n_clusters, n_samples)",
                    RuntimeWarning,
                    stacklevel=6,
                )
            init_size = 3 * self.n_clusters
        self._init_size = min(init_size, n_rows)

    def _start(self, pool: Pool, rows: Input, rng: np.random.RandomState) -> MiniBatchState:
        """Choose initial centers: the best of `n_init`, each from a sample of its own."""
        tried = [self._initial_centers(pool, rows, rng) for _ in range(self._n_init)]
        if len(tried) == 1:
            return MiniBatchState.start(tried[0])
        shards, data = self._sample(pool, rng)  # to compare them on
        found = [
            self._labelling(shards, each, data.frame, keep_labels=False).inertia for each in tried
        ]
        for run, inertia in enumerate(found, start=1):
            shown = data.frame.in_data_units(exact_value(inertia))
            self._say(f"Inertia for init {run}/{len(tried)}: {shown}")
        return MiniBatchState.start(tried[found.index(min(found))])  # the first of equals

    def _initial_centers(self, pool: Pool, rows: Input, rng: np.random.RandomState) -> Rows:
        init, k, dtype = self.init, self.n_clusters, pool.data.dtype
        if isinstance(init, str):
            shards, data = self._sample(pool, rng)
            centers = SEEDINGS[init](shards, k, data, int(rng.randint(np.iinfo(np.int32).max)))
            return np.resize(centers, (k, rows.source.n_features))  # repeats, if rows are fewer
        if callable(init):
            init = init(self._rows_of_sample(pool, rows, rng), k, random_state=rng)
        return checked_centers(init, k, rows.source.n_features, dtype)

    def _rows_of_sample(self, pool: Pool, rows: Input, rng: np.random.RandomState) -> Any:
        """Return the sample as an array, or X itself when it is that and in memory."""
        if self._init_size < pool.data.n_rows:
            return pool.draw_rows(rng, self._init_size)
        return gather_rows(pool.shards).rows if rows.in_memory is None else rows.in_memory

    def _sample(self, pool: Pool, rng: np.random.RandomState) -> tuple[Shards, DataStats]:
        """Draw `init_size` rows; all of them, if there are no more."""
        if self._init_size >= pool.data.n_rows:
            return pool.shards, pool.data
        drawn = pool.draw_rows(rng, self._init_size)
        source = distinct_rows(drawn, np.ones(len(drawn)))
        shards = self._shard(pool.shards.session, source)
        return shards, describe(shards, source.dtype, weighted=True)

    def _remember(self, state: MiniBatchState) -> None:
        self.cluster_centers_ = state.centers
        self._counts = state.weight_sums
        self._n_since_last_reassign = state.since_reassignment
        self._n_features_out = self.n_clusters

    def _label(self, shards: Shards, rows: Input, *, keep_labels: bool) -> None:
        keep = keep_labels and rows.assemble is None
        centers = self._centers(rows.source)
        frame = Frame.of_centers(centers)
        found = self._labelling(shards, centers, frame, keep_labels=keep)
        self.inertia_ = frame.in_data_units(exact_value(found.inertia))
        self.cluster_sizes_ = found.sizes
        if keep_labels:
            self.labels_ = self._labels(shards, rows, found)

    def _say(self, line: str) -> None:
        if self.verbose:
            sys.stdout.write(line + "\n")
