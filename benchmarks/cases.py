"""What is clustered: seeded blobs, known data sets, or rows of a Parquet file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["CASES", "QUALITY", "Case", "Problem", "from_file", "make"]

SEED = 20_240_607
BLOCK = 100_000  # rows made at a time


@dataclass(frozen=True, kw_only=True)
class Case:
    """A size of problem.

    Attributes
    ----------
    separation : float
        Distance between blobs' centers (root mean square), in standard deviations of a
        blob in any direction.
    load : callable or None
        ``load()`` returns the rows, where they are not blobs.
    """

    name: str
    n_clusters: int
    n_rows: int = 0
    n_features: int = 0
    separation: float = 2.0
    load: Callable[[], np.ndarray] | None = None

    def describe(self) -> str:
        """Return one line for people."""
        return f"{self.name}: {self.n_rows:,} x {self.n_features}, k={self.n_clusters}"


def _digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return load_digits().data.astype(np.float32)


def _china() -> np.ndarray:
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg").reshape(-1, 3).astype(np.float32) / 255


CASES = {
    case.name: case
    for case in (  # overlapping: scikit-learn takes dozens of iterations to converge, or hundreds
        Case(name="A", n_rows=1_000_000, n_features=50, n_clusters=10),
        Case(name="B", n_rows=2_000_000, n_features=16, n_clusters=100, separation=4.0),
        Case(name="C", n_rows=300_000, n_features=128, n_clusters=1000),
        Case(name="D", n_rows=5_000_000, n_features=2, n_clusters=50),
    )
}


QUALITY = {
    case.name: case
    for case in (
        Case(name="digits", n_rows=1797, n_features=64, n_clusters=10, load=_digits),
        Case(name="china", n_rows=273_280, n_features=3, n_clusters=64, load=_china),
        Case(name="apart", n_rows=200_000, n_features=16, n_clusters=256, separation=40.0),
    )
}
"""Where seeding decides how good a fit is; from random rows it ends far above the optimum."""


def from_file(path: Path, n_clusters: Sequence[int]) -> list[Case]:
    """Return the cases of a file: one for each number of clusters."""
    load = partial(_read, path)
    return [Case(name=f"{path.stem} k={k}", n_clusters=k, load=load) for k in n_clusters]


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """What every contender is given.

    Attributes
    ----------
    X : ndarray of shape (n, d), float32 or float64, C order
    centers : ndarray of shape (k, d), of the same dtype
        Distinct rows of `X`.
    """

    case: Case
    X: np.ndarray
    centers: np.ndarray


def make(case: Case, scale: float = 1.0, dtype: str = "float32") -> Problem:
    """Make, or read, the problem of a case with `scale` times its rows.

    Their values are float32, whatever the `dtype` that holds them.
    """
    rng = np.random.default_rng(SEED)
    X = _blobs(rng, case, scale) if case.load is None else _first(case.load(), scale)
    distinct = np.unique(X[rng.permutation(len(X))[: 4 * case.n_clusters]], axis=0)
    centers = rng.permutation(distinct)[: case.n_clusters]
    if len(centers) < case.n_clusters:
        raise ValueError(f"case {case.name}: {len(X)} rows have too few distinct ones for centers")
    held = X.astype(dtype, copy=False)
    return Problem(case=case, X=held, centers=np.ascontiguousarray(centers, dtype=dtype))


def _blobs(rng: np.random.Generator, case: Case, scale: float) -> np.ndarray:
    n, d, k = round(case.n_rows * scale), case.n_features, case.n_clusters
    spread = np.float32(case.separation / np.sqrt(2 * d))
    means = spread * rng.standard_normal((k, d), dtype=np.float32)
    X = np.empty((n, d), dtype=np.float32)
    for start in range(0, n, BLOCK):
        block = X[start : start + BLOCK]
        rng.standard_normal(dtype=np.float32, out=block)
        block += means[rng.integers(k, size=len(block))]
    return X


def _first(X: np.ndarray, scale: float) -> np.ndarray:
    return X[: round(len(X) * scale)]


def _read(path: Path) -> np.ndarray:
    """Read numeric columns, or one column of equally long vectors, as float32."""
    table = pq.read_table(path)
    for column in table.columns:
        if pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            vectors = column.combine_chunks()
            return vectors.flatten().to_numpy().reshape(len(vectors), -1).astype(np.float32)
    numeric = [
        c for c in table.columns if pa.types.is_floating(c.type) or pa.types.is_integer(c.type)
    ]
    return np.column_stack([column.to_numpy() for column in numeric]).astype(np.float32)
