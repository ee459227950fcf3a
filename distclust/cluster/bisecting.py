"""The bisecting K-Means estimator: scikit-learn's parameters, on any backend.

Owns which cluster is split next and the tree that comes of it. A split is K-Means with two
centers (`distclust.cluster.seeding`, `distclust.cluster.lloyd`) on the rows of a cluster,
which `distclust.cluster.bisecting_steps` keeps apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from distclust.cluster.base import CenterEstimator
from distclust.cluster.bisecting_steps import (
    Branch,
    Side,
    Sides,
    Split,
    Tree,
    TreeScorer,
    branch_rows,
    label_by_tree,
    merge_sides,
    side_sums,
    tree_block_labels,
)
from distclust.cluster.drawing import gather_rows
from distclust.cluster.initial import checked_centers
from distclust.cluster.labelling import Labelling
from distclust.cluster.lloyd import lloyd, lloyd_runs
from distclust.cluster.seeding import SEEDINGS
from distclust.cluster.statistics import DataStats, describe
from distclust.cluster.verbose import VerboseOutput
from distclust.engine.events import Listener
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards
from distclust.errors import ConfigError
from distclust.inputs import Input
from distclust.kernels.exact_sum import exact_value

__all__ = ["BisectingKMeans"]

Centers = npt.NDArray[Any]


@dataclass(kw_only=True, eq=False)
class Cluster:
    """A cluster, which may have been split.

    Attributes
    ----------
    center : ndarray of shape (d,)
    branch : Branch
        The sides of splits that its rows are on.
    inertia : int
        Exact, as seen through the frame of the data; 0 says that there is nothing to split.
    n_rows : int
    children : list of Cluster
        None, or two.
    """

    center: Centers
    branch: Branch
    inertia: int
    n_rows: int
    children: list[Cluster] = field(default_factory=list)


SCORES: dict[str, Callable[[Cluster], tuple[int, int]]] = {
    "biggest_inertia": lambda cluster: (cluster.inertia, 0),
    "largest_cluster": lambda cluster: (int(cluster.inertia > 0), cluster.n_rows),
}
"""Which cluster is split next: the one of the highest score, the first of equals."""


class BisectingKMeans(CenterEstimator):
    """Bisecting K-Means, the same bits on any backend and any number of workers.

    One cluster after another is split in two by K-Means, until there are as many as asked.
    Clusters are fewer passes away than with `KMeans`, since a split looks at the rows of one
    cluster only, and form a hierarchy. Methods accept what `distclust.inputs` lists.

    Parameters
    ----------
    n_clusters : int, default=8
    init : {"k-means++", "k-means||", "random"} or callable, default="k-means++"
        How the two centers of a split are chosen: see `KMeans`. A callable is given
        ``X, n_clusters, random_state`` with the rows of the cluster and 2, and needs X in memory.
    n_init : int, default=1
        Runs with different seeds in each split, of which the best is kept.
    random_state : int, RandomState instance or None, default=None
    max_iter : int, default=300
        Of each split.
    verbose : int, default=0
    tol : float, default=1e-4
        Of each split, relative to the variance of the rows that are split.
    copy_x : bool, default=True
        Accepted for compatibility; X is never modified.
    algorithm : {"lloyd", "elkan"}, default="lloyd"
        Accepted for compatibility; both give the same labels.
    bisecting_strategy : {"biggest_inertia", "largest_cluster"}, default="biggest_inertia"
        Which cluster is split next: that of the greatest sum of squared distances, or that
        of most rows among those whose rows are not all the same.
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
        Weighted sum of squared distances to the cluster's center, summed exactly.
    cluster_sizes_ : ndarray of shape (n_clusters,), int64
        Rows in each cluster.
    split_centers_ : ndarray of shape (n_clusters - 1, 2, n_features), dtype of X
        The two centers of each split, in the order in which clusters were split.
    split_children_ : ndarray of shape (n_clusters - 1, 2), int64
        What is on the side of each: a cluster if less than `n_clusters`, else the split of
        that number less `n_clusters`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Notes
    -----
    The method is M. Steinbach's, G. Karypis' and V. Kumar's, "A comparison of document
    clustering techniques", 2000; semantics are those of `sklearn.cluster.BisectingKMeans`.
    `predict` and ``labels_`` follow the tree, from the nearer center of a split to the next
    split; `transform` and `score` are about the nearest of all centers. Workers keep the rows
    a second time, cluster by cluster, while `fit` runs.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1, 1], [2, 1], [3, 1], [10, 0], [10, 1], [10, 2], [10, 8], [10, 9]])
    >>> model = BisectingKMeans(n_clusters=3, random_state=1).fit(X)
    >>> model.inertia_
    4.5
    >>> model.predict([[0, 0], [12, 3]]) == model.labels_[[0, 3]]
    array([ True,  True])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions(set(SEEDINGS)), callable],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "verbose": ["verbose"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "elkan"})],
        "bisecting_strategy": [StrOptions(set(SCORES))],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }

    _saved_arrays = ("cluster_centers_", "cluster_sizes_", "split_centers_", "split_children_")
    _saved_scalars = ("inertia_",)

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: int = 1,
        random_state: Any = None,
        max_iter: int = 300,
        verbose: int = 0,
        tol: float = 1e-4,
        copy_x: bool = True,
        algorithm: str = "lloyd",
        bisecting_strategy: str = "biggest_inertia",
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.random_state = random_state
        self.max_iter = max_iter
        self.verbose = verbose
        self.tol = tol
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.bisecting_strategy = bisecting_strategy
        self.backend = backend
        self.n_partitions = n_partitions

    def scorer(self, columns: Any = ("label",)) -> TreeScorer:
        """Return a small picklable function that computes output columns of a `Block`.

        Parameters
        ----------
        columns : sequence of {"label", "distance"}
        """
        return TreeScorer(self._tree(self.cluster_centers_.dtype), tuple(columns))

    def to_sklearn(self) -> Any:
        """Raise: scikit-learn's tree cannot be made from outside."""
        raise ConfigError(
            "scikit-learn's BisectingKMeans can only be fitted; save this model, or use "
            "sklearn.cluster.KMeans with init=cluster_centers_, whose labels are the nearest"
        )

    def _listeners(self) -> list[Listener]:
        return [VerboseOutput()] if self.verbose else []

    def _fit(self, session: Session, rows: Input, *, keep_labels: bool) -> Self:
        source = rows.source
        if source.n_rows < self.n_clusters:
            raise ConfigError(
                f"n_samples={source.n_rows} should be >= n_clusters={self.n_clusters}."
            )
        shards = self._shard(session, source)
        data = describe(shards, source.dtype, weighted=source.weighted)
        with session.stage("iterations"):
            clusters, split = self._grown(shards, data, rows)
        self._remember(clusters, split)
        inertia = sum(cluster.inertia for cluster in clusters)
        self.inertia_ = data.frame.in_data_units(exact_value(inertia))
        self._warn_of_missing_clusters()
        if keep_labels:
            with session.stage("labelling"):
                self.labels_ = self._labels(shards, rows)
        return self

    def _grown(
        self, shards: Shards, data: DataStats, rows: Input
    ) -> tuple[list[Cluster], list[Cluster]]:
        """Return the clusters, from left to right, and those that were split on the way."""
        random, score = check_random_state(self.random_state), SCORES[self.bisecting_strategy]
        whole = lloyd(
            shards, data.frame.offset[np.newaxis].astype(data.dtype), data, max_iter=1, tol=0.0
        )
        found: Sides = shards.reduce(
            side_sums, merge_sides, np.repeat(whole.centers, 2, axis=0), data.frame
        )
        root = Cluster(
            center=whole.centers[0], branch=(), inertia=found.inertia[0], n_rows=data.n_rows
        )
        clusters, split = [root], []
        while len(clusters) < self.n_clusters:
            place = max(range(len(clusters)), key=lambda i: score(clusters[i]))
            cluster = clusters[place]
            if cluster.inertia > 0:
                cluster.children = self._bisected(shards, data, rows, cluster, random)
            else:  # nothing is left to split: its rows, and a cluster of none
                none = Cluster(center=cluster.center, branch=(), inertia=0, n_rows=0)
                cluster.children = [Cluster(**{**vars(cluster), "children": []}), none]
            clusters[place : place + 1] = cluster.children
            split.append(cluster)
        return clusters, split

    def _bisected(
        self,
        shards: Shards,
        data: DataStats,
        rows: Input,
        cluster: Cluster,
        random: np.random.RandomState,
    ) -> list[Cluster]:
        """Run K-Means with two centers on the rows of a cluster."""
        branch, send = cluster.branch, shards.session.broadcast
        view = shards.viewed(branch_rows, send(branch)) if branch else shards
        about = describe(view, data.dtype, weighted=rows.source.weighted) if branch else data
        seeds = random.randint(np.iinfo(np.int32).max, size=self.n_init).tolist()
        starts = [self._initial_centers(view, about, rows, seed) for seed in seeds]
        runs = lloyd_runs(view, starts, about, max_iter=self.max_iter, tol=self.tol)
        found: list[Sides] = [
            view.reduce(side_sums, merge_sides, run.centers, data.frame) for run in runs
        ]
        best = min(range(len(runs)), key=lambda number: sum(found[number].inertia))
        centers, sides = runs[best].centers, found[best]
        split = Split.of(centers, sides.counts)
        return [
            Cluster(
                center=centers[number],
                branch=(*branch, Side(split, number)),
                inertia=sides.inertia[number],
                n_rows=sum(counts[1 + number] for counts in sides.counts),
            )
            for number in (0, 1)
        ]

    def _initial_centers(self, view: Shards, about: DataStats, rows: Input, seed: int) -> Centers:
        if isinstance(self.init, str):
            return SEEDINGS[self.init](view, 2, about, seed)
        if rows.in_memory is None:
            raise ConfigError("init is a callable, which needs X in memory; pass an array")
        given = self.init(gather_rows(view).rows, 2, random_state=check_random_state(seed))
        return checked_centers(given, 2, rows.source.n_features, about.dtype)

    def _remember(self, clusters: list[Cluster], split: list[Cluster]) -> None:
        numbers = {id(cluster): number for number, cluster in enumerate([*clusters, *split])}
        self.cluster_centers_ = np.array([cluster.center for cluster in clusters])
        self.cluster_sizes_ = np.array([cluster.n_rows for cluster in clusters], dtype=np.int64)
        shape = (len(split), 2, self.cluster_centers_.shape[1])
        pairs = [[child.center for child in cluster.children] for cluster in split]
        self.split_centers_ = np.array(pairs, dtype=self.cluster_centers_.dtype).reshape(shape)
        children = [[numbers[id(child)] for child in cluster.children] for cluster in split]
        self.split_children_ = np.array(children, dtype=np.int64).reshape(shape[:2])
        self._n_features_out = self.n_clusters

    def _tree(self, dtype: np.dtype[Any]) -> Tree:
        """Return the tree for rows of a dtype."""
        pairs, centers = (
            array.astype(dtype, copy=False)
            for array in (self.split_centers_, self.cluster_centers_)
        )
        return Tree(pairs, self.split_children_, centers)

    def _labels(self, shards: Shards, rows: Input, known: Labelling | None = None) -> Any:
        tree = shards.session.broadcast(self._tree(rows.source.dtype))
        if rows.assemble is not None:
            return rows.assemble(shards.futures(tree_block_labels, tree))
        found = shards.map(label_by_tree, tree)
        return rows.gather([pair for _, pairs in found for pair in pairs])
