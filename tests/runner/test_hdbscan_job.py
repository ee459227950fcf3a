"""HDBSCAN as the algorithm of a job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

import distclust
from distclust import HDBSCAN
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


def test_a_plan_and_a_wrong_parameter(hdbscan_job: Path) -> None:
    assert invoke("plan", hdbscan_job).code == 0
    ended = invoke("validate", hdbscan_job, "--set", "algorithm.min_cluster_sise=9")
    assert ended.code != 0
    assert "min_cluster_size" in ended.err
    ended = invoke("validate", hdbscan_job, "--set", "output.columns=[distance]")
    assert "it offers: label, probability, outlier_score" in ended.err
