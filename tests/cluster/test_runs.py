"""Runs with different initial centers: one pass serves all, and none notices the others."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import distclust
from distclust import KMeans
from distclust.backends.local import LocalBackend
from distclust.cluster.lloyd import LloydResult, lloyd, lloyd_runs
from distclust.cluster.statistics import describe
from distclust.data.arrays import ArraySource
from distclust.engine.events import IterationDone
from distclust.engine.shards import Session
from tests.cluster.helpers import Killer, blobs, digest, fit_with, row_weights, sha

LIMITS: dict[str, Any] = {"max_iter": 100, "tol": 1e-4}


def starts(n_runs: int, k: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [blobs()[rng.choice(3000, k, replace=False)] for _ in range(n_runs)]


def bits(result: LloydResult) -> str:
    return sha(result.centers, result.n_iter, result.inertia_history)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_partitions", [1, 12])
def test_runs_side_by_side_are_runs_alone(n_partitions: int, weighted: bool) -> None:
    source = ArraySource(blobs(), row_weights() if weighted else None)
    given = starts(5)
    given[3] = given[3] * [[1], [1], [1], [1], [1], [100]]  # far: an empty cluster
    with LocalBackend(workers=2, threads_per_worker=2) as backend:
        events: list[Any] = []
        session = Session(backend, listeners=[events.append])
        shards = session.shard(source, n_partitions)
        data = describe(shards, source.dtype, weighted=weighted)
        before = session.step
        together = lloyd_runs(shards, given, data, **LIMITS)
        passes = session.step - before
        alone = [lloyd(session.shard(source), start, data, **LIMITS) for start in given]
    assert list(map(bits, together)) == list(map(bits, alone))
    numbers = [result.n_iter for result in together]
    assert len(set(numbers)) > 1, "some go on when others are done"
    assert passes == max(numbers) + 1, "and one to relocate the empty cluster"
    done = [event for event in events if isinstance(event, IterationDone)][: sum(numbers)]
    assert [sum(event.run == run + 1 for event in done) for run in range(5)] == numbers
    assert {event.n_runs for event in done} == {5}


@cache
def expected(metric: str, weighted: bool) -> str:
    with LocalBackend(workers=1) as backend:
        model = several(metric, backend=backend, n_partitions=1)
        return digest(model.fit(blobs(), sample_weight=row_weights() if weighted else None))


def several(metric: str = "euclidean", **params: Any) -> KMeans:
    return KMeans(6, init="random", n_init=4, metric=metric, random_state=1, **params)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_partitions", [2, 7, 64])
def test_partitions_and_threads(n_partitions: int, weighted: bool, metric: str) -> None:
    with LocalBackend(workers=2, threads_per_worker=2) as backend:
        model = several(metric, backend=backend, n_partitions=n_partitions)
        model.fit(blobs(), sample_weight=row_weights() if weighted else None)
        np.testing.assert_array_equal(model.predict(blobs()), model.labels_)
    assert digest(model) == expected(metric, weighted)


@pytest.mark.faults
def test_a_worker_killed_while_some_runs_are_done(dask_cluster: str) -> None:
    unfaulted = several().fit(blobs())
    params = several().get_params() | {"n_partitions": 7}
    del params["backend"]
    with distclust.connect("dask", address=dask_cluster) as backend:
        killer = Killer(backend, lambda event: isinstance(event, IterationDone) and event.converged)
        model = fit_with(backend, killer, blobs(), None, **params)
    assert killer.killed
    np.testing.assert_array_equal(model.cluster_centers_, unfaulted.cluster_centers_)
    assert (model.inertia_, model.n_iter_) == (unfaulted.inertia_, unfaulted.n_iter_)


def test_several_runs_say_which_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    several(verbose=1).fit(blobs())
    said = capsys.readouterr().out.splitlines()
    assert said[:5] == ["Initialization complete"] * 4 + [said[4]]
    assert [line.partition(",")[0] for line in said[4:8]] == [
        f"Run {run}: Iteration 0" for run in (1, 2, 3, 4)
    ]
