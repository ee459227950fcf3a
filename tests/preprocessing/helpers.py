"""Data with missing values, and every transformer in a few settings."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distclust.preprocessing import Normalizer, RobustScaler, SimpleImputer, StandardScaler
from tests.cluster.helpers import blobs, sha

NAMES = ("a", "b", "c", "d", "e")

TRANSFORMERS: dict[str, Any] = {
    "standard": StandardScaler(),
    "standard, only mean": StandardScaler(with_std=False),
    "robust": RobustScaler(quantile_range=(10.0, 80.0)),
    "normalizer": Normalizer("l1"),
    "imputer, mean": SimpleImputer(),
    "imputer, median": SimpleImputer(strategy="median"),
    "imputer, most frequent": SimpleImputer(strategy="most_frequent"),
    "imputer, indicators": SimpleImputer(add_indicator=True),
}


@cache
def rows(dtype: str = "float64", *, missing: bool = True, n: int = 3000) -> np.ndarray:
    """Columns of very different units, rounded so that values repeat; read-only."""
    X = np.array(blobs(n)) * [1, 100, 1e4, 1e-3, 1] + [0, 1e8, 5, 0, -3]
    X[:, 4] = np.rint(X[:, 4])
    X = X.astype(dtype)
    if missing:
        X[np.random.default_rng(5).random(X.shape) < 0.07] = np.nan
    X.flags.writeable = False
    return X


def takes_missing(name: str) -> bool:
    return name != "normalizer"


def write_rows(directory: Path, X: np.ndarray, n_files: int = 3, group: int = 170) -> Path:
    """Write rows as Parquet, NaN as null, columns of whole numbers as integers."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(np.array_split(X, n_files)):
        columns = {}
        for name, column in zip(NAMES, part.T, strict=False):
            known = column[~np.isnan(column)]
            kind = pa.int64() if len(known) and (known == np.rint(known)).all() else None
            columns[name] = pa.array(column, type=kind, from_pandas=True)
        pq.write_table(
            pa.table(columns), directory / f"part-{number}.parquet", row_group_size=group
        )
    return directory


def fitted_digest(model: Any) -> str:
    """What has to be the same on every backend."""
    found = (getattr(model, name) for name in type(model)._fitted_names)
    return sha(*(0.0 if value is None else value for value in found))
