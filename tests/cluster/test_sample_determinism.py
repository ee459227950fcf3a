"""SampleThenAssign gives the same bits on any backend, partitioning, threads, and after a death."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import DBSCAN, AgglomerativeClustering
from sklearn.mixture import GaussianMixture

import distclust
from distclust import HDBSCAN, KMeans, SampleThenAssign
from distclust.backends.local import LocalBackend
from distclust.data.arrays import ArraySource
from distclust.engine.events import CallRetried, StageProgress
from distclust.engine.shards import Session
from tests.cluster.helpers import Killer, at_stage, blobs, row_weights, sha
from tests.faults.scripted import Fault, ScriptedBackend

pytestmark = pytest.mark.usefixtures("few_rows_are_shared_out_too")

N = 3000
CASES: dict[str, dict[str, Any]] = {
    "predict, uniform": {"clusterer": KMeans(6), "sampling": "uniform", "assign": "predict"},
    "predict, coreset": {"clusterer": KMeans(6), "sampling": "coreset", "assign": "predict"},
    "predict of another library": {"clusterer": GaussianMixture(6), "sampling": "stratified"},
    "predict, noise": {"clusterer": HDBSCAN(min_cluster_size=8), "sampling": "uniform"},
    "nearest-center": {
        "clusterer": AgglomerativeClustering(6),
        "sampling": "stratified",
        "assign": "nearest-center",
    },
    "nearest-sample": {"clusterer": AgglomerativeClustering(6), "sampling": "uniform"},
    "knn": {
        "clusterer": DBSCAN(eps=3.0),
        "sampling": "coreset",
        "assign": "knn",
        "max_distance": 6.0,
    },
}


def estimator(case: str, **params: Any) -> SampleThenAssign:
    return SampleThenAssign(
        sample_size=300, estimate_error=True, random_state=3, **CASES[case], **params
    )


def digest(model: SampleThenAssign, dtype: str) -> str:
    """Of the fit, and of what is said of each row."""
    error = model.sampling_error_
    found = [values for values in model.assignments(blobs(dtype=dtype)) if values is not None]
    weights = np.empty(0) if model.sample_weights_ is None else model.sample_weights_
    return sha(
        model.labels_, model.sample_indices_, model.sample_labels_, weights, model.cluster_centers_,
        error.sample_inertia, error.inertia, error.ari, *found,
    )  # fmt: skip


def weights_of(case: str) -> np.ndarray | None:
    return row_weights() if case in ("predict, coreset", "knn") else None


@cache
def expected(case: str, dtype: str) -> str:
    with LocalBackend(workers=1) as backend:
        model = estimator(case, backend=backend, n_partitions=1)
        return digest(model.fit(blobs(dtype=dtype), sample_weight=weights_of(case)), dtype)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
def test_local(n_partitions: int, threads: int, case: str) -> None:
    dtype = "float32" if n_partitions % 2 else "float64"
    with LocalBackend(workers=2, threads_per_worker=threads) as backend:
        model = estimator(case, backend=backend, n_partitions=n_partitions)
        model.fit(blobs(dtype=dtype), sample_weight=weights_of(case))
        assert digest(model, dtype) == expected(case, dtype)


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("case", ["predict, coreset", "nearest-center"])
def test_losses_anywhere_in_a_fit(fault: Fault, case: str) -> None:
    script = {(partition, 1 + partition): fault for partition in range(7)}
    with ScriptedBackend(LocalBackend(workers=2), script) as backend:
        model = estimator(case, backend=backend, n_partitions=12)
        model.fit(blobs(), sample_weight=weights_of(case)).set_params(backend="local")
    assert digest(model, "float64") == expected(case, "float64")


# Real clusters ----------------------------------------------------------------------------


@pytest.fixture(params=["ray", "dask"], scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A backend of two worker processes."""
    address = request.getfixturevalue(f"{request.param}_cluster")
    with distclust.connect(request.param, address=address) as backend:
        yield backend


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.thorough
def test_on_a_cluster(cluster: Any, case: str, n_partitions: int, threads: int, dtype: str) -> None:
    before, cluster.threads_per_worker = cluster.threads_per_worker, threads
    try:
        model = estimator(case, backend=cluster, n_partitions=n_partitions)
        model.fit(blobs(dtype=dtype), sample_weight=weights_of(case))
        assert digest(model, dtype) == expected(case, dtype)
    finally:
        cluster.threads_per_worker = before


class During:
    """While calls of a stage are in flight: some partitions have answered."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def __call__(self, event: Any) -> bool:
        return isinstance(event, StageProgress) and event.stage == self.stage


@pytest.mark.faults
@pytest.mark.parametrize(
    "when",
    [at_stage("sampling"), During("sampling"), During("sampling error")],
    ids=["sampling", "while a sample is drawn", "while rows are labelled"],
)
@pytest.mark.thorough
def test_a_worker_killed_mid_fit(cluster: Any, when: Any) -> None:
    killer = Killer(cluster, when)
    session = Session(cluster, listeners=[killer])
    model = estimator("predict, coreset", backend=cluster, n_partitions=7)
    model.fit_source(session, ArraySource(blobs(), row_weights()))
    assert killer.killed
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.labels_ = model.set_params(backend="local").predict(blobs())
    assert digest(model, "float64") == expected("predict, coreset", "float64")
    if cluster.name == "ray":  # Dask may repeat a lost task by itself
        assert any(isinstance(event, CallRetried) for event in killer.events)
