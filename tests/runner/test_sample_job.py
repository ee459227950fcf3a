"""SampleThenAssign as the algorithm of a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.cluster import AgglomerativeClustering

import distclust
from distclust import KMeans, SampleThenAssign
from distclust.runner.clusterers import CLUSTERERS
from distclust.runner.spec import load_job
from tests.runner.helpers import Data, invoke

WARD = {"name": "agglomerative", "n_clusters": 3}
KNN: dict[str, Any] = {"sample_size": 60, "assign": "knn", "estimate_error": True}


@pytest.fixture
def sample_job(tmp_path: Path, job: Callable[..., Path]) -> Callable[..., Path]:
    """Write a job; keyword arguments are parameters of the algorithm."""

    def write(
        columns: tuple[str, ...] = (), backend: dict[str, Any] | None = None, **algorithm: Any
    ) -> Path:
        path = job(output={"columns": list(columns)}, backend=backend or {})
        content = yaml.safe_load(path.read_text())
        content["algorithm"] = {"name": "sample_then_assign", "clusterer": WARD, **algorithm}
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def labels_of(out: Path) -> Any:
    return pq.read_table(sorted((out / "labels").glob("*.parquet")))


@pytest.mark.parametrize(
    "backend",
    ["local", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("ray", "dask"))],
)
def test_every_row_is_labelled_and_measured(
    tmp_path: Path,
    data: Data,
    sample_job: Callable[..., Path],
    backend: str,
    request: pytest.FixtureRequest,
) -> None:
    where: dict[str, Any] = {"name": backend}
    if backend != "local":
        where["address"] = request.getfixturevalue(f"{backend}_cluster")
    ended = invoke("run", sample_job(("distance", "confidence"), where, **KNN))
    assert ended.code == 0, ended.err
    expected = SampleThenAssign(AgglomerativeClustering(3), random_state=0, **KNN).fit(data.rows)
    found = expected.assignments(data.rows)
    table = labels_of(tmp_path / "out")
    assert table["id"].to_pylist() == list(range(150))
    np.testing.assert_array_equal(table["label"].to_numpy(), expected.labels_)
    np.testing.assert_array_equal(table["distance"].to_numpy(), found.distance)
    np.testing.assert_array_equal(table["confidence"].to_numpy(), found.confidence)
    result = json.loads((tmp_path / "out/run.json").read_text())["result"]
    assert result["sample_size"] == 60
    assert result["sampling_error"]["inertia"] == expected.sampling_error_.inertia
    assert result["sampling_error"]["ari"] == expected.sampling_error_.ari
    assert result["cluster_sizes"] == np.bincount(expected.labels_).tolist()
    model = distclust.load(tmp_path / "out/model")
    np.testing.assert_array_equal(model.predict(str(data.directory)), expected.labels_)


@pytest.mark.parametrize("name", CLUSTERERS)
def test_each_clusterer_that_is_listed(
    tmp_path: Path, sample_job: Callable[..., Path], name: str
) -> None:
    path = sample_job(clusterer={"name": name}, sample_size=100)
    ended = invoke("run", path)
    assert ended.code == 0, ended.err
    assert len(labels_of(tmp_path / "out")) == 150
    assert invoke("plan", path).code == 0


def test_after_preprocessing(tmp_path: Path, data: Data, sample_job: Callable[..., Path]) -> None:
    path = sample_job(clusterer={"name": "kmeans", "n_clusters": 3}, sample_size=60)
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "preprocess": [{"name": "standard_scaler"}]}))
    ended = invoke("run", path)
    assert ended.code == 0, ended.err
    model = distclust.load(tmp_path / "out/model")
    labels = labels_of(tmp_path / "out")["label"].to_numpy()
    np.testing.assert_array_equal(model.predict(str(data.directory)), labels)
    assert isinstance(model[-1].clusterer_, KMeans)


def test_strata_of_a_column_beside_the_features(
    tmp_path: Path, sample_job: Callable[..., Path]
) -> None:
    ended = invoke("run", sample_job(sampling="stratified", strata="id", sample_size=150))
    assert ended.code == 0, ended.err
    ended = invoke(
        "run", sample_job(sampling="stratified", strata="id", sample_size=100),
        "--set", "output.overwrite=true",
    )  # fmt: skip
    assert ended.code == 2
    assert "there are 150 strata; sample_size=100 should be >= that" in ended.err


def test_noise_by_distance(tmp_path: Path, sample_job: Callable[..., Path]) -> None:
    ended = invoke("run", sample_job(("distance",), sample_size=20, max_distance=0.4))
    assert ended.code == 0, ended.err
    table = labels_of(tmp_path / "out")
    far = table["distance"].to_numpy() > 0.4
    np.testing.assert_array_equal(table["label"].to_numpy() == -1, far)
    assert far.any()


def test_the_plan_tells_what_the_driver_holds(sample_job: Callable[..., Path]) -> None:
    path = sample_job(sample_size=10_000)
    cost = load_job(path).plugin.cost(load_job(path).algorithm, 8, 4)
    assert 8 * 10_000**2 <= cost.driver_bytes < 1.1 * 8 * 10_000**2
    ended = invoke("plan", path)
    assert ended.code == 0, ended.err
    assert "memory of the driver" in ended.out + ended.err


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ({"clusterer": None}, "algorithm.clusterer: is required: {name: agglomerative"),
        ({"clusterer": {"name": "agglomerativ"}}, "did you mean 'agglomerative'?"),
        ({"clusterer": {"name": "sklearn.cluster.KMeans"}}, "must be one of: agglomerative, birch"),
        ({"clusterer": {**WARD, "linkag": "ward"}}, "did you mean algorithm.clusterer.linkage?"),
        ({"clusterer": {**WARD, "linkage": "wart"}}, "algorithm.clusterer.linkage: must be"),
        ({"clusterer": {**WARD, "metric": "cosine"}}, "metric: must be 'euclidean' for linkage"),
        ({"clusterer": {**WARD, "distance_threshold": 1.0}}, "either n_clusters or distance_t"),
        ({"sample_sise": 5}, "did you mean algorithm.sample_size?"),
        ({"sample_size": 2}, "algorithm.sample_size: must be at least the number of clusters, 3"),
        ({"assign": "predict"}, "agglomerative has no predict that a saved model can repeat"),
        ({"assign": "nearest-center", "metric": "manhattan"}, "no nearest center by manhattan"),
        ({"columns": ("confidence",)}, "gives no column 'confidence'; it offers: label, distance"),
        (
            {"clusterer": {"name": "hdbscan"}, "max_distance": 1.0},
            "algorithm.max_distance: is in need of distances",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    sample_job: Callable[..., Path], algorithm: dict[str, Any], message: str
) -> None:
    ended = invoke("validate", sample_job(**algorithm))
    assert ended.code == 2
    assert message in " ".join(ended.err.split())
