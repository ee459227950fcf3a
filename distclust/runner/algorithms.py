"""The algorithms a job file can name: their parameters, and how to build each estimator.

A new algorithm is one parameter model and one `register` call; nothing else in the runner
asks which algorithm it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy.typing as npt

from distclust.cluster.bisecting import BisectingKMeans
from distclust.cluster.hdbscan import HDBSCAN
from distclust.cluster.kmeans import KMeans
from distclust.cluster.minibatch import MiniBatchKMeans
from distclust.runner.clusterers import CLUSTERERS
from distclust.runner.costs import (
    AlgorithmCost,
    bisecting_cost,
    hdbscan_cost,
    kmeans_cost,
    minibatch_cost,
)
from distclust.runner.estimator_specs import (
    BisectingKMeansSpec,
    HDBSCANSpec,
    KMeansSpec,
    MiniBatchKMeansSpec,
    Strict,
)
from distclust.runner.sampling import (
    SampleThenAssignSpec,
    sampling_cost,
    sampling_estimator,
    sampling_figures,
)

__all__ = ["ALGORITHMS", "Algorithm", "Estimator", "FitSummary", "register"]


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
    label_columns : callable
        Columns that ``output.columns`` may ask for besides ``label``, from the spec.
    cost : callable
        What an iteration costs, from the spec, the number of features and the bytes a number.
    summary : callable
        What to report of the fitted estimator.
    parts : mapping
        Keys of the spec whose values are named too, and the registries of these.
    """

    spec: type[Spec]
    build: Callable[[Spec, int], Estimator]
    n_clusters: Callable[[Spec], int | None]
    label_columns: Callable[[Spec], tuple[str, ...]]
    cost: Callable[[Spec, int, int], AlgorithmCost]
    summary: Callable[[Any], FitSummary]
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


ALGORITHMS: dict[str, Algorithm[Any]] = {}


def register(name: str, algorithm: Algorithm[Any]) -> None:
    """Let jobs name an algorithm."""
    ALGORITHMS[name] = algorithm


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
        label_columns=lambda spec: ("distance",),
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
    "bisecting_kmeans",
    Algorithm(
        spec=BisectingKMeansSpec,
        build=lambda spec, n_partitions: BisectingKMeans(**spec.parameters(n_partitions)),
        n_clusters=lambda spec: spec.n_clusters,
        label_columns=lambda spec: ("distance",),
        summary=lambda model: FitSummary(
            centers=model.cluster_centers_, figures={"inertia": model.inertia_}
        ),
        cost=lambda spec, n_features, itemsize: bisecting_cost(
            n_features, itemsize, runs=spec.n_init
        ),
    ),
)
register(
    "minibatch_kmeans",
    Algorithm(
        spec=MiniBatchKMeansSpec,
        build=lambda spec, n_partitions: MiniBatchKMeans(**spec.parameters(n_partitions)),
        n_clusters=lambda spec: spec.n_clusters,
        label_columns=lambda spec: ("distance",),
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
        label_columns=lambda spec: ("probability", "outlier_score"),
        summary=_summarize_hdbscan,
        cost=lambda spec, n_features, itemsize: hdbscan_cost(
            spec.min_samples or spec.min_cluster_size, n_features
        ),
    ),
)
register(
    "sample_then_assign",
    Algorithm(
        spec=SampleThenAssignSpec,
        build=sampling_estimator,
        n_clusters=lambda spec: spec.n_clusters,
        label_columns=lambda spec: spec.label_columns,
        summary=lambda model: FitSummary(
            centers=model.cluster_centers_, figures=sampling_figures(model)
        ),
        cost=sampling_cost,
        parts={"clusterer": CLUSTERERS},
    ),
)
