"""The same bits on any backend, partitioning, number of threads, and after a death."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import distclust
from distclust import KMeans
from distclust.backends.local import LocalBackend
from distclust.engine.events import CallRetried, StageProgress
from tests.cluster.helpers import (
    Killer,
    at_iteration,
    at_stage,
    blobs,
    center_digest,
    digest,
    fit_with,
    row_weights,
)
from tests.faults.scripted import Fault, ScriptedBackend

pytestmark = pytest.mark.usefixtures("few_rows_are_shared_out_too")

PARAMS: dict[str, Any] = {"n_clusters": 6, "random_state": 3, "max_iter": 12}
N_MANY = 9000  # more rows than are all candidates


@cache
def expected(dtype: str, weighted: bool, n: int = 3000, init: str = "sampled") -> str:
    """The digest of one partition on one thread."""
    with LocalBackend(workers=1) as backend:
        model = KMeans(init=init, backend=backend, n_partitions=1, **PARAMS)
        return digest(model.fit(blobs(n, dtype=dtype), sample_weight=weights_of(n, weighted)))


def weights_of(n: int, weighted: bool) -> np.ndarray | None:
    return row_weights(n) if weighted else None


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
def test_local_fit(n_partitions: int, threads: int, dtype: str, weighted: bool) -> None:
    with LocalBackend(workers=2, threads_per_worker=threads) as backend:
        model = KMeans(backend=backend, n_partitions=n_partitions, **PARAMS)
        model.fit(blobs(dtype=dtype), sample_weight=weights_of(3000, weighted))
        np.testing.assert_array_equal(model.predict(blobs(dtype=dtype)), model.labels_)
    assert digest(model) == expected(dtype, weighted)


@pytest.mark.parametrize("init", ["sampled", "k-means||", "k-means++", "random"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("n_partitions", [2, 7, 64])
def test_seeding_of_many_rows(n_partitions: int, weighted: bool, init: str) -> None:
    with LocalBackend(workers=2, threads_per_worker=2) as backend:
        model = KMeans(init=init, backend=backend, n_partitions=n_partitions, **PARAMS)
        model.fit(blobs(N_MANY), sample_weight=weights_of(N_MANY, weighted))
    assert digest(model) == expected("float64", weighted, N_MANY, init)


def test_the_order_of_few_rows_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(3000)
    X = blobs()
    model, shuffled = KMeans(**PARAMS).fit(X), KMeans(**PARAMS).fit(X[order])
    np.testing.assert_array_equal(model.cluster_centers_, shuffled.cluster_centers_)
    np.testing.assert_array_equal(model.labels_[order], shuffled.labels_)
    assert model.inertia_ == shuffled.inertia_


def test_fitting_twice_gives_the_same() -> None:
    model = KMeans(**PARAMS)
    assert digest(model.fit(blobs())) == digest(model.fit(blobs()))


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize(
    ("n", "init", "calls"),
    [(3000, "sampled", 8), (N_MANY, "sampled", 6), (N_MANY, "k-means||", 8)],
    ids=["few rows", "sampled", "k-means||"],
)
def test_losses_anywhere_in_a_fit(fault: Fault, n: int, init: str, calls: int) -> None:
    """Each partition is lost at another moment: in statistics, seeding, iterations, labelling."""
    moments = {partition: 1 + partition for partition in range(calls)}
    script = {moment: fault for moment in moments.items()}
    with ScriptedBackend(LocalBackend(workers=2), script) as backend:
        model = KMeans(init=init, backend=backend, n_partitions=12, **PARAMS)
        model.fit(blobs(n), sample_weight=row_weights(n))
        if fault is not Fault.DUPLICATE:
            assert Counter(backend.places) == {i: 2 if i in moments else 1 for i in range(12)}
    assert digest(model) == expected("float64", True, n, init)


# Real clusters ----------------------------------------------------------------------------


@pytest.fixture(params=["ray", "dask"], scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A backend of two worker processes."""
    address = request.getfixturevalue(f"{request.param}_cluster")
    with distclust.connect(request.param, address=address) as backend:
        yield backend


@pytest.mark.parametrize(
    ("n_partitions", "threads", "dtype", "weighted"),
    [
        (1, 2, "float32", False),
        (7, 2, "float64", True),
        pytest.param(2, 1, "float32", True, marks=pytest.mark.thorough),
        pytest.param(64, 1, "float64", False, marks=pytest.mark.thorough),
    ],
)
def test_fit_on_a_cluster(
    cluster: Any, n_partitions: int, threads: int, dtype: str, weighted: bool
) -> None:
    before, cluster.threads_per_worker = cluster.threads_per_worker, threads
    try:
        model = KMeans(backend=cluster, n_partitions=n_partitions, **PARAMS)
        model.fit(blobs(dtype=dtype), sample_weight=weights_of(3000, weighted))
        assert digest(model) == expected(dtype, weighted)
        np.testing.assert_array_equal(model.predict(blobs(dtype=dtype)), model.labels_)
    finally:
        cluster.threads_per_worker = before


def test_seeding_of_many_rows_on_a_cluster(cluster: Any) -> None:
    model = KMeans(backend=cluster, n_partitions=10, **PARAMS).fit(blobs(N_MANY))
    assert digest(model) == expected("float64", False, N_MANY)


class DuringIteration:
    """While calls of an iteration are in flight: some partitions have answered."""

    def __init__(self, iteration: int) -> None:
        self.starts, self.began = at_iteration(iteration - 1), False

    def __call__(self, event: Any) -> bool:
        self.began |= self.starts(event)
        return self.began and isinstance(event, StageProgress)


@pytest.mark.faults
@pytest.mark.parametrize(
    "when",
    [at_iteration(3), DuringIteration(3), at_stage("seeding"), at_stage("labelling")],
    ids=["between iterations", "during an iteration", "seeding", "labelling"],
)
def test_a_worker_killed_mid_fit(cluster: Any, when: Any) -> None:
    X, weights = blobs(), row_weights()
    with LocalBackend(workers=1) as local:
        unfaulted = fit_with(local, lambda _: None, X, weights, n_partitions=1, **PARAMS)
    killer = Killer(cluster, when)
    model = fit_with(cluster, killer, X, weights, n_partitions=7, **PARAMS)
    assert killer.killed
    assert center_digest(model) == center_digest(unfaulted)
    labels = [fitted.set_params(backend="local").predict(X) for fitted in (model, unfaulted)]
    np.testing.assert_array_equal(*labels)
    if cluster.name == "ray":  # Dask may repeat a lost task by itself
        assert any(isinstance(event, CallRetried) for event in killer.events)
