"""Small real data sets and job files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.datasets import load_iris

from tests.runner.helpers import Data

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
FILE_ROWS = (70, 50, 30)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    rows = load_iris().data
    directory = tmp_path / "data"
    directory.mkdir()
    start = 0
    for number, n_rows in enumerate(FILE_ROWS):
        part = rows[start : start + n_rows]
        ids = np.arange(start, start + n_rows)
        columns = {name: part[:, i] for i, name in enumerate(COLUMNS)}
        table = pa.table({"id": ids, **columns})
        path = directory / f"part-{number}.parquet"
        pq.write_table(table, path, row_group_size=20, write_page_checksum=True)
        start += n_rows
    return Data(directory, rows)


@pytest.fixture
def job(tmp_path: Path, data: Data) -> Callable[..., Path]:
    """Write a job file; keyword arguments update its sections."""

    def write(**sections: dict[str, Any]) -> Path:
        content: dict[str, Any] = {
            "input": {"path": str(data.directory), "columns": COLUMNS, "id_columns": ["id"]},
            "algorithm": {"name": "kmeans", "n_clusters": 3, "random_state": 0},
            "backend": {"name": "local", "workers": 2, "partitions": 4},
            "output": {"path": str(tmp_path / "out"), "columns": ["distance"]},
        }
        for name, changes in sections.items():
            content[name] = {**content[name], **changes}
        path = tmp_path / "job.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write
