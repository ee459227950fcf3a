"""A job whose worker is killed with SIGKILL publishes what an unfaulted local job does."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distclust.data import labels_dataset
from distclust.engine.events import Event, IterationDone, StageProgress, StageStarted
from distclust.runner.run import run_job
from distclust.runner.spec import parse_job
from tests.cluster.helpers import blobs

pytestmark = pytest.mark.faults

FILES = 8


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    for number, rows in enumerate(np.array_split(blobs(8000, 4), FILES)):
        table = pa.table({f"x{j}": rows[:, j] for j in range(4)})
        pq.write_table(table, directory / f"part-{number}.parquet", row_group_size=300)
    return directory


KMEANS = {"name": "kmeans", "n_clusters": 6, "random_state": 0}
HDBSCAN = {"name": "hdbscan", "min_cluster_size": 30, "min_samples": 5}


def job(algorithm: dict[str, Any], data: Path, output: Path, backend: dict[str, Any]) -> Any:
    column = "distance" if algorithm is KMEANS else "outlier_score"
    return parse_job(
        {
            "input": {"path": str(data)},
            "preprocess": [{"name": "robust_scaler"}],
            "algorithm": algorithm,
            "backend": {"partitions": 5, **backend},
            "output": {"path": str(output), "columns": [column]},
        }
    )


def workers(backend: str, address: str) -> list[int]:
    """Process ids of the workers that hold partitions."""
    if backend == "dask":
        import distributed

        with distributed.Client(address, set_as_default=False) as client:
            return list(client.run(os.getpid).values())
    ours = psutil.Process().children(recursive=True)
    return [process.pid for process in ours if process.name().startswith("ray::Worker")]


class Killer:
    """Kills a worker at the first event of its choice."""

    def __init__(self, when: Callable[[Event], bool], find: Callable[[], list[int]]) -> None:
        self.when, self.find, self.killed = when, find, 0

    def __call__(self, event: Event) -> None:
        if not self.killed and self.when(event):
            self.killed = min(self.find())
            os.kill(self.killed, signal.SIGKILL)


@cache
def _is(kind: type[Event], **fields: Any) -> Callable[[Event], bool]:
    return lambda event: (
        isinstance(event, kind)
        and all(getattr(event, name) == value for name, value in fields.items())
    )


@pytest.mark.parametrize("backend", ["ray", "dask"])
@pytest.mark.parametrize(
    ("algorithm", "when"),
    [
        pytest.param(
            KMEANS,
            _is(StageProgress, stage="fitting RobustScaler", done=2),
            marks=pytest.mark.thorough,
        ),
        (KMEANS, _is(IterationDone, iteration=2)),
        (KMEANS, _is(StageStarted, stage="writing labels")),
        (KMEANS, _is(StageProgress, stage="writing labels", done=1)),
        pytest.param(
            HDBSCAN, _is(StageStarted, stage="core distances"), marks=pytest.mark.thorough
        ),
        pytest.param(
            HDBSCAN, _is(StageStarted, stage="writing labels"), marks=pytest.mark.thorough
        ),
        pytest.param(
            HDBSCAN, _is(StageProgress, stage="writing labels", done=1), marks=pytest.mark.thorough
        ),
    ],
    ids=[
        "kmeans, in preprocessing",
        *[
            f"{name}, {when}"
            for name in ("kmeans", "hdbscan")
            for when in ("in the fit", "before labels are written", "while labels are written")
        ],
    ],
)
def test_output_after_a_kill(
    backend: str,
    algorithm: dict[str, Any],
    when: Callable[[Event], bool],
    data: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    address = request.getfixturevalue(f"{backend}_cluster")
    unfaulted = run_job(job(algorithm, data, tmp_path / "local", {"name": "local"}))
    killer = Killer(when, lambda: workers(backend, address))
    spec = job(algorithm, data, tmp_path / "killed", {"name": backend, "address": address})
    survived = run_job(spec, [killer])
    assert killer.killed
    assert survived.labels_digest == unfaulted.labels_digest
    np.testing.assert_array_equal(survived.centers, unfaulted.centers)
    local, killed = (
        labels_dataset(str(tmp_path / name)).to_table() for name in ("local", "killed")
    )
    assert killed.equals(local)
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == sorted(
        path.name for path in (tmp_path / "local").iterdir()
    )
    assert len(list((tmp_path / "killed" / "labels").iterdir())) == FILES
