"""The algorithms a job file can name: their parameters, and how to build each estimator.

A new algorithm is one parameter model and one `register` call; nothing else in the runner
asks which algorithm it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field

from distclust.cluster.hdbscan import HDBSCAN
from distclust.cluster.initial import count_runs
from distclust.cluster.kmeans import KMeans
from distclust.cluster.minibatch import MiniBatchKMeans
from distclust.runner.costs import AlgorithmCost, hdbscan_cost, kmeans_cost, minibatch_cost

__all__ = ["ALGORITHMS", "Algorithm", "Estimator", "FitSummary", "Strict", "register", "said"]

MAX_CLUSTERS = 2**31 - 1  # labels are int32


class Strict(BaseModel):
    """Base of every part of a job: frozen, no unknown keys, no coercion."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )


def said(message: str, *path: str) -> pydantic_core.PydanticCustomError:
    """Return what a validator raises to say a message of ours at a key below it."""
    return pydantic_core.PydanticCustomError("job", "{message}", {"message": message, "path": path})


class Estimator(Protocol):
    """What the runner needs of a fitted clusterer."""

    def fit_source(self, session: Any, source: Any) -> Any:
        """Fit on the rows of `source`, on the session's backend, without labelling rows."""

    def scorer(self, columns: Sequence[str]) -> Callable[..., dict[str, npt.NDArray[Any]]]:
        """Return a picklable function from a `Block` to its columns ``label``, ``distance`` …"""

    def save(self, path: Any) -> Any:
        """Write the model directory."""


@dataclass(frozen=True, kw_only=True)
class FitSummary:
    """What a report says of a fit.

    Attributes
    ----------
    centers : ndarray of shape (n_clusters, n_features), or None
        A representative point of each cluster, where the algorithm has one.
    figures : dict
        JSON values, e.g. ``n_iter`` and ``inertia``.
    """

    centers: npt.NDArray[Any] | None
    figures: dict[str, Any]


Spec = TypeVar("Spec", bound=Strict)


@dataclass(frozen=True, kw_only=True)
class Algorithm(Generic[Spec]):
    """One entry of the registry.

    Attributes
    ----------
    spec : type
        Parameter model; its field ``name`` is the literal that selects it.
    build : callable
        Makes the unfitted estimator from the spec and the number of partitions.
    n_clusters : callable
        How many clusters a spec asks for, or None where the data decide.
    label_columns : tuple of str
        Columns that ``output.columns`` may ask for besides ``label``.
    cost : callable
        What an iteration costs, from the spec, the number of features and the bytes a number.
    summary : callable
        What to report of the fitted estimator.
    """

    spec: type[Spec]
    build: Callable[[Spec, int], Estimator]
    n_clusters: Callable[[Spec], int | None]
    label_columns: tuple[str, ...]
    cost: Callable[[Spec, int, int], AlgorithmCost]
    summary: Callable[[Any], FitSummary]


ALGORITHMS: dict[str, Algorithm[Any]] = {}


def register(name: str, algorithm: Algorithm[Any]) -> None:
    """Let jobs name an algorithm."""
    ALGORITHMS[name] = algorithm


GivenCenters = Annotated[list[Annotated[list[float], Field(min_length=1)]], Field(min_length=1)]


class CentersSpec(Strict):
    """What algorithms with cluster centers have in common.

    Names and defaults are those of the estimators, with one difference: `random_state` is
    0 unless given, so that a job repeats itself.
    """

    name: str
    n_clusters: int = Field(default=8, ge=1, le=MAX_CLUSTERS)
    init: Any
    n_init: Literal["auto"] | Annotated[int, Field(ge=1, le=10_000)] = "auto"
    random_state: int | None = Field(default=0, ge=0, lt=2**32)

    def parameters(self, n_partitions: int) -> dict[str, Any]:
        """Return the estimator's parameters."""
        given = self.model_dump(exclude={"name"})
        if isinstance(self.init, list):
            given["init"] = np.asarray(self.init, dtype=np.float64)
        return {**given, "n_partitions": n_partitions}


class KMeansSpec(CentersSpec):
    """Parameters of `distclust.KMeans`."""

    name: Literal["kmeans"]
    init: Literal["sampled", "k-means||", "k-means++", "random"] | GivenCenters = "sampled"
    max_iter: int = Field(default=300, ge=1, le=1_000_000)
    tol: float = Field(default=1e-4, ge=0)
    metric: Literal["euclidean", "cosine"] = "euclidean"

    @property
    def n_runs(self) -> int:
        """Sets of initial centers that are tried."""
        return (
            1
            if isinstance(self.init, list)
            else count_runs(self.init, self.n_init, auto=10, name="KMeans")
        )


class MiniBatchKMeansSpec(CentersSpec):
    """Parameters of `distclust.MiniBatchKMeans`."""

    name: Literal["minibatch_kmeans"]
    init: Literal["k-means||", "k-means++", "random"] | GivenCenters = "k-means||"
    max_iter: int = Field(default=100, ge=1, le=1_000_000)
    batch_size: int = Field(default=1024, ge=1)
    tol: float = Field(default=0.0, ge=0)
    max_no_improvement: int | None = Field(default=10, ge=0)
    init_size: int | None = Field(default=None, ge=1)
    reassignment_ratio: float = Field(default=0.01, ge=0)


class HDBSCANSpec(Strict):
    """Parameters of `distclust.HDBSCAN`; no `cluster_selection_epsilon_max` is no limit."""

    name: Literal["hdbscan"]
    min_cluster_size: int = Field(default=5, ge=2)
    min_samples: int | None = Field(default=None, ge=1)
    metric: Literal["euclidean", "manhattan", "chebyshev", "cosine", "haversine"] = "euclidean"
    alpha: float = Field(default=1.0, gt=0)
    cluster_selection_method: Literal["eom", "leaf"] = "eom"
    cluster_selection_epsilon: float = Field(default=0.0, ge=0)
    cluster_selection_epsilon_max: float | None = Field(default=None, ge=0)
    cluster_selection_persistence: float = Field(default=0.0, ge=0)
    max_cluster_size: int | None = Field(default=None, ge=0)
    allow_single_cluster: bool = False
    prediction_data: bool = False
    mode: Literal["exact", "approximate"] = "exact"

    def parameters(self, n_partitions: int) -> dict[str, Any]:
        """Return the estimator's parameters."""
        given = self.model_dump(exclude={"name"})
        if self.cluster_selection_epsilon_max is None:
            del given["cluster_selection_epsilon_max"]
        return {**given, "n_partitions": n_partitions}


def _summarize_hdbscan(model: Any) -> FitSummary:
    figures = {
        "noise": int((model.labels_ < 0).sum()),
        "cluster_persistence": [float(value) for value in model.cluster_persistence_],
        "relative_validity": model.relative_validity_,
        "certified_fraction": model.certified_fraction_,
    }
    return FitSummary(centers=None, figures=figures)


def _summarize_centers(model: Any, *more: str) -> FitSummary:
    figures = {"n_iter": int(model.n_iter_), "inertia": float(model.inertia_)}
    others = {name: getattr(model, f"{name}_") for name in more}
    return FitSummary(centers=model.cluster_centers_, figures={**figures, **others})


register(
    "kmeans",
    Algorithm(
        spec=KMeansSpec,
        build=lambda spec, n_partitions: KMeans(**spec.parameters(n_partitions)),
        n_clusters=lambda spec: spec.n_clusters,
        label_columns=("distance",),
        summary=lambda model: _summarize_centers(model, "inertia_history"),
        cost=lambda spec, n_features, itemsize: kmeans_cost(
            spec.n_clusters,
            n_features,
            itemsize,
            runs=spec.n_runs,
        ),
    ),
)
register(
    "minibatch_kmeans",
    Algorithm(
        spec=MiniBatchKMeansSpec,
        build=lambda spec, n_partitions: MiniBatchKMeans(**spec.parameters(n_partitions)),
        n_clusters=lambda spec: spec.n_clusters,
        label_columns=("distance",),
        summary=lambda model: _summarize_centers(model, "n_steps"),
        cost=lambda spec, n_features, itemsize: minibatch_cost(
            spec.n_clusters, n_features, itemsize, spec.batch_size
        ),
    ),
)
register(
    "hdbscan",
    Algorithm(
        spec=HDBSCANSpec,
        build=lambda spec, n_partitions: HDBSCAN(**spec.parameters(n_partitions)),
        n_clusters=lambda spec: None,
        label_columns=("probability", "outlier_score"),
        summary=_summarize_hdbscan,
        cost=lambda spec, n_features, itemsize: hdbscan_cost(
            spec.min_samples or spec.min_cluster_size, n_features
        ),
    ),
)
