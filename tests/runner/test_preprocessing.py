"""Jobs with preprocessing: the same labels as in memory, models that contain it, and plans."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.datasets import load_wine
from sklearn.metrics import adjusted_rand_score
from sklearn.pipeline import make_pipeline

import distclust
from distclust import KMeans
from distclust.preprocessing import Normalizer, SimpleImputer, StandardScaler
from distclust.runner.algorithms import Strict
from distclust.runner.plan import make_plan, open_input
from distclust.runner.preprocessing import STEPS as STEPS_KNOWN
from distclust.runner.preprocessing import SUM_BYTES, PreprocessStep, RowShape, shapes_of
from distclust.runner.run import run_job
from distclust.runner.spec import load_job, parse_job
from tests.preprocessing.helpers import NAMES, rows, write_rows
from tests.runner.helpers import ROOT, invoke

STEPS = [{"name": "simple_imputer", "strategy": "median"}, {"name": "standard_scaler"}]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows"), rows())


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Callable[..., Any]:
    def of(steps: list[dict[str, Any]], backend: dict[str, Any], **algorithm: Any) -> Any:
        spec = {
            "input": {"path": str(data)},
            "preprocess": steps,
            "algorithm": {"name": "kmeans", "n_clusters": 4, "random_state": 0, **algorithm},
            "backend": backend,
            "output": {"path": str(tmp_path / "out"), "overwrite": True, "columns": ["distance"]},
        }
        return run_job(parse_job(spec))

    return of


def labels_in(directory: Path) -> np.ndarray:
    found: np.ndarray = distclust.data.labels_dataset(directory).to_table()["label"].to_numpy()
    return found


@pytest.fixture(scope="module")
def fitted() -> Any:
    steps = SimpleImputer(strategy="median"), StandardScaler()
    return make_pipeline(*steps, KMeans(4, random_state=0)).fit(rows())


@pytest.mark.parametrize(
    "backend",
    ["local", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("ray", "dask"))],
)
def test_the_same_on_every_backend_as_in_memory(
    backend: str, run: Callable[..., Any], tmp_path: Path, fitted: Any, data: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    where: dict[str, Any] = {"name": backend, "partitions": 5}
    where |= (
        {"workers": 2, "threads_per_worker": 2}
        if backend == "local"
        else {"address": request.getfixturevalue(f"{backend}_cluster")}
    )
    report = run(STEPS, where)
    labels = labels_in(tmp_path / "out")
    np.testing.assert_array_equal(labels, fitted[-1].labels_)
    np.testing.assert_array_equal(report.centers, fitted[-1].cluster_centers_)
    model = distclust.load(tmp_path / "out/model")
    for step in model:
        step.set_params(backend="local")
    np.testing.assert_array_equal(model.predict(pd.DataFrame(rows(), columns=NAMES)), labels)
    np.testing.assert_array_equal(model.predict(data), labels)


def test_centers_are_told_in_the_units_of_the_input(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    run(STEPS, {"name": "local", "workers": 2}, tol=0.0)
    filled = SimpleImputer(strategy="median").fit_transform(rows())
    labels = labels_in(tmp_path / "out")
    means = [filled[labels == label].mean(axis=0) for label in range(4)]
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["result"]["feature_names"] == list(NAMES)
    np.testing.assert_allclose(record["result"]["original_centers"], means, rtol=1e-9)
    assert {"preprocess", "fit", "label"} <= record["seconds"].keys()
    assert "fitting StandardScaler" in record["engine_seconds"]


def test_what_was_missing_can_be_clustered_by(run: Callable[..., Any], tmp_path: Path) -> None:
    steps = [{"name": "simple_imputer", "add_indicator": True}, {"name": "standard_scaler"}]
    report = run(steps, {"name": "local", "workers": 2})
    assert report.centers.shape == (4, 10)
    assert report.original_centers is None  # a share of missing values has no unit
    model = distclust.load(tmp_path / "out/model")
    frame = pd.DataFrame(rows(), columns=NAMES)
    np.testing.assert_array_equal(model.predict(frame), labels_in(tmp_path / "out"))
    indicators = [f"missingindicator_{name}" for name in NAMES]
    assert model[:-1].get_feature_names_out().tolist() == [*NAMES, *indicators]
    spec = STEPS_KNOWN["simple_imputer"].spec(**steps[0])
    assert shapes_of([spec], RowShape(5, 8), n_rows=3000)[1] == RowShape(10, 8)


def test_what_cannot_be_undone_is_not_told(run: Callable[..., Any], tmp_path: Path) -> None:
    report = run([*STEPS, {"name": "normalizer"}], {"name": "local", "workers": 2})
    assert report.original_centers is None
    assert report.centers.shape == (4, 5)
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert "original_centers" not in record["result"]
    steps = SimpleImputer(strategy="median"), StandardScaler(), Normalizer()
    expected = make_pipeline(*steps, KMeans(4, random_state=0)).fit_predict(rows())
    np.testing.assert_array_equal(labels_in(tmp_path / "out"), expected)


def test_missing_values_are_an_error_without_imputing(run: Callable[..., Any]) -> None:
    with pytest.raises(
        distclust.DataError, match=r"part-0.*column '.', row \d+: the value is null"
    ):
        run([], {"name": "local"})
    with pytest.raises(distclust.DataError, match="impute missing values first"):
        run([{"name": "standard_scaler"}], {"name": "local"})


class NarrowSpec(Strict):
    name: Literal["narrow"]


def test_the_plan_counts_what_is_kept_and_what_passes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_two: Any = lambda spec, shape, n_rows: RowShape(2, shape.itemsize)  # noqa: E731
    step = PreprocessStep(spec=NarrowSpec, build=lambda spec, n: Normalizer(), shape=to_two)
    monkeypatch.setitem(STEPS_KNOWN, "narrow", step)

    def memory(*steps: dict[str, Any]) -> Any:
        spec = parse_job(
            {
                "input": {"path": str(data)},
                "preprocess": list(steps),
                "algorithm": {"name": "kmeans", "n_clusters": 4},
                "backend": {"name": "local", "workers": 1, "threads_per_worker": 3},
                "output": {"path": str(tmp_path / "out")},
            }
        )
        return make_plan(spec, open_input(spec))

    plain = memory()
    scaled = memory({"name": "standard_scaler"}, {"name": "normalizer"})
    pieces = 3 * 8 * (1 << 20)  # before, between and after
    assert scaled.memory.loading - plain.memory.loading == 3 * (pieces + 2 * 5 * SUM_BYTES)
    narrow = memory({"name": "narrow"})
    assert (plain.kept_features, narrow.kept_features) == (5, 2)
    assert narrow.shards[0].decoded_bytes == plain.shards[0].decoded_bytes * 2 // 5
    assert narrow.memory.resident == 3000 * (2 * 8 + 13)


def test_wine_as_written_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unscaled, one column in milligrams decides all; scaled, the cultivars are found."""
    monkeypatch.chdir(tmp_path)
    assert invoke("example", "wine", "data/wine").code == 0
    ended = invoke("run", ROOT / "jobs/wine.yaml")
    assert ended.code == 0, ended.err
    table = pq.read_table(sorted(Path("out/wine/labels").glob("*.parquet")))
    assert adjusted_rand_score(load_wine().target, table["label"].to_numpy()) > 0.85
    spec = load_job(ROOT / "jobs/wine.yaml")
    assert yaml.safe_load(json.dumps(spec.as_dict()))["preprocess"][0]["name"] == "standard_scaler"
