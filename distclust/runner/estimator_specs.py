"""Parameters of estimators as a job file writes them: their names, types and defaults.

Owns the base of every part of a job, too. What is made of them is
`distclust.runner.algorithms`'s.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field

from distclust.cluster.initial import count_runs

__all__ = [
    "BisectingKMeansSpec",
    "HDBSCANSpec",
    "KMeansSpec",
    "MiniBatchKMeansSpec",
    "Strict",
    "said",
]

MAX_CLUSTERS = 2**31 - 1  # labels are int32


class Strict(BaseModel):
    """Base of every part of a job: frozen, no unknown keys, no coercion."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True
    )


def said(message: str, *path: str) -> pydantic_core.PydanticCustomError:
    """Return what a validator raises to say a message of ours at a key below it."""
    return pydantic_core.PydanticCustomError("job", "{message}", {"message": message, "path": path})


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

    def parameters(self, n_partitions: int | None) -> dict[str, Any]:
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


class BisectingKMeansSpec(CentersSpec):
    """Parameters of `distclust.BisectingKMeans`."""

    name: Literal["bisecting_kmeans"]
    init: Literal["k-means++", "k-means||", "random"] = "k-means++"
    n_init: Annotated[int, Field(ge=1, le=10_000)] = 1
    max_iter: int = Field(default=300, ge=1, le=1_000_000)
    tol: float = Field(default=1e-4, ge=0)
    bisecting_strategy: Literal["biggest_inertia", "largest_cluster"] = "biggest_inertia"


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

    def parameters(self, n_partitions: int | None) -> dict[str, Any]:
        """Return the estimator's parameters."""
        given = self.model_dump(exclude={"name"})
        if self.cluster_selection_epsilon_max is None:
            del given["cluster_selection_epsilon_max"]
        return {**given, "n_partitions": n_partitions}
