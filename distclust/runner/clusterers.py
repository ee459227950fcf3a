"""The clusterers that `sample_then_assign` can run on a sample, by name: never an import path.

Parameters have the names and defaults of the estimators, but for `random_state`, which is 0
unless given, so that a job repeats itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field, model_validator
from sklearn import cluster, mixture

from distclust.cluster.hdbscan import HDBSCAN
from distclust.cluster.kmeans import KMeans
from distclust.cluster.minibatch import MiniBatchKMeans
from distclust.runner.estimator_specs import (
    HDBSCANSpec,
    KMeansSpec,
    MiniBatchKMeansSpec,
    Strict,
    said,
)

__all__ = ["CLUSTERERS", "Clusterer"]

Spec = TypeVar("Spec", bound=Strict)
NeighborMetric = Literal["euclidean", "manhattan", "chebyshev", "cosine", "haversine"]


@dataclass(frozen=True, kw_only=True)
class Clusterer(Generic[Spec]):
    """One entry of the list.

    Attributes
    ----------
    spec : type
        Parameter model; its field ``name`` is the literal that selects it.
    build : callable
        Makes the unfitted estimator from the spec.
    n_clusters : callable
        How many clusters a spec asks for, or None where the data decide.
    predicts : tuple of str, or None
        Columns that its own ``predict`` can tell besides ``label``. None where it has none
        that a model without pickle can repeat.
    fit_bytes : callable
        What a fit holds at most, from the number of rows and of features.
    """

    spec: type[Spec]
    build: Callable[[Spec], Any]
    n_clusters: Callable[[Spec], int | None]
    predicts: tuple[str, ...] | None = None
    fit_bytes: Callable[[int, int], int]


class AgglomerativeSpec(Strict):
    """Parameters of `sklearn.cluster.AgglomerativeClustering`."""

    name: Literal["agglomerative"]
    n_clusters: int | None = Field(default=2, ge=1)
    linkage: Literal["ward", "complete", "average", "single"] = "ward"
    metric: Literal["euclidean", "manhattan", "cosine"] = "euclidean"
    distance_threshold: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _check(self) -> AgglomerativeSpec:
        if (self.n_clusters is None) == (self.distance_threshold is None):
            raise said("give either n_clusters or distance_threshold, the other as null")
        if self.linkage == "ward" and self.metric != "euclidean":
            raise said("must be 'euclidean' for linkage: ward", "metric")
        return self


class SpectralSpec(Strict):
    """Parameters of `sklearn.cluster.SpectralClustering`."""

    name: Literal["spectral"]
    n_clusters: int = Field(default=8, ge=1)
    affinity: Literal["rbf", "nearest_neighbors"] = "rbf"
    gamma: float = Field(default=1.0, ge=0)
    n_neighbors: int = Field(default=10, ge=1)
    assign_labels: Literal["kmeans", "discretize", "cluster_qr"] = "kmeans"
    random_state: int | None = Field(default=0, ge=0, lt=2**32)


class GaussianMixtureSpec(Strict):
    """Parameters of `sklearn.mixture.GaussianMixture`."""

    name: Literal["gaussian_mixture"]
    n_components: int = Field(default=1, ge=1)
    covariance_type: Literal["full", "tied", "diag", "spherical"] = "full"
    tol: float = Field(default=1e-3, ge=0)
    reg_covar: float = Field(default=1e-6, ge=0)
    max_iter: int = Field(default=100, ge=1)
    n_init: int = Field(default=1, ge=1)
    random_state: int | None = Field(default=0, ge=0, lt=2**32)


class DBSCANSpec(Strict):
    """Parameters of `sklearn.cluster.DBSCAN`."""

    name: Literal["dbscan"]
    eps: float = Field(default=0.5, gt=0)
    min_samples: int = Field(default=5, ge=1)
    metric: NeighborMetric = "euclidean"


class OPTICSSpec(Strict):
    """Parameters of `sklearn.cluster.OPTICS`."""

    name: Literal["optics"]
    min_samples: int = Field(default=5, ge=2)
    metric: NeighborMetric = "euclidean"
    xi: float = Field(default=0.05, ge=0, le=1)
    min_cluster_size: int | None = Field(default=None, ge=2)


class BirchSpec(Strict):
    """Parameters of `sklearn.cluster.Birch`."""

    name: Literal["birch"]
    n_clusters: int | None = Field(default=3, ge=1)
    threshold: float = Field(default=0.5, ge=0)
    branching_factor: int = Field(default=50, ge=2)


class BisectingKMeansSpec(Strict):
    """Parameters of `sklearn.cluster.BisectingKMeans`."""

    name: Literal["bisecting_kmeans"]
    n_clusters: int = Field(default=8, ge=1)
    n_init: int = Field(default=1, ge=1)
    max_iter: int = Field(default=300, ge=1)
    tol: float = Field(default=1e-4, ge=0)
    bisecting_strategy: Literal["biggest_inertia", "largest_cluster"] = "biggest_inertia"
    random_state: int | None = Field(default=0, ge=0, lt=2**32)


def _of(estimator: Any) -> Callable[[Any], Any]:
    """Return a builder that passes on all parameters."""
    return lambda spec: estimator(**spec.model_dump(exclude={"name"}))


def _ours(estimator: Any) -> Callable[[Any], Any]:
    """Return a builder of an estimator of distclust, which is local to this process."""
    return lambda spec: estimator(**spec.parameters(None), backend="local")


def _some(n_rows: int, n_features: int) -> int:
    """A few copies of the rows."""
    return 4 * 8 * n_rows * n_features


def _pairs(copies: int) -> Callable[[int, int], int]:
    """Return a formula of so many distances of each pair of rows."""
    return lambda n_rows, n_features: copies * 4 * n_rows**2 + _some(n_rows, n_features)


CLUSTERERS: dict[str, Clusterer[Any]] = {
    "agglomerative": Clusterer(
        spec=AgglomerativeSpec,
        build=_of(cluster.AgglomerativeClustering),
        n_clusters=lambda spec: spec.n_clusters,
        fit_bytes=_pairs(2),  # condensed distances, and a copy that is written to
    ),
    "birch": Clusterer(
        spec=BirchSpec,
        build=_of(cluster.Birch),
        n_clusters=lambda spec: spec.n_clusters,
        fit_bytes=_some,
    ),
    "bisecting_kmeans": Clusterer(
        spec=BisectingKMeansSpec,
        build=_of(cluster.BisectingKMeans),
        n_clusters=lambda spec: spec.n_clusters,
        fit_bytes=_some,
    ),
    "dbscan": Clusterer(
        spec=DBSCANSpec,
        build=_of(cluster.DBSCAN),
        n_clusters=lambda spec: None,
        fit_bytes=_pairs(2),  # if all rows are neighbors
    ),
    "gaussian_mixture": Clusterer(
        spec=GaussianMixtureSpec,
        build=_of(mixture.GaussianMixture),
        n_clusters=lambda spec: spec.n_components,
        fit_bytes=_some,
    ),
    "hdbscan": Clusterer(
        spec=HDBSCANSpec,
        build=_ours(HDBSCAN),
        n_clusters=lambda spec: None,
        predicts=("confidence",),
        fit_bytes=lambda n_rows, n_features: 60 * n_rows + _some(n_rows, n_features),
    ),
    "kmeans": Clusterer(
        spec=KMeansSpec,
        build=_ours(KMeans),
        n_clusters=lambda spec: spec.n_clusters,
        predicts=("distance",),
        fit_bytes=_some,
    ),
    "minibatch_kmeans": Clusterer(
        spec=MiniBatchKMeansSpec,
        build=_ours(MiniBatchKMeans),
        n_clusters=lambda spec: spec.n_clusters,
        predicts=("distance",),
        fit_bytes=_some,
    ),
    "optics": Clusterer(
        spec=OPTICSSpec,
        build=_of(cluster.OPTICS),
        n_clusters=lambda spec: None,
        fit_bytes=_some,
    ),
    "spectral": Clusterer(
        spec=SpectralSpec,
        build=_of(cluster.SpectralClustering),
        n_clusters=lambda spec: spec.n_clusters,
        fit_bytes=_pairs(6),  # affinities, their Laplacian and a copy of it, in full
    ),
}
