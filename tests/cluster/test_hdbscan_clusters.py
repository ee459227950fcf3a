"""HDBSCAN on Dask and Ray: the labels of one process, in the form that X came in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import distclust
from distclust import HDBSCAN
from distclust.errors import ConfigError
from tests.cluster.hdbscan_data import data_sets
from tests.cluster.helpers import own_pid
from tests.faults.test_kill import kill

PARAMS = {"min_cluster_size": 20, "min_samples": 8}


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    rows = data_sets()["varying, 2 features"].copy()
    rows[[3, 299, 1500], [0, 1, 0]] = np.nan, np.inf, -np.inf  # these are noise
    rows[700:1000, 1] = np.nan
    return rows


@pytest.fixture(scope="module")
def expected(X: np.ndarray) -> HDBSCAN:
    return HDBSCAN(**PARAMS).fit(X)


def assert_same(fitted: HDBSCAN, expected: HDBSCAN) -> None:
    for name in ("probabilities_", "outlier_scores_", "cluster_persistence_", "core_distances_"):
        np.testing.assert_array_equal(getattr(fitted, name), getattr(expected, name))


def lose_a_worker(backend: Any) -> None:
    kill(backend.fetch(backend.call(own_pid, backend.place(int))))


def test_dask_array(dask_cluster: str, X: np.ndarray, expected: HDBSCAN) -> None:
    import dask.array as da

    rows = da.from_array(X, chunks=((700, 0, 300, 1000), (2,)))
    with distclust.connect("dask", address=dask_cluster) as backend:
        fitted = HDBSCAN(**PARAMS, backend=backend, prediction_data=True, n_partitions=3).fit(rows)
        assert_same(fitted, expected)
        assert fitted.labels_.chunks == (rows.chunks[0],)
        np.testing.assert_array_equal(fitted.labels_.compute(), expected.labels_)
        np.testing.assert_array_equal(fitted.predict(rows).compute(), expected.predict(X))
        np.testing.assert_array_equal(fitted.predict(X), expected.predict(X))
        with pytest.raises(ConfigError, match="predict labels collections"):
            fitted.approximate_predict(rows)


def test_ray_dataset(ray_cluster: str, X: np.ndarray, expected: HDBSCAN) -> None:
    ray = pytest.importorskip("ray")
    tables = [pa.table({"x": part[:, 0], "y": part[:, 1]}) for part in np.split(X, [300, 1100])]
    with distclust.connect("ray", address=ray_cluster, workers=1) as backend:
        rows = ray.data.from_arrow(tables)
        fitted = HDBSCAN(**PARAMS, backend=backend, prediction_data=True, n_partitions=3).fit(rows)
        assert_same(fitted, expected)
        labels = pa.Table.from_pylist(fitted.labels_.take_all())["label"]
        np.testing.assert_array_equal(labels, expected.labels_)
        found = pa.Table.from_pylist(fitted.predict(rows).take_all())["label"]
        np.testing.assert_array_equal(found, expected.predict(X))


@pytest.mark.faults
@pytest.mark.thorough
def test_labels_of_a_dask_array_survive_workers(
    dask_cluster: str, X: np.ndarray, expected: HDBSCAN
) -> None:
    import dask.array as da

    rows = da.from_array(X, chunks=((700, 300, 1000), (2,)))
    with distclust.connect("dask", address=dask_cluster) as backend:
        fitted = HDBSCAN(**PARAMS, backend=backend, prediction_data=True, n_partitions=3).fit(rows)
        lose_a_worker(backend)
        np.testing.assert_array_equal(fitted.labels_.compute(), expected.labels_)
        predicted = fitted.predict(rows)
        lose_a_worker(backend)
        np.testing.assert_array_equal(predicted.compute(), expected.predict(X))


@pytest.mark.faults
@pytest.mark.parametrize("name", ["ray", "dask"])
@pytest.mark.thorough
def test_prediction_after_a_worker_is_lost(
    name: str, X: np.ndarray, expected: HDBSCAN, request: pytest.FixtureRequest
) -> None:
    address = request.getfixturevalue(f"{name}_cluster")
    with distclust.connect(name, address=address) as backend:
        fitted = HDBSCAN(**PARAMS, backend=backend, n_partitions=4).fit(X)
        lose_a_worker(backend)
        found = fitted.approximate_predict(X)
    np.testing.assert_array_equal(fitted.labels_, expected.labels_)
    np.testing.assert_array_equal(found.labels, expected.predict(X))
