"""Rows in every form that is accepted, and labels back in the form they came in."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import distclust
from distclust import ConfigError, KMeans
from distclust.backends.local import LocalBackend
from distclust.inputs import LARGE
from tests.cluster.helpers import blobs, row_weights

N = 1000
NAMES = ["a", "b", "c", "d", "e"]
PARAMS: dict[str, Any] = {"n_clusters": 4, "random_state": 0}


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    return blobs(N)


@pytest.fixture(scope="module")
def model(X: np.ndarray) -> KMeans:
    return KMeans(**PARAMS).fit(X)


def columns(X: np.ndarray) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(X[:, j]) for j, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def files(X: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("rows")
    paths = []
    for number, rows in enumerate(np.split(np.arange(N), [100, 470, 800])):
        paths.append(directory / f"part-{number}.parquet")
        table = pa.table(columns(X[rows]))
        pq.write_table(table, paths[-1], row_group_size=64, write_page_checksum=True)
    return paths


IN_MEMORY = {
    "array": lambda X: X,
    "Fortran order": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
    "list": lambda X: X.tolist(),
    "pandas": lambda X: pd.DataFrame(columns(X)),
    "polars": lambda X: pl.DataFrame(columns(X)),
    "Arrow": lambda X: pa.table(columns(X)),
    "Arrow in chunks": lambda X: pa.concat_tables(
        [pa.table(columns(X[:300])), pa.table(columns(X[300:]))]
    ),
    "Arrow batch": lambda X: pa.RecordBatch.from_pydict(columns(X)),
}


@pytest.mark.parametrize("form", IN_MEMORY)
def test_rows_in_memory(form: str, X: np.ndarray, model: KMeans) -> None:
    rows = IN_MEMORY[form](X)
    fitted = KMeans(**PARAMS).fit(rows)
    assert type(fitted.labels_) is np.ndarray
    np.testing.assert_array_equal(fitted.labels_, model.labels_)
    np.testing.assert_array_equal(fitted.cluster_centers_, model.cluster_centers_)
    np.testing.assert_array_equal(fitted.predict(rows), model.labels_)
    np.testing.assert_array_equal(fitted.transform(rows), model.transform(X))
    assert fitted.score(rows) == model.score(X)


def test_workers_are_woken_for_many_rows(X: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distclust.inputs.FEW_VALUES", X.size - 1)
    with LocalBackend(workers=2) as backend:
        KMeans(backend=backend, **PARAMS).fit(X)
        assert backend._pool._threads  # type: ignore[attr-defined]


def test_users_functions_have_all_threads_of_blas(X: np.ndarray) -> None:
    def init(X: np.ndarray, n_clusters: int, random_state: Any) -> np.ndarray:
        blas.append([pool["num_threads"] for pool in threadpool_info()])
        return X[:n_clusters]

    blas: list[list[int]] = []
    with threadpool_limits(2, user_api="blas"):
        init(X, 4, None)
        KMeans(init=init, n_clusters=4, n_init=1).fit(X)
    assert 2 in blas[0]
    assert blas[1] == blas[0]


@pytest.mark.parametrize("split", [None, 2])
def test_workers_are_woken_for_few_rows_if_these_are_split(
    split: int | None, X: np.ndarray, model: KMeans
) -> None:
    with LocalBackend(workers=2) as backend:
        fitted = KMeans(backend=backend, n_partitions=split, **PARAMS).fit(X)
        np.testing.assert_array_equal(fitted.predict(X), model.labels_)
        workers = backend._pool._threads  # type: ignore[attr-defined]
        assert bool(workers) == (split is not None)


@pytest.mark.parametrize("form", ["pandas", "polars", "Arrow", "Arrow batch"])
def test_names_of_features_are_kept_and_compared(form: str, X: np.ndarray) -> None:
    rows = IN_MEMORY[form](X)
    fitted = KMeans(**PARAMS).fit(rows)
    assert fitted.feature_names_in_.tolist() == NAMES
    swapped = rows[NAMES[::-1]] if form in ("pandas", "polars") else rows.select(NAMES[::-1])
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(swapped)


def test_names_are_forgotten_by_a_fit_without_them(X: np.ndarray) -> None:
    fitted = KMeans(**PARAMS).fit(pd.DataFrame(columns(X))).fit(X)
    assert not hasattr(fitted, "feature_names_in_")


@pytest.mark.parametrize("form", ["float32", "int"])
def test_other_numbers(form: str, X: np.ndarray) -> None:
    rows = X.astype(np.float32) if form == "float32" else np.round(X).astype(np.int64)
    fitted, tabular = (KMeans(**PARAMS).fit(x) for x in (rows, pa.table(columns(rows))))
    assert fitted.cluster_centers_.dtype == (np.float32 if form == "float32" else np.float64)
    np.testing.assert_array_equal(fitted.cluster_centers_, tabular.cluster_centers_)


def test_predicting_in_another_precision_than_the_fit(X: np.ndarray, model: KMeans) -> None:
    single = X.astype(np.float32)
    fitted = KMeans(**PARAMS).fit(single)
    assert (fitted.predict(X) == fitted.labels_).mean() > 0.99
    assert (model.predict(single) == model.labels_).mean() > 0.99
    assert model.transform(single).dtype == np.float32


@pytest.mark.parametrize("n_features", [4, 6])
def test_another_number_of_features_is_scikit_learns_error(n_features: int, model: KMeans) -> None:
    message = f"X has {n_features} features, but KMeans is expecting 5 features as input"
    with pytest.raises(ValueError, match=message):
        model.predict(np.zeros((3, n_features)))


@pytest.mark.parametrize("rows", [np.zeros((0, 2)), np.zeros(3), np.zeros((2, 2, 2)), [["a"]]])
def test_what_is_no_table_of_numbers(rows: Any) -> None:
    with pytest.raises(ValueError, match=r"sample|2D array|dim|convert"):
        KMeans(1).fit(rows)


# Files --------------------------------------------------------------------------------------


PATHS = {
    "list of paths": lambda files: files,
    "list of strings": lambda files: [str(path) for path in files],
    "directory": lambda files: files[0].parent,
    "glob": lambda files: f"{files[0].parent}/part-*.parquet",
    "dataset": lambda files: pads.dataset([str(path) for path in files]),
    "manifest": lambda files: distclust.open_manifest([str(path) for path in files]),
}


@pytest.mark.parametrize("form", PATHS)
def test_files(form: str, files: list[Path], X: np.ndarray, model: KMeans) -> None:
    rows = PATHS[form](files)
    fitted = KMeans(backend="local", n_partitions=5, **PARAMS).fit(rows)
    assert type(fitted.labels_) is np.ndarray
    np.testing.assert_array_equal(fitted.labels_, model.labels_)
    np.testing.assert_array_equal(fitted.cluster_centers_, model.cluster_centers_)
    assert fitted.feature_names_in_.tolist() == NAMES
    np.testing.assert_array_equal(fitted.predict(rows), model.labels_)
    np.testing.assert_array_equal(fitted.transform(rows), model.transform(X))
    assert fitted.score(rows) == model.score(X)


def test_one_file(files: list[Path], model: KMeans) -> None:
    np.testing.assert_array_equal(
        model.set_params(backend="local").predict(files[1]), model.labels_[100:470]
    )


def test_columns_of_files_are_found_by_name(
    files: list[Path], X: np.ndarray, tmp_path: Path
) -> None:
    fitted = KMeans(**PARAMS).fit(pd.DataFrame(columns(X)))
    table = pa.table({"extra": np.zeros(N), **dict(reversed(columns(X).items()))})
    pq.write_table(table, tmp_path / "other.parquet")
    found = fitted.set_params(backend="local").predict(tmp_path / "other.parquet")
    np.testing.assert_array_equal(found, fitted.labels_)


def test_the_weight_is_a_column_of_the_files(X: np.ndarray, tmp_path: Path) -> None:
    weights = row_weights(N)
    pq.write_table(pa.table({"w": weights, **columns(X)}), tmp_path / "weighted.parquet")
    path = tmp_path / "weighted.parquet"
    expected = KMeans(**PARAMS).fit(X, sample_weight=weights)
    fitted = KMeans(backend="local", n_partitions=3, **PARAMS).fit(path, sample_weight="w")
    np.testing.assert_array_equal(fitted.cluster_centers_, expected.cluster_centers_)
    assert fitted.inertia_ == expected.inertia_
    assert fitted.feature_names_in_.tolist() == NAMES
    assert fitted.score(path, sample_weight="w") == expected.score(X, sample_weight=weights)
    np.testing.assert_array_equal(fitted.predict(path), expected.labels_)
    with pytest.raises(ConfigError, match="for files, sample_weight is the name of one of their"):
        fitted.fit(path, sample_weight=weights)


def test_a_callable_init_needs_rows_in_memory(files: list[Path]) -> None:
    init = KMeans(2, init=lambda X, k, random_state: X[:k], n_init=1, backend="local")
    with pytest.raises(ConfigError, match="needs X in memory"):
        init.fit(files)


# Collections of a cluster -------------------------------------------------------------------


@pytest.fixture(scope="module")
def dask_backend(dask_cluster: str) -> Iterator[Any]:
    with distclust.connect("dask", address=dask_cluster) as backend:
        yield backend


def dask_arrays(X: np.ndarray) -> dict[str, Any]:
    import dask.array as da

    whole = da.from_array(np.array(X), chunks=(250, -1))
    uneven = da.from_array(np.array(X), chunks=((1, 499, 0, 300, 200, 0), (2, 3)))
    return {
        "even": whole,
        "uneven and empty": uneven,
        "unknown": whole[da.from_array(np.ones(N, dtype=bool), chunks=250)],
        "unknown and empty": whole[da.from_array(np.arange(N) >= 300, chunks=250)],
        "float32": whole.astype(np.float32),
    }


@pytest.mark.parametrize(
    "chunks", ["even", "uneven and empty", "unknown", "unknown and empty", "float32"]
)
def test_dask_array(chunks: str, dask_backend: Any, X: np.ndarray) -> None:
    rows = dask_arrays(X)[chunks]
    plain = rows.compute()
    expected = KMeans(**PARAMS).fit(plain)
    fitted = KMeans(backend=dask_backend, **PARAMS).fit(rows)
    np.testing.assert_array_equal(fitted.cluster_centers_, expected.cluster_centers_)
    assert fitted.inertia_ == expected.inertia_
    for labels in (fitted.labels_, fitted.predict(rows)):
        assert type(labels) is type(rows)
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels.compute(), expected.labels_)
        lengths = [len(chunk.compute()) for chunk in rows.to_delayed()[:, 0]]
        assert labels.chunks == (tuple(lengths),)
    assert fitted.score(rows) == expected.score(plain)


@pytest.mark.parametrize("form", ["array", "dask"])
def test_weights_of_a_dask_array(form: str, dask_backend: Any, X: np.ndarray) -> None:
    import dask.array as da

    weights = row_weights(N)
    given = np.array(weights) if form == "array" else da.from_array(np.array(weights), chunks=400)
    rows = dask_arrays(X)["uneven and empty"]
    fitted = KMeans(backend=dask_backend, **PARAMS).fit(rows, sample_weight=given)
    expected = KMeans(**PARAMS).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(fitted.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(fitted.labels_.compute(), expected.labels_)


def test_dask_dataframe(dask_backend: Any, X: np.ndarray, model: KMeans) -> None:
    dd = pytest.importorskip("dask.dataframe")
    frame = dd.from_pandas(pd.DataFrame(columns(X)), npartitions=5)
    fitted = KMeans(backend=dask_backend, **PARAMS).fit(frame)
    assert fitted.feature_names_in_.tolist() == NAMES
    np.testing.assert_array_equal(fitted.cluster_centers_, model.cluster_centers_)
    np.testing.assert_array_equal(fitted.labels_.compute(), model.labels_)
    assert len(fitted.labels_.chunks[0]) == 5
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(frame[NAMES[::-1]])


def test_dask_collection_on_another_backend_is_refused(dask_backend: Any, X: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"backend 'local' cannot read a dask\.array"):
        KMeans(backend="local").fit(dask_arrays(X)["even"])


def test_transform_of_a_collection_says_what_to_do(dask_backend: Any, X: np.ndarray) -> None:
    fitted = KMeans(backend=dask_backend, **PARAMS).fit(X)
    with pytest.raises(ConfigError, match=r"map model\.to_sklearn\(\)\.transform over the chunks"):
        fitted.transform(dask_arrays(X)["even"])


@pytest.fixture(scope="module")
def ray_tables(X: np.ndarray) -> list[pa.Table]:
    bounds = itertools.pairwise([0, 10, 400, 900, N])
    return [pa.table(columns(X[low:high])) for low, high in bounds]


def test_ray_dataset(
    ray_cluster: str, ray_tables: list[pa.Table], X: np.ndarray, model: KMeans
) -> None:
    ray = pytest.importorskip("ray")
    rows = ray.data.from_arrow(ray_tables)
    with distclust.connect("ray", address=ray_cluster, workers=1) as backend:
        fitted = KMeans(backend=backend, **PARAMS).fit(rows)
        np.testing.assert_array_equal(fitted.cluster_centers_, model.cluster_centers_)
        assert fitted.inertia_ == model.inertia_
        assert fitted.feature_names_in_.tolist() == NAMES
        labelled = pa.Table.from_pylist(fitted.labels_.take_all())
        assert labelled.column_names == [*NAMES, "label"]
        np.testing.assert_array_equal(labelled["label"], model.labels_)
        np.testing.assert_array_equal(np.column_stack([labelled[name] for name in NAMES]), X)
        swapped = ray.data.from_arrow([table.select(NAMES[::-1]) for table in ray_tables])
        with pytest.raises(ValueError, match="feature names should match"):
            fitted.predict(swapped)


RAY_DATASET_WITHOUT_A_FREE_CPU = """
import numpy as np
import ray
from distclust import KMeans
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
rows = ray.data.from_numpy(np.arange(40.0).reshape(20, 2))
labels = KMeans(2, random_state=0).fit(rows).labels_
assert labels.count() == 20
"""


@pytest.mark.slow
@pytest.mark.thorough
def test_ray_dataset_when_the_workers_take_every_cpu() -> None:
    """A process of its own: waiting for a CPU that never comes cannot be interrupted."""
    pytest.importorskip("ray")
    script = [sys.executable, "-c", RAY_DATASET_WITHOUT_A_FREE_CPU]
    run = subprocess.run(script, capture_output=True, text=True, timeout=90)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("place", [0, 400_000, 899_999])
@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN"), (-np.inf, "infinity")])
def test_large_arrays_are_looked_through(place: int, value: float, said: str) -> None:
    """Threads look at once; what they find is said in scikit-learn's words."""
    X = np.ones((900_000, 3), dtype=np.float32)
    assert X.nbytes > LARGE
    X[place, 1] = value
    with pytest.raises(ValueError, match=rf"Input X contains {said}"):
        KMeans(2).fit(X)


def test_large_arrays_may_have_sums_that_overflow() -> None:
    """Then it takes longer to know that the values are finite."""
    X = np.full((900_000, 3), np.finfo(np.float32).max)
    X[::2] /= 2
    assert len(set(KMeans(2, random_state=0).fit(X).labels_[:2].tolist())) == 2


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(float).max, reason="no such type")
def test_large_arrays_of_longer_floats_are_looked_through_as_doubles() -> None:
    X = np.ones((LARGE // 16, 2), dtype=np.longdouble)
    X[7, 1] = np.longdouble(2) ** 1100  # finite, but not as a double
    with pytest.raises(ValueError, match="Input X contains infinity"):
        KMeans(2).fit(X)
