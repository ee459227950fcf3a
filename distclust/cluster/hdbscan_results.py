"""What can be asked of a fitted HDBSCAN besides labels, from the tree and the fitted rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import pairwise_distances_chunked
from sklearn.utils.validation import check_is_fitted

from distclust.cluster import hierarchy_views as views
from distclust.cluster.flat_clustering import FlatClustering, validity
from distclust.errors import ConfigError
from distclust.kernels.edges import SpanningTree
from distclust.kernels.linkage import cut_labels

__all__ = ["HierarchyResults"]

BALL_TREE_METRICS = ("haversine",)


class HierarchyResults:
    """Views of a fitted hierarchy."""

    metric: str
    prediction_data: bool
    min_samples_: int
    _edges: SpanningTree
    _clustering: FlatClustering
    _X: npt.NDArray[Any] | None
    _made: dict[str, Any]  # what was asked for and is kept

    @property
    def condensed_tree_(self) -> Any:
        """The condensed tree, as `hdbscan.plots.CondensedTree`."""
        self._check_fitted()
        if "condensed tree" not in self._made:  # the package asks for it once a row it predicts
            tree = views.condensed_tree(self._clustering.tree, self._clustering.labels)
            self._made["condensed tree"] = tree
        return self._made["condensed tree"]

    @property
    def single_linkage_tree_(self) -> Any:
        """The single linkage tree, as `hdbscan.plots.SingleLinkageTree`."""
        self._check_fitted()
        return views.single_linkage_tree(self._edges)

    @property
    def minimum_spanning_tree_(self) -> Any:
        """The mutual reachability tree, as `hdbscan.plots.MinimumSpanningTree`."""
        self._check_fitted()
        return views.minimum_spanning_tree(self._edges, self._fitted_rows())

    @property
    def exemplar_indices_(self) -> list[npt.NDArray[np.int64]]:
        """For each cluster, the rows that stay longest in its densest parts."""
        self._check_fitted()
        tree, flat, labels, _, _ = self._clustering
        leaf = np.ones(tree.n_clusters, dtype=np.bool_)
        leaf[tree.parent[1:]] = False
        lasting = leaf[tree.row_cluster] & (tree.row_density == tree.death[tree.row_cluster])
        return [np.flatnonzero(lasting & (labels == label)) for label in range(len(flat.selected))]

    @property
    def exemplars_(self) -> list[npt.NDArray[Any]]:
        """The rows at `exemplar_indices_`: arrays of shape (n_exemplars, n_features)."""
        X = self._fitted_rows()
        return [X[rows] for rows in self.exemplar_indices_]

    @property
    def relative_validity_(self) -> float:
        """How well clusters are separated for their density, in [-1, 1].

        An approximation of DBCV (D. Moulavi et al., 2014) from the spanning tree's edges:
        for comparing parameters on the same rows.
        """
        self._check_fitted()
        return validity(self._edges, self._clustering.labels)

    def weighted_cluster_centroid(self, cluster_id: int) -> npt.NDArray[np.float64]:
        """Return the mean of a cluster's rows, weighted by their probabilities.

        Parameters
        ----------
        cluster_id : int

        Returns
        -------
        centroid : ndarray of shape (n_features,)

        Raises
        ------
        ValueError
            There is no such cluster; noise is none.
        """
        rows, weights = self._members(cluster_id)
        centroid: npt.NDArray[np.float64] = np.average(rows, axis=0, weights=weights)
        return centroid

    def weighted_cluster_medoid(self, cluster_id: int) -> npt.NDArray[Any]:
        """Return the row of a cluster at the least weighted distance from its others.

        Time grows with the square of the cluster's rows; memory does not.

        Parameters
        ----------
        cluster_id : int

        Returns
        -------
        medoid : ndarray of shape (n_features,)

        Raises
        ------
        ValueError
            There is no such cluster; noise is none.
        """
        rows, weights = self._members(cluster_id)
        total = pairwise_distances_chunked(
            rows, reduce_func=lambda distances, _: distances @ weights, metric=self.metric
        )
        medoid: npt.NDArray[Any] = rows[np.argmin(np.concatenate(list(total)))]
        return medoid

    def dbscan_clustering(
        self, cut_distance: float, min_cluster_size: int = 5
    ) -> npt.NDArray[np.int64]:
        """Return the labels of DBSCAN* at a distance: DBSCAN without border rows.

        Parameters
        ----------
        cut_distance : float
            Rows of a cluster are joined by mutual reachability distances below it.
        min_cluster_size : int
            Smaller groups are noise.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
            Numbered by the lowest row of each cluster; noise is -1.
        """
        self._check_fitted()
        return cut_labels(self._edges, cut_distance, min_cluster_size)

    def generate_prediction_data(self) -> None:
        """Make `prediction_data_` for functions of `hdbscan.prediction`; `predict` needs none.

        Done by that package. After fitting with ``prediction_data=True`` it happens once
        `prediction_data_` is asked for.
        """
        self._made["package"] = views.package("hdbscan.prediction").PredictionData(
            self._fitted_rows(),
            self.condensed_tree_,
            self.min_samples_,
            tree_type="balltree" if self.metric in BALL_TREE_METRICS else "kdtree",
            metric=self.metric,
        )

    @property
    def prediction_data_(self) -> Any:
        """What functions of `hdbscan.prediction` need of an estimator."""
        self._check_fitted()
        if "package" not in self._made:
            if not self.prediction_data:
                raise AttributeError("No prediction data was generated")
            self.generate_prediction_data()
        return self._made["package"]

    def _members(self, cluster_id: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
        self._check_fitted()
        count = len(self._clustering.flat.selected)
        if not 0 <= cluster_id < count:
            known = f"clusters are 0 to {count - 1}" if count else "there is no cluster"
            raise ConfigError(f"cluster_id={cluster_id} is not a cluster; {known}, and -1 is noise")
        rows = np.flatnonzero(self._clustering.labels == cluster_id)
        return self._fitted_rows()[rows], self._clustering.probabilities[rows]

    def _fitted_rows(self) -> npt.NDArray[Any]:
        self._check_fitted()
        if self._X is None:
            raise ConfigError(
                "the fitted rows are not at hand: they came from files or a collection; "
                "fit with prediction_data=True to keep a copy of them"
            )
        return self._X

    def _check_fitted(self) -> None:
        check_is_fitted(self, "core_distances_")
