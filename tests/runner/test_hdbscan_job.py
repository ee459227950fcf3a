"""HDBSCAN as the algorithm of a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import distclust
from distclust import HDBSCAN
from tests.runner.conftest import COLUMNS
from tests.runner.helpers import Data, invoke


@pytest.fixture
def hdbscan_job(tmp_path: Path, job: Callable[..., Path]) -> Path:
    path = job(output={"columns": ["probability", "outlier_score"]})
    content = yaml.safe_load(path.read_text())
    content["algorithm"] = {"name": "hdbscan", "min_cluster_size": 8, "min_samples": 3}
    path.write_text(yaml.safe_dump(content))
    return path


def test_labels_probabilities_and_scores_of_every_row(
    tmp_path: Path, data: Data, hdbscan_job: Path
) -> None:
    ended = invoke("run", hdbscan_job)
    assert ended.code == 0, ended.err
    found = pq.read_table(sorted((tmp_path / "out/labels").glob("*.parquet")))
    expected = HDBSCAN(min_cluster_size=8, min_samples=3).fit(data.rows)
    assert found["id"].to_pylist() == list(range(150))
    np.testing.assert_array_equal(found["label"].to_numpy(), expected.labels_)
    np.testing.assert_array_equal(found["probability"].to_numpy(), expected.probabilities_)
    np.testing.assert_array_equal(found["outlier_score"].to_numpy(), expected.outlier_scores_)
    result = json.loads((tmp_path / "out/run.json").read_text())["result"]
    assert result["noise"] == int((expected.labels_ == -1).sum())
    assert result["cluster_sizes"] == np.bincount(expected.labels_[expected.labels_ >= 0]).tolist()
    assert result["certified_fraction"] == 1.0
    model = distclust.load(tmp_path / "out/model")
    np.testing.assert_array_equal(model.labels_, expected.labels_)


@pytest.mark.parametrize(
    "backend",
    ["local", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("ray", "dask"))],
)
def test_rows_that_are_not_finite(
    tmp_path: Path, data: Data, hdbscan_job: Path, backend: str
) -> None:
    rows = data.rows.copy()
    rows[[0, 75, 149], [1, 0, 3]] = np.nan, np.inf, np.nan
    start = 0
    for file in data.files:
        table = pq.read_table(file)
        values = rows[start : start + len(table)]
        start += len(table)
        columns = {name: pa.array(values[:, i], from_pandas=True) for i, name in enumerate(COLUMNS)}
        pq.write_table(pa.table({"id": table["id"], **columns}), file, row_group_size=20)
    ended = invoke("run", hdbscan_job, "--set", f"backend.name={backend}")
    assert ended.code == 0, ended.err
    found = pq.read_table(sorted((tmp_path / "out/labels").glob("*.parquet")))
    expected = HDBSCAN(min_cluster_size=8, min_samples=3).fit(rows)
    np.testing.assert_array_equal(found["label"].to_numpy(), expected.labels_)
    np.testing.assert_array_equal(found["probability"].to_numpy(), expected.probabilities_)
    np.testing.assert_array_equal(found["outlier_score"].to_numpy(), expected.outlier_scores_)
    scaled = yaml.safe_load(hdbscan_job.read_text()) | {"preprocess": [{"name": "standard_scaler"}]}
    scaled["output"] |= {"overwrite": True}
    hdbscan_job.write_text(yaml.safe_dump(scaled))
    ended = invoke("run", hdbscan_job)  # a scaler lets NaN through, and refuses infinity
    assert ended.code == 3
    assert "'sepal_length', row 5" in ended.err


def test_a_plan_and_a_wrong_parameter(hdbscan_job: Path) -> None:
    assert invoke("plan", hdbscan_job).code == 0
    ended = invoke("validate", hdbscan_job, "--set", "algorithm.min_cluster_sise=9")
    assert ended.code != 0
    assert "min_cluster_size" in ended.err
    ended = invoke("validate", hdbscan_job, "--set", "output.columns=[distance]")
    assert "it offers: label, probability, outlier_score" in ended.err
