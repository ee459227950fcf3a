"""scikit-learn's pipelines of our steps, on whatever X is, fitted, saved and used again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.cluster import AgglomerativeClustering
from sklearn.pipeline import Pipeline, make_pipeline

import distclust
from distclust import HDBSCAN, DataError, KMeans, MiniBatchKMeans
from distclust.data.transformed import TransformedRows
from distclust.preprocessing import Normalizer, RobustScaler, SimpleImputer, StandardScaler
from distclust.random_projection import GaussianRandomProjection
from tests.cluster.helpers import blobs
from tests.preprocessing.helpers import NAMES, rows, write_rows


def pipeline(backend: Any = "local", **params: Any) -> Pipeline:
    return make_pipeline(
        SimpleImputer(strategy="median", backend=backend),
        StandardScaler(backend=backend),
        GaussianRandomProjection(3, random_state=1, backend=backend),
        KMeans(4, random_state=0, backend=backend, **params),
    )


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return pipeline().fit_predict(rows())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("pipeline"), rows())


def test_arrays_frames_and_tables(labels: np.ndarray) -> None:
    frame = pd.DataFrame(rows(), columns=list(NAMES))
    assert len(np.unique(labels)) == 4
    for X in (rows(), frame, pa.Table.from_pandas(frame)):
        fitted = pipeline().fit(X)
        np.testing.assert_array_equal(fitted.predict(X), labels)
        assert fitted.transform(X).shape == (3000, 4)


def test_files(labels: np.ndarray, path: Path) -> None:
    fitted = pipeline().fit(path)
    for X in (path, str(path), distclust.open_manifest(path, columns=NAMES)):
        np.testing.assert_array_equal(fitted.predict(X), labels)
    np.testing.assert_array_equal(pipeline(n_partitions=7).fit_predict(path), labels)
    np.testing.assert_array_equal(fitted.predict(pd.DataFrame(rows(), columns=NAMES)), labels)
    distances = fitted.transform(path)
    np.testing.assert_array_equal(distances.argmin(axis=1), labels)
    assert fitted.score(path) == pytest.approx(-fitted[-1].inertia_)


def test_what_comes_between_is_never_made(path: Path) -> None:
    fitted = pipeline().fit(path)
    between = fitted[:-1].transform(path)
    assert isinstance(between, TransformedRows)
    assert (between.n_rows, between.n_features, between.dtype) == (3000, 3, np.float64)
    assert not isinstance(between.source, TransformedRows)  # one pass, whatever the steps


def test_clusterers_that_are_not_ours_get_arrays(path: Path) -> None:
    last = AgglomerativeClustering(3)
    steps = SimpleImputer(backend="local"), StandardScaler(backend="local"), last
    expected = make_pipeline(*map(clone, steps)).fit_predict(rows())
    np.testing.assert_array_equal(make_pipeline(*steps).fit_predict(path), expected)


def test_dask(labels: np.ndarray, dask_cluster: str) -> None:
    X = da.from_array(np.array(rows()), chunks=(800, 5))
    frame = dd.from_pandas(pd.DataFrame(rows(), columns=list(NAMES)), npartitions=3)
    with distclust.connect("dask", address=dask_cluster) as backend:
        fitted = pipeline(backend).fit(X)
        found = fitted.predict(X)
        assert found.chunks == ((800, 800, 800, 600),)
        np.testing.assert_array_equal(found.compute(), labels)
        np.testing.assert_array_equal(pipeline(backend).fit_predict(frame).compute(), labels)
        bad = da.from_array(np.where(np.arange(15).reshape(3, 5) == 7, np.inf, 1.0))
        with pytest.raises(DataError, match="row 1 of a chunk, column 2: the value is inf"):
            fitted[:-1].transform(bad).compute()


@pytest.mark.thorough
def test_ray(labels: np.ndarray, ray_cluster: str) -> None:
    import ray

    table = pa.table({name: rows()[:, j] for j, name in enumerate(NAMES)})
    parts = [table.slice(0, 900), table.slice(900, 100), table.slice(1000)]
    X = ray.data.from_arrow(parts)
    with distclust.connect("ray", address=ray_cluster, workers=1) as backend:
        made = pipeline(backend).fit(X).predict(X)
        found = pa.concat_tables([ray.get(ref) for ref in made.to_arrow_refs()])
    assert found.column_names == [*NAMES, "label"]
    np.testing.assert_array_equal(found["label"].to_numpy(), labels)


@pytest.mark.parametrize(
    "last", [HDBSCAN(min_cluster_size=50), MiniBatchKMeans(4, random_state=0)], ids=str
)
@pytest.mark.thorough
def test_other_clusterers(last: Any, path: Path) -> None:
    steps = [s.set_params(backend="local") for s in (SimpleImputer(), RobustScaler(), last)]
    from_array = make_pipeline(*map(clone, steps)).fit(rows())[-1].labels_
    np.testing.assert_array_equal(make_pipeline(*steps).fit_predict(path), from_array)


def test_normalised_rows_are_clustered_by_cosine() -> None:
    X = blobs()
    by_steps = make_pipeline(Normalizer(), KMeans(6, random_state=0)).fit(X)
    np.testing.assert_array_equal(
        by_steps.predict(X), make_pipeline(Normalizer(), by_steps[-1]).predict(X * 4.0)
    )


def test_saved_and_loaded(tmp_path: Path, path: Path, labels: np.ndarray) -> None:
    distclust.save(pipeline().fit(path), tmp_path / "model")
    again = distclust.load(tmp_path / "model")
    assert [type(step).__name__ for step in again] == [
        "SimpleImputer", "StandardScaler", "GaussianRandomProjection", "KMeans",
    ]  # fmt: skip
    np.testing.assert_array_equal(again.predict(path), labels)
    np.testing.assert_array_equal(again.predict(pd.DataFrame(rows(), columns=NAMES)), labels)
    assert not list((tmp_path / "model").rglob("*.pkl"))


def test_a_damaged_pipeline_is_refused(tmp_path: Path, path: Path) -> None:
    distclust.save(pipeline().fit(path), tmp_path / "model")
    mean = tmp_path / "model" / "1" / "mean_.npy"
    np.save(mean, np.load(mean) + 1)
    with pytest.raises(distclust.ModelError, match=r"mean_.npy is missing or is not the file"):
        distclust.load(tmp_path / "model")
