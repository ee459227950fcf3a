"""`sample_then_assign` as the algorithm of a job: its parameters, estimator, cost and report."""

from __future__ import annotations

from dataclasses import asdict
from math import isfinite
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, model_validator

from distclust.cluster.sample_then_assign import SampleThenAssign
from distclust.runner.clusterers import CLUSTERERS, Clusterer
from distclust.runner.costs import AlgorithmCost, sample_cost
from distclust.runner.estimator_specs import Strict, said

__all__ = ["SampleThenAssignSpec", "sampling_cost", "sampling_estimator", "sampling_figures"]


class SampleThenAssignSpec(Strict):
    """Parameters of `distclust.SampleThenAssign`.

    ``assign: auto`` is the own ``predict`` of distclust's clusterers, else the nearest sampled
    row: a model is saved without pickle, so it cannot repeat another library's ``predict``.
    """

    name: Literal["sample_then_assign"]
    clusterer: SerializeAsAny[Strict]
    sample_size: int = Field(default=10_000, ge=2)
    sampling: Literal["uniform", "coreset", "stratified"] = "uniform"
    strata: int | str = 64
    assign: Literal["auto", "predict", "nearest-center", "nearest-sample", "knn"] = "auto"
    n_neighbors: int = Field(default=5, ge=1)
    metric: Literal["euclidean", "manhattan", "chebyshev", "cosine", "haversine"] | None = None
    max_distance: float | None = Field(default=None, ge=0)
    estimate_error: bool = False
    random_state: int | None = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _check(self) -> SampleThenAssignSpec:
        if not hasattr(self.clusterer, "name"):  # it has problems of its own
            return self
        k = self.n_clusters
        if k is not None and k > self.sample_size:
            raise said(f"must be at least the number of clusters, {k}", "sample_size")
        if self.assign == "predict" and self.known.predicts is None:
            raise said(
                f"{self.clusterer.name} has no predict that a saved model can repeat; take "
                "nearest-center, nearest-sample or knn",
                "assign",
            )
        if self.max_distance is not None and "distance" not in self.label_columns:
            raise said(
                f"is in need of distances, which the predict of {self.clusterer.name} does not "
                "tell; set assign to nearest-center, nearest-sample or knn",
                "max_distance",
            )
        metric = self.metric or getattr(self.clusterer, "metric", "euclidean")
        if self.assign == "nearest-center" and metric not in ("euclidean", "cosine"):
            raise said(f"there is no nearest center by {metric} distance; take knn", "assign")
        return self

    @property
    def known(self) -> Clusterer[Any]:
        """What is known of the clusterer."""
        return CLUSTERERS[getattr(self.clusterer, "name")]  # noqa: B009 (of each of them)

    @property
    def n_clusters(self) -> int | None:
        """Clusters asked for, or None where the algorithm finds the number."""
        return self.known.n_clusters(self.clusterer)

    @property
    def assigned_by(self) -> str:
        """What labels rows, once ``auto`` is decided."""
        if self.assign != "auto":
            return self.assign
        return "nearest-sample" if self.known.predicts is None else "predict"

    @property
    def label_columns(self) -> tuple[str, ...]:
        """What can be told of rows besides their labels."""
        if self.assigned_by == "predict":
            return self.known.predicts or ()
        return ("distance", "confidence") if self.assigned_by == "knn" else ("distance",)


def sampling_estimator(spec: SampleThenAssignSpec, n_partitions: int) -> SampleThenAssign:
    """Make the unfitted estimator."""
    given = spec.model_dump(exclude={"name", "clusterer", "assign"})
    clusterer = spec.known.build(spec.clusterer)
    return SampleThenAssign(clusterer, assign=spec.assigned_by, n_partitions=n_partitions, **given)


def sampling_cost(spec: SampleThenAssignSpec, n_features: int, itemsize: int) -> AlgorithmCost:
    """Return what labelling all rows costs, and the sample before."""
    by_center = spec.assigned_by == "nearest-center" or "distance" in (
        spec.known.predicts or () if spec.assigned_by == "predict" else ()
    )
    return sample_cost(
        spec.sample_size,
        n_features,
        itemsize,
        n_centers=(spec.n_clusters or spec.sample_size) if by_center else None,
        n_neighbors=spec.n_neighbors if spec.assigned_by == "knn" else 1,
        fit_bytes=spec.known.fit_bytes(spec.sample_size, n_features),
    )


def sampling_figures(model: SampleThenAssign) -> dict[str, Any]:
    """Return what to report of the fitted estimator, as JSON values."""
    figures: dict[str, Any] = {
        "sample_size": len(model.sample_indices_),
        "sample_noise": int((model.sample_labels_ < 0).sum()),
    }
    if hasattr(model, "sampling_error_"):
        error = model.sampling_error_
        ratio = error.inertia_ratio if isfinite(error.inertia_ratio) else None
        figures["sampling_error"] = {**asdict(error), "inertia_ratio": ratio}
    return figures
