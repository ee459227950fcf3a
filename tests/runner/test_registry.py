"""An algorithm is plugged in by one registration: the runner has no list of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
import pytest

from distclust.data import Block, Partition
from distclust.runner import algorithms
from distclust.runner.algorithms import Algorithm, FitSummary
from distclust.runner.costs import AlgorithmCost
from distclust.runner.estimator_specs import Strict
from tests.runner.helpers import Data, invoke


class HalvesSpec(Strict):
    name: Literal["halves"]
    feature: int = 0


def total(partition: Partition, feature: int) -> tuple[float, int]:
    return sum(float(b.X[:, feature].sum()) for b in partition.blocks), partition.n_rows


class Halves:
    """Splits rows at the mean of one feature."""

    def __init__(self, feature: int) -> None:
        self.feature = feature

    def fit_source(self, session: Any, source: Any) -> Halves:
        sums, counts = zip(*session.shard(source).gather(total, self.feature), strict=True)
        self.edge = sum(sums) / sum(counts)
        return self

    def scorer(self, columns: Sequence[str]) -> Callable[[Block], dict[str, Any]]:
        return Scorer(self.feature, self.edge)

    def save(self, path: Path) -> None:
        path.mkdir()
        (path / "model.json").write_text(json.dumps({"edge": self.edge}))


class Scorer:
    def __init__(self, feature: int, edge: float) -> None:
        self.feature, self.edge = feature, edge

    def __call__(self, block: Block) -> dict[str, Any]:
        return {"label": (block.X[:, self.feature] > self.edge).astype(np.int32)}


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    nothing = AlgorithmCost(
        to_worker_bytes=0, to_driver_bytes=0, flops_per_row=0, thread_bytes=0, state_bytes=0
    )
    algorithm = Algorithm(
        spec=HalvesSpec,
        build=lambda spec, n_partitions: Halves(spec.feature),
        n_clusters=lambda spec: None,
        label_columns=lambda spec: (),
        cost=lambda spec, n_features, itemsize: nothing,
        summary=lambda model: FitSummary(centers=None, figures={"edge": model.edge}),
    )
    monkeypatch.setitem(algorithms.ALGORITHMS, "halves", algorithm)
    return


@pytest.mark.usefixtures("halves")
def test_a_registered_algorithm_runs_end_to_end(
    tmp_path: Path, data: Data, job: Callable[..., Path]
) -> None:
    written = job(output={"columns": []})
    written.write_text(written.read_text().replace("n_clusters: 3", "feature: 2"))
    written.write_text(
        written.read_text().replace("name: kmeans", "name: halves").replace("random_state: 0", "")
    )
    ended = invoke("run", written)
    assert ended.code == 0, ended.err
    labels = pq.read_table(sorted((tmp_path / "out/labels").glob("*.parquet")))
    expected = data.rows[:, 2] > data.rows[:, 2].mean()
    np.testing.assert_array_equal(labels["label"].to_numpy(), expected)
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["result"]["cluster_sizes"] == [57, 93]
    assert record["digests"]["centers_sha256"] is None
