"""Mini-batch K-Means: hand-computed steps, scikit-learn's semantics, the same bits anywhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import sparse
from sklearn.cluster import MiniBatchKMeans as SklearnMiniBatchKMeans
from sklearn.cluster import kmeans_plusplus
from sklearn.utils.estimator_checks import parametrize_with_checks

import distclust
from distclust import MiniBatchKMeans
from distclust.backends.local import LocalBackend
from distclust.cluster.minibatch_loop import EarlyStopping
from distclust.data import ParquetSource, open_manifest
from distclust.data.arrays import ArraySource
from distclust.data.storage import LEDGER, RUNTIME_BYTES
from distclust.engine.events import IterationDone, StageStarted
from distclust.engine.shards import Session
from distclust.errors import ConfigError
from tests.cluster.helpers import blobs, row_weights, sha

PARAMS: dict[str, Any] = {"n_clusters": 6, "random_state": 3, "batch_size": 256}
FEW, MANY = 3000, 9000  # merged and sorted by the driver, or left where they are


@parametrize_with_checks([MiniBatchKMeans()])
def test_scikit_learn_compatible(estimator: Any, check: Any) -> None:
    check(estimator)


# By hand --------------------------------------------------------------------------------


def test_a_center_is_the_mean_of_all_rows_it_was_given() -> None:
    model = MiniBatchKMeans(2, init=np.array([[0.0], [10.0]]), reassignment_ratio=0)
    model.partial_fit([[1.0], [2.0], [11.0]])
    np.testing.assert_allclose(model.cluster_centers_, [[1.5], [11.0]])
    np.testing.assert_array_equal(model._counts, [2, 1])
    np.testing.assert_array_equal(model.labels_, [0, 0, 1])
    assert model.inertia_ == pytest.approx(0.5)
    model.partial_fit([[6.0], [12.0]], sample_weight=[1.0, 3.0])
    np.testing.assert_allclose(model.cluster_centers_, [[3.0], [11.75]])
    np.testing.assert_array_equal(model._counts, [3, 4])
    np.testing.assert_array_equal(model.cluster_sizes_, [1, 1])
    assert model.n_steps_ == 2


def test_a_center_without_rows_is_reassigned() -> None:
    model = MiniBatchKMeans(2, init=np.array([[0.0], [100.0]]), random_state=0)
    model.partial_fit([[1.0], [2.0]])
    assert model.cluster_centers_[0] == 1.5
    assert model.cluster_centers_[1] in (1.0, 2.0)
    np.testing.assert_array_equal(model._counts, [2, 2])


@pytest.mark.parametrize("ratio", [1.0, 50.0])
def test_at_most_half_a_batch_of_centers_is_reassigned(ratio: float) -> None:
    init = np.array([[1.0], [2.0], [90.0], [91.0], [92.0]])
    model = MiniBatchKMeans(5, init=init, random_state=0, reassignment_ratio=ratio)
    model.partial_fit([[1.0], [1.0], [2.0], [1.0], [2.0]])
    assert (model.cluster_centers_ > 80).sum() == 1


def test_early_stopping() -> None:
    lines: list[str] = []
    watch = EarlyStopping(n_steps=9, smoothing=0.5, enough=0.0, patience=2, say=lines.append)
    assert watch.converged(1, 100.0, 1.0) == ""
    assert watch.average is None
    assert watch.converged(2, 8.0, 1.0) == ""
    assert watch.converged(3, 4.0, 0.0) == ""
    assert watch.average == 6.0
    assert watch.converged(4, 6.0, 1.0) == ""
    assert watch.converged(5, 8.0, 1.0) == "lack of improvement in inertia"
    assert lines[-1] == "Converged (lack of improvement in inertia) at step 5/9"
    watch.enough = 1.0
    assert watch.converged(6, 0.0, 1.0) == "small centers change"


# Compared with scikit-learn -------------------------------------------------------------


@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize("batch_size", [256, 4096])
def test_as_good_as_scikit_learn(n: int, batch_size: int) -> None:
    init = kmeans_plusplus(blobs(n), 6, random_state=0)[0]
    params = {"n_clusters": 6, "init": init, "batch_size": batch_size, "random_state": 0}
    ours = MiniBatchKMeans(**params).fit(blobs(n))
    theirs = SklearnMiniBatchKMeans(**params).fit(blobs(n))
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=0.01)
    assert ours.inertia_ == pytest.approx(-ours.score(blobs(n)))


def test_partial_fit_agrees_with_scikit_learn() -> None:
    X, weights = blobs(), row_weights()
    params = {"n_clusters": 6, "init": X[:6], "n_init": 1, "reassignment_ratio": 0}
    ours, theirs = MiniBatchKMeans(**params), SklearnMiniBatchKMeans(**params)
    for start in range(0, FEW, 500):
        rows = slice(start, start + 500)
        ours.partial_fit(X[rows], sample_weight=weights[rows])
        theirs.partial_fit(X[rows], sample_weight=weights[rows])
    np.testing.assert_allclose(ours.cluster_centers_, theirs.cluster_centers_)
    np.testing.assert_array_equal(ours.labels_, theirs.labels_)
    np.testing.assert_allclose(ours._counts, theirs._counts)


def test_to_sklearn_goes_on() -> None:
    X = blobs()
    ours = MiniBatchKMeans(**PARAMS, reassignment_ratio=0).fit(X)
    theirs = ours.to_sklearn().set_params(reassignment_ratio=0)
    np.testing.assert_array_equal(theirs.predict(X), ours.labels_)
    np.testing.assert_allclose(
        theirs.partial_fit(X[:100]).cluster_centers_, ours.partial_fit(X[:100]).cluster_centers_
    )


def test_inertia_without_labels_is_an_estimate() -> None:
    weights = row_weights(MANY)
    with_labels = MiniBatchKMeans(**PARAMS).fit(blobs(MANY), sample_weight=weights)
    without = MiniBatchKMeans(**PARAMS, compute_labels=False)
    without.fit(blobs(MANY), sample_weight=weights)
    assert not hasattr(without, "labels_")
    assert without.inertia_ == pytest.approx(with_labels.inertia_, rel=0.1)
    one_step = without.set_params(batch_size=MANY, max_iter=1).fit(blobs(MANY))
    assert (one_step.n_steps_, one_step.n_iter_) == (1, 1)
    assert np.isfinite(one_step.inertia_)


# The same bits --------------------------------------------------------------------------


def digest(model: MiniBatchKMeans) -> str:
    figures = model.inertia_, model.n_iter_, model.n_steps_
    return sha(model.labels_, model.cluster_centers_, model._counts, *figures)


def weights_of(n: int, weighted: bool) -> np.ndarray | None:
    return row_weights(n) if weighted else None


@cache
def expected(n: int, dtype: str, weighted: bool, **params: Any) -> str:
    with LocalBackend(workers=1) as backend:
        model = MiniBatchKMeans(backend=backend, n_partitions=1, **{**PARAMS, **params})
        return digest(model.fit(blobs(n, dtype=dtype), sample_weight=weights_of(n, weighted)))


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [FEW, MANY])
@pytest.mark.parametrize("n_partitions", [2, 7, 64])
def test_partitions_and_threads(n_partitions: int, n: int, dtype: str, weighted: bool) -> None:
    X, weights = blobs(n, dtype=dtype), weights_of(n, weighted)
    with LocalBackend(workers=2, threads_per_worker=2) as backend:
        model = MiniBatchKMeans(backend=backend, n_partitions=n_partitions, **PARAMS)
        assert digest(model.fit(X, sample_weight=weights)) == expected(n, dtype, weighted)
        np.testing.assert_array_equal(model.predict(X), model.labels_)


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("params", [{"batch_size": MANY}, {"init": "random", "init_size": 500}])
def test_whole_batches_and_samples(params: dict[str, Any], weighted: bool) -> None:
    with LocalBackend(workers=2) as backend:
        model = MiniBatchKMeans(backend=backend, n_partitions=7, **{**PARAMS, **params})
        model.fit(blobs(MANY), sample_weight=weights_of(MANY, weighted))
    assert digest(model) == expected(MANY, "float64", weighted, **params)


@pytest.mark.parametrize("n", [FEW, MANY])
def test_sparse_rows(n: int) -> None:
    model = MiniBatchKMeans(n_partitions=3, **PARAMS)
    assert digest(model.fit(sparse.csr_array(blobs(n)))) == expected(n, "float64", False)


@pytest.mark.parametrize("cluster", ["dask", "ray"])
def test_clusters(cluster: str, request: pytest.FixtureRequest) -> None:
    address = request.getfixturevalue(f"{cluster}_cluster")
    with distclust.connect(cluster, address=address) as backend:
        model = MiniBatchKMeans(backend=backend, **PARAMS)
        model.fit(blobs(MANY), sample_weight=row_weights(MANY))
    assert digest(model) == expected(MANY, "float64", True)


@pytest.mark.parametrize("n", [FEW, MANY])
def test_parquet_files(n: int, tmp_path: Path) -> None:
    table = pa.table({f"x{j}": column for j, column in enumerate(blobs(n).T)})
    table = table.append_column("w", pa.array(row_weights(n)))
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=1000)
    model = MiniBatchKMeans(**PARAMS).fit(str(tmp_path), sample_weight="w")
    assert digest(model) == expected(n, "float64", True)
    with pytest.raises(ConfigError, match="partial_fit takes an array"):
        model.partial_fit(str(tmp_path))


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
def test_parquet_files_larger_than_memory(tmp_path: Path, weighted: bool) -> None:
    columns = {f"x{j}": column for j, column in enumerate(blobs(MANY).T)}
    columns |= {"w": row_weights(MANY)} if weighted else {}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet", row_group_size=1000)
    manifest = open_manifest(tmp_path / "rows.parquet", weight="w" if weighted else None)
    on_disk: list[int] = []
    with LocalBackend(2, memory_limit=RUNTIME_BYTES + 1, scratch_dir=str(tmp_path)) as backend:
        session = Session(backend, listeners=[lambda _: on_disk.append(LEDGER.on_disk)])
        model = MiniBatchKMeans(n_partitions=3, **PARAMS)
        model.fit_source(session, ParquetSource(manifest))
    assert max(on_disk) >= MANY * 8 * (5 + 2 * weighted)  # rows; weights, and where they end
    model.labels_ = model.predict(pa.table(columns).select(model.feature_names_in_.tolist()))
    assert digest(model) == expected(MANY, "float64", weighted)


@pytest.mark.parametrize("scale", [0.5, 4.0])
@pytest.mark.parametrize("n", [FEW, MANY])
def test_scaled_weights(n: int, scale: float) -> None:
    model = MiniBatchKMeans(**PARAMS).fit(blobs(n), sample_weight=row_weights(n))
    scaled = MiniBatchKMeans(**PARAMS).fit(blobs(n), sample_weight=scale * row_weights(n))
    np.testing.assert_array_equal(scaled.cluster_centers_, model.cluster_centers_)
    assert scaled.inertia_ == scale * model.inertia_


def test_unit_weights() -> None:
    model = MiniBatchKMeans(**PARAMS).fit(blobs(MANY), sample_weight=np.ones(MANY))
    assert digest(model) == expected(MANY, "float64", False)


def test_repeating_a_few_rows_is_doubling_their_weights() -> None:
    X, twice = blobs(), np.random.default_rng(0).permutation(2 * FEW) % FEW
    once = MiniBatchKMeans(**PARAMS).fit(X)
    repeated = MiniBatchKMeans(**PARAMS).fit(X[twice])
    np.testing.assert_array_equal(repeated.cluster_centers_, once.cluster_centers_)
    np.testing.assert_array_equal(repeated.labels_, once.labels_[twice])
    assert repeated.inertia_ == 2 * once.inertia_


# Forms of input, and what is kept ---------------------------------------------------------


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_far_from_the_origin(offset: float) -> None:
    near = MiniBatchKMeans(**PARAMS).fit(blobs(MANY))
    far = MiniBatchKMeans(**PARAMS).fit(blobs(MANY) + offset)
    np.testing.assert_allclose(far.cluster_centers_ - offset, near.cluster_centers_, atol=1e-5)


@pytest.mark.parametrize("exponent", [-560, 660])
@pytest.mark.parametrize("n", [FEW, MANY])
def test_extreme_scales(n: int, exponent: int) -> None:
    X, params = blobs(n), {"max_iter": 1, "max_no_improvement": None, "batch_size": 1000}
    plain = MiniBatchKMeans(6, init=X[:6], random_state=0, **params).fit(X)
    scaled = MiniBatchKMeans(6, init=np.ldexp(X[:6], exponent), random_state=0, **params)
    scaled.fit(np.ldexp(X, exponent))
    np.testing.assert_allclose(np.ldexp(scaled.cluster_centers_, -exponent), plain.cluster_centers_)
    np.testing.assert_array_equal(scaled.labels_, plain.labels_)


@pytest.mark.parametrize("init", ["k-means||", "random"])
def test_fewer_distinct_rows_than_clusters(init: str) -> None:
    model = MiniBatchKMeans(4, init=init, random_state=0).fit([[0.0], [0.0], [1.0], [1.0]])
    assert model.inertia_ == 0
    assert model.cluster_centers_.shape == (4, 1)


def test_a_callable_is_given_a_sample() -> None:
    seen: list[int] = []

    def first(X: Any, n_clusters: int, random_state: Any) -> Any:
        seen.append(len(X))
        return X[:n_clusters]

    MiniBatchKMeans(**PARAMS, init=first).fit(blobs(MANY))
    MiniBatchKMeans(**PARAMS, init=first, init_size=MANY).fit(blobs(MANY))
    assert seen == [768] * 3 + [MANY] * 3


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="n_samples=3 should be >= n_clusters=8"):
        MiniBatchKMeans().fit([[0.0], [1.0], [2.0]])
    with pytest.raises(ValueError, match="must contain at least one non-zero"):
        MiniBatchKMeans(2).fit([[0.0], [1.0]], sample_weight=[0.0, 0.0])
    with pytest.raises(ValueError, match=r"\(2, 3\) does not match the number of features"):
        MiniBatchKMeans(2, init=np.ones((2, 3))).partial_fit(np.ones((5, 2)))


def test_save_and_load(tmp_path: Path) -> None:
    model = MiniBatchKMeans(**PARAMS).fit(blobs())
    model.save(tmp_path / "model")
    loaded = distclust.load(tmp_path / "model")
    assert isinstance(loaded, MiniBatchKMeans)
    np.testing.assert_array_equal(loaded.predict(blobs()), model.labels_)
    assert loaded.get_params() == model.get_params()
    model.partial_fit(blobs()[:100])
    np.testing.assert_array_equal(
        loaded.partial_fit(blobs()[:100]).cluster_centers_, model.cluster_centers_
    )
    started = MiniBatchKMeans(2, init=np.eye(2), compute_labels=False).partial_fit(np.eye(2))
    started.save(tmp_path / "started")
    np.testing.assert_array_equal(distclust.load(tmp_path / "started")._counts, [1, 1])


def test_fit_source_tells_listeners() -> None:
    events: list[Any] = []
    with LocalBackend(workers=1) as backend:
        session = Session(backend, listeners=[events.append])
        model = MiniBatchKMeans(**PARAMS).fit_source(session, ArraySource(blobs()))
    stages = [event.stage for event in events if isinstance(event, StageStarted)]
    assert stages == ["seeding", "iterations", "labelling"]
    steps = [event for event in events if isinstance(event, IterationDone)]
    assert len(steps) == model.n_steps_
    assert not hasattr(model, "labels_")
    assert model.inertia_ == pytest.approx(-model.score(blobs()))


def test_verbose_tells_of_runs_and_steps(capsys: pytest.CaptureFixture[str]) -> None:
    MiniBatchKMeans(**PARAMS, n_init=2, verbose=1).fit(blobs())
    told = capsys.readouterr().out
    assert "Inertia for init 2/2: " in told
    assert "Minibatch step 2/" in told
    assert "ewa inertia" in told
