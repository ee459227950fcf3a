"""Centers that go beyond the means of their rows: sooner there, and there all the same."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import distclust.cluster.strides
from distclust import KMeans
from distclust.backends.local import LocalBackend
from distclust.cluster.lloyd import Iterating, LloydResult, lloyd, lloyd_runs
from distclust.cluster.statistics import describe
from distclust.cluster.steps import Run
from distclust.cluster.strides import Strides
from distclust.data.arrays import ArraySource
from distclust.engine.shards import Session
from distclust.kernels.lloyd import ClusterStats
from tests.cluster.helpers import blobs, digest, row_weights

N = 20_000


def iterate(centers: np.ndarray, **limits: Any) -> LloydResult:
    limits = {"max_iter": 500, "tol": 1e-6, "striding": True} | limits
    with LocalBackend(workers=1) as backend:
        shards = Session(backend).shard(ArraySource(blobs(N)))
        data = describe(shards, centers.dtype, weighted=False)
        return lloyd(shards, centers, data, **limits)


def starts() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [blobs(N)[rng.choice(N, 12, replace=False)] for _ in range(5)]


def rises(history: list[float]) -> list[int]:
    """Where the inertia is more than the one before, beyond rounding."""
    return [i for i in range(1, len(history)) if history[i] > history[i - 1] * (1 + 1e-9)]


def test_strides_take_turns_and_become_shorter() -> None:
    strides = Strides(12 * 1024, 12)
    turns = [strides.next() for _ in range(30)]
    assert turns[0::3] == [1.0] * 10
    assert turns[1::3] == [2.0] * 10
    longest = turns[2::3]
    assert longest == sorted(longest)
    assert longest[0] < longest[-1] == 8.0
    strides.next()
    for _ in range(20):
        strides.shorten()
    assert [strides.next() for _ in range(3)] == [1.0, 1.5, 1.5]
    assert {Strides(12 * 1024 - 1, 12).next() for _ in range(10)} == {1.4}


def test_fewer_iterations_to_where_plain_ones_rest() -> None:
    striding, plain = ([iterate(c, striding=way) for c in starts()] for way in (True, False))
    assert 1.5 * sum(r.n_iter for r in striding) < sum(r.n_iter for r in plain)
    inertias = [sum(r.inertia_history[-1] for r in way) for way in (striding, plain)]
    assert inertias[0] < 1.001 * inertias[1]
    for result in striding:
        assert iterate(result.centers, striding=False).n_iter <= 3


def test_the_end_is_a_fixed_point_to_the_last_bit() -> None:
    for start in starts()[:2]:
        centers = iterate(start, tol=0.0).centers
        again = iterate(centers, tol=0.0, striding=False)
        assert again.n_iter == 1, "no center moves"
        np.testing.assert_array_equal(again.centers, centers)


def test_whatever_the_last_iteration_was_its_means_are_the_centers() -> None:
    for max_iter in range(1, 8):
        result = iterate(starts()[0], max_iter=max_iter)
        means = iterate(result.centers, max_iter=1)
        assert means.inertia_history[0] <= min(result.inertia_history) * (1 + 1e-12)


def test_strides_that_are_too_long_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distclust.cluster.strides, "FIRST", 40.0)
    monkeypatch.setattr(distclust.cluster.strides, "LONGEST", 40.0)
    result = iterate(starts()[0])
    history, risen = result.inertia_history, rises(result.inertia_history)
    assert risen
    ended = iterate(starts()[0], max_iter=risen[0] + 1)  # with a stride that is not taken back
    np.testing.assert_array_equal(ended.centers, iterate(starts()[0], max_iter=risen[0]).centers)
    for i in risen:
        assert history[i + 1] <= history[i - 1]
    assert history[-1] < 1.01 * iterate(starts()[0], striding=False).inertia_history[-1]


def test_rounding_takes_no_stride_back() -> None:
    """Where clusters are tight, an inertia from sums is all rounding."""
    run = Iterating(Run(0, np.ones((2, 3))), Strides(1, 1), np.zeros((2, 3)), least=1.0)
    assert run.strode_too_far(1 + 1e-6, scatter=10.0)
    assert not run.strode_too_far(1 + 1e-6, scatter=1e12)
    assert run.strode_too_far(np.nan, scatter=10.0)


def test_runs_that_share_passes_stride_alone() -> None:
    with LocalBackend(workers=1) as backend:
        shards = Session(backend).shard(ArraySource(blobs(N)))
        data = describe(shards, np.dtype(np.float64), weighted=False)
        together = lloyd_runs(shards, starts()[:3], data, max_iter=500, tol=1e-6, striding=True)
    for result, start in zip(together, starts(), strict=False):
        alone = iterate(start)
        assert result.inertia_history == alone.inertia_history
        np.testing.assert_array_equal(result.centers, alone.centers)


def test_the_same_labels_beyond_the_means_are_no_end() -> None:
    """Those at the means may be others."""
    means, beyond = np.zeros((2, 3)), np.ones((2, 3))
    stats = ClusterStats.empty(2, 3)
    run = Iterating(Run(0, beyond), Strides(1, 1), means, before=stats)
    for ended in ("", "strict convergence"):
        run.step(stats, means, None, rests=False, relocated=False)  # type: ignore[arg-type]
        assert run.converged == ended
        assert run.run.centers is means


def test_no_stride_to_a_row_that_fills_an_empty_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Strides, "next", lambda self: 5.0)
    start = np.array(starts()[0])
    start[4] = 1e3  # of no row
    ways = [iterate(start, max_iter=2, striding=way) for way in (True, False)]
    assert ways[0].inertia_history == ways[1].inertia_history


def test_what_would_overflow_is_no_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SAFE", "FIRST", "LONGEST", "SHORT"):
        monkeypatch.setattr(distclust.cluster.strides, name, 1e39)
    X = blobs(N, dtype="float32")
    start = X[:12].copy()
    with LocalBackend(workers=1) as backend:
        shards = Session(backend).shard(ArraySource(X))
        data = describe(shards, X.dtype, weighted=False)
        ways = [
            lloyd(shards, start, data, max_iter=4, tol=0.0, striding=way) for way in (True, False)
        ]
    assert ways[0].inertia_history == ways[1].inertia_history
    assert np.isfinite(ways[0].centers).all()


def fitted(weighted: bool, metric: str, **params: Any) -> KMeans:
    model = KMeans(12, random_state=0, metric=metric, **params)
    return model.fit(blobs(N), sample_weight=row_weights(N) if weighted else None)


@cache
def expected(weighted: bool, metric: str) -> str:
    with LocalBackend(workers=1) as backend:
        model = fitted(weighted, metric, backend=backend, n_partitions=1)
    plain = fitted(weighted, metric, init="k-means||")
    assert model.n_iter_ > 6
    assert model.inertia_ < 1.01 * plain.inertia_
    return digest(model)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("anywhere", ["local", "ray", "dask"], indirect=True)
def test_everywhere_the_same(anywhere: Any, weighted: bool, metric: str) -> None:
    for n_partitions in (2, 7):
        model = fitted(weighted, metric, backend=anywhere, n_partitions=n_partitions)
        assert digest(model) == expected(weighted, metric)
