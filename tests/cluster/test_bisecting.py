"""Bisecting K-Means: scikit-learn's results and manners, the same bits everywhere."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.cluster import BisectingKMeans as SklearnBisectingKMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import check_estimator

import distclust
from distclust import BisectingKMeans, ConfigError
from distclust.backends.local import LocalBackend
from distclust.data.arrays import ArraySource
from distclust.data.blocks import Block
from distclust.data.storage import Room
from tests.cluster.helpers import Killer, at_iteration, blobs, fit_with, row_weights, sha
from tests.faults.scripted import Fault, ScriptedBackend

LINE = np.array([[0.0], [1.0], [10.0], [12.0], [30.0], [36.0]])
NEWER = {"backend", "n_partitions"}
PARAMS: dict[str, Any] = {"n_clusters": 9, "random_state": 3}
N_MANY = 20_000  # branches of more rows than are all candidates


def ends(X: np.ndarray, n_clusters: int, random_state: Any) -> np.ndarray:
    """Choose the first row and the last."""
    return X[[0, -1]]


def digest(model: BisectingKMeans) -> str:
    return sha(
        model.labels_, model.cluster_centers_, model.inertia_, model.cluster_sizes_,
        model.split_centers_, model.split_children_,
    )  # fmt: skip


def test_scikit_learn_accepts_the_estimator() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # some checks have few distinct rows
        check_estimator(BisectingKMeans(), on_skip=None)


def test_parameters_and_defaults_are_those_of_scikit_learn() -> None:
    ours, theirs = BisectingKMeans().get_params(), SklearnBisectingKMeans().get_params()
    assert set(ours) - set(theirs) == NEWER
    assert set(theirs) <= set(ours)
    assert {name for name in theirs if ours[name] != theirs[name]} == {"init"}


def test_by_hand() -> None:
    """The first split is 0 1 10 12 | 30 36, the second 0 1 | 10 12, the third 30 | 36."""
    model = BisectingKMeans(3, init=ends).fit(LINE)
    assert model.labels_.tolist() == [0, 0, 1, 1, 2, 2]
    assert model.cluster_centers_.tolist() == [[0.5], [11.0], [33.0]]
    assert model.split_centers_.tolist() == [[[5.75], [33.0]], [[0.5], [11.0]]]
    assert model.split_children_.tolist() == [[4, 2], [0, 1]]
    assert model.inertia_ == 0.5 + 2 + 18
    assert model.cluster_sizes_.tolist() == [2, 2, 2]
    assert model.set_params(n_clusters=4).fit_predict(LINE).tolist() == [0, 0, 1, 1, 2, 3]
    assert model.get_feature_names_out()[0] == "bisectingkmeans0"


def test_labels_follow_the_tree() -> None:
    """19 is nearer to the second cluster, 11, than to 33; 22 too, but the first split says 33."""
    model = BisectingKMeans(3, init=ends).fit(LINE)
    assert model.predict([[19.0], [19.4], [21.0]]).tolist() == [1, 2, 2]
    nearest = model.transform([[19.4], [21.0]]).argmin(axis=1)
    assert nearest.tolist() == [1, 1]


@pytest.mark.parametrize("strategy", ["biggest_inertia", "largest_cluster"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 12])
def test_clusters_are_those_of_scikit_learn(k: int, weighted: bool, strategy: str) -> None:
    weights = np.random.default_rng(1).uniform(0.5, 3, 3000) if weighted else None
    asked = {"init": ends, "bisecting_strategy": strategy, "tol": 0.0}
    ours = BisectingKMeans(k, **asked).fit(blobs(), sample_weight=weights)
    theirs = SklearnBisectingKMeans(k, **asked).fit(blobs(), sample_weight=weights)
    if k > 1:
        np.testing.assert_array_equal(ours.labels_, theirs.labels_)
        np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, rtol=1e-10)
        assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-10)
        assert ours.score(blobs()) == pytest.approx(theirs.score(blobs()), rel=1e-10)
    else:  # scikit-learn leaves its inertia out
        mean = np.average(blobs(), axis=0, weights=weights)
        np.testing.assert_allclose(ours.cluster_centers_, [mean], rtol=1e-12)
        assert set(ours.labels_) == {0}


def test_more_runs_are_no_worse() -> None:
    one, best = (BisectingKMeans(2, random_state=0, n_init=n).fit(blobs()) for n in (1, 6))
    assert best.inertia_ <= one.inertia_


def test_fewer_distinct_rows_than_clusters() -> None:
    X = np.repeat([[1.0, 2.0], [3.0, 4.0]], 4, axis=0)
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(2\) .* n_clusters \(4\)"):
        model = BisectingKMeans(4, random_state=0).fit(X)
    assert sorted(model.cluster_sizes_.tolist()) == [0, 0, 4, 4]
    np.testing.assert_array_equal(model.cluster_centers_[model.labels_], X)
    np.testing.assert_array_equal(model.predict(X), model.labels_)


def test_rows_of_weight_zero_are_labelled() -> None:
    weights = np.ones(6)
    weights[4:] = 0
    model = BisectingKMeans(2, random_state=0).fit(LINE, sample_weight=weights)
    assert model.inertia_ == 0.5 + 2
    assert len(model.labels_) == 6


def test_more_clusters_than_rows() -> None:
    with pytest.raises(ConfigError, match=r"n_samples=6 should be >= n_clusters=7"):
        BisectingKMeans(7).fit(LINE)


def test_a_callable_needs_rows_in_memory() -> None:
    from distclust.engine.shards import Session

    with LocalBackend(workers=1) as backend, pytest.raises(ConfigError, match="X in memory"):
        BisectingKMeans(2, init=ends).fit_source(Session(backend), ArraySource(LINE, None))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sparse_rows_are_clustered_as_dense_ones(dtype: str) -> None:
    X = np.where(np.abs(blobs(dtype=dtype)) < 4, 0, blobs(dtype=dtype))
    dense = BisectingKMeans(**PARAMS, n_partitions=3).fit(X)
    sparse = BisectingKMeans(**PARAMS, n_partitions=3).fit(sp.csr_matrix(X))
    assert digest(sparse) == digest(dense)


def test_a_model_is_saved_and_pickled(tmp_path: Path) -> None:
    model = BisectingKMeans(**PARAMS).fit(blobs())
    model.save(tmp_path / "model")
    for again in (distclust.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(again.predict(blobs()), model.labels_)
        assert again.inertia_ == model.inertia_


def test_the_scorer_follows_the_tree() -> None:
    model = BisectingKMeans(**PARAMS).fit(blobs())
    scorer = pickle.loads(pickle.dumps(model.scorer(("label", "distance"))))
    found = scorer(Block(blobs(), 0))
    np.testing.assert_array_equal(found["label"], model.labels_)
    assert (found["distance"] ** 2).sum() == pytest.approx(model.inertia_, rel=1e-12)
    with pytest.raises(ConfigError, match="can only be fitted"):
        model.to_sklearn()


# The same bits ----------------------------------------------------------------------------


@cache
def expected(dtype: str, weighted: bool, n: int = 3000, **params: Any) -> str:
    with LocalBackend(workers=1) as backend:
        model = BisectingKMeans(backend=backend, n_partitions=1, **PARAMS, **params)
        return digest(model.fit(blobs(n, dtype=dtype), sample_weight=weights_of(n, weighted)))


def weights_of(n: int, weighted: bool) -> np.ndarray | None:
    return row_weights(n) if weighted else None


@pytest.mark.parametrize(
    ("n_partitions", "threads", "dtype", "weighted"),
    [
        (2, 1, "float32", True),
        (7, 2, "float64", False),
        (12, 2, "float32", False),
        (12, 1, "float64", True),
    ],
)
def test_local_fit(n_partitions: int, threads: int, dtype: str, weighted: bool) -> None:
    with LocalBackend(workers=2, threads_per_worker=threads) as backend:
        model = BisectingKMeans(backend=backend, n_partitions=n_partitions, **PARAMS)
        model.fit(blobs(dtype=dtype), sample_weight=weights_of(3000, weighted))
        np.testing.assert_array_equal(model.predict(blobs(dtype=dtype)), model.labels_)
    assert digest(model) == expected(dtype, weighted)
    assert np.bincount(model.labels_).tolist() == model.cluster_sizes_.tolist()


@pytest.mark.parametrize("init", ["k-means++", "k-means||", "random"])
def test_branches_of_many_rows(init: str) -> None:
    with LocalBackend(workers=2) as backend:
        model = BisectingKMeans(init=init, backend=backend, n_partitions=9, **PARAMS)
        model.fit(blobs(N_MANY), sample_weight=row_weights(N_MANY))
    assert digest(model) == expected("float64", True, N_MANY, init=init)


def test_rows_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalBackend(workers=2) as backend:
        monkeypatch.setattr(backend, "room", Room(memory_limit=1))
        model = BisectingKMeans(backend=backend, n_partitions=3, **PARAMS)
        model.fit(blobs(), sample_weight=row_weights())
    assert digest(model) == expected("float64", True)


@pytest.mark.parametrize("fault", list(Fault))
def test_losses_anywhere_in_a_fit(fault: Fault) -> None:
    """A partition that is placed again finds the rows of a branch again."""
    script = {(partition, 5 + 20 * partition): fault for partition in range(8)}
    with ScriptedBackend(LocalBackend(workers=2), script) as backend:
        model = BisectingKMeans(backend=backend, n_partitions=12, **PARAMS)
        model.fit(blobs(), sample_weight=row_weights())
    assert digest(model) == expected("float64", True)


@pytest.fixture(params=["ray", "dask"], scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A backend of two worker processes."""
    address = request.getfixturevalue(f"{request.param}_cluster")
    with distclust.connect(request.param, address=address) as backend:
        yield backend


@pytest.mark.thorough
def test_fit_on_a_cluster(cluster: Any) -> None:
    model = BisectingKMeans(backend=cluster, n_partitions=10, **PARAMS)
    model.fit(blobs(), sample_weight=row_weights())
    assert digest(model) == expected("float64", True)


@pytest.mark.thorough
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
def test_everywhere(
    anywhere: Any,
    n_partitions: int,
    threads: int,
    dtype: str,
    weighted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(anywhere, "threads_per_worker", threads)
    model = BisectingKMeans(backend=anywhere, n_partitions=n_partitions, **PARAMS)
    model.fit(blobs(dtype=dtype), sample_weight=weights_of(3000, weighted))
    assert digest(model) == expected(dtype, weighted)


@pytest.mark.thorough
def test_labels_of_a_dask_array_are_one(dask_cluster: str) -> None:
    import dask.array as da
    from distributed import Client

    with Client(dask_cluster):
        X = da.from_array(blobs(), chunks=(700, 5))
        model = BisectingKMeans(**PARAMS).fit(X)
        labels = model.labels_.compute()
    np.testing.assert_array_equal(labels, BisectingKMeans(**PARAMS).fit(blobs()).labels_)


@pytest.mark.faults
@pytest.mark.thorough
def test_a_worker_killed_mid_fit(cluster: Any) -> None:
    X, weights = blobs(), row_weights()
    killer = Killer(cluster, at_iteration(2))
    asked = {"estimator": BisectingKMeans, **PARAMS}
    model = fit_with(cluster, killer, X, weights, n_partitions=7, **asked)
    assert killer.killed
    with LocalBackend(workers=1) as local:
        other = fit_with(local, lambda _: None, X, weights, n_partitions=1, **asked)
    assert sha(model.cluster_centers_, model.split_children_, model.inertia_) == sha(
        other.cluster_centers_, other.split_children_, other.inertia_
    )
