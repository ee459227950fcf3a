"""Parquet files for the tests of the data layer, written with page checksums."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write columns to ``tmp_path/name``; returns the path."""

    def write(name: str, columns: dict[str, Any], **options: Any) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path, write_page_checksum=True, **options)
        return str(path)

    return write


@pytest.fixture
def dataset(write: Write, tmp_path: Path) -> Path:
    """Three files of 10, 20 and 30 rows, row groups of 8; ``x`` counts the rows."""
    start = 0
    for i, n_rows in enumerate((10, 20, 30)):
        x = np.arange(start, start + n_rows, dtype=np.float32)
        key = [f"row{int(value)}" for value in x]
        write(f"in/part-{i}.parquet", {"key": key, "x": x, "y": -x}, row_group_size=8)
        start += n_rows
    return tmp_path / "in"
