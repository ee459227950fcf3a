"""What is clustered: seeded blobs that overlap, or rows of a Parquet file.

The blobs' centers are drawn closer together than the blobs are wide, so that no contender
converges in the few iterations that are timed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["CASES", "Case", "Problem", "make"]

SEED = 20_240_607
BLOCK = 100_000  # rows made at a time


@dataclass(frozen=True, kw_only=True)
class Case:
    """A size of problem; `n_rows` and `n_features` of 0 mean: what the file has."""

    name: str
    n_rows: int = 0
    n_features: int = 0
    n_clusters: int
    n_iter: int = 10

    @property
    def from_file(self) -> bool:
        """Whether the rows come from a Parquet file."""
        return self.n_rows == 0

    def describe(self) -> str:
        """Return one line for people."""
        size = "--data" if self.from_file else f"{self.n_rows:,} x {self.n_features}"
        return f"{self.name}: {size}, k={self.n_clusters}, {self.n_iter} iterations"


CASES = {
    case.name: case
    for case in (
        Case(name="A", n_rows=1_000_000, n_features=50, n_clusters=10),
        Case(name="B", n_rows=2_000_000, n_features=16, n_clusters=100),
        Case(name="C", n_rows=300_000, n_features=128, n_clusters=1000),
        Case(name="D", n_rows=5_000_000, n_features=2, n_clusters=50),
        # the two sizes that the project's targets are stated for: A and B by another name
        Case(name="P1", n_rows=1_000_000, n_features=50, n_clusters=10),
        Case(name="P2", n_rows=2_000_000, n_features=16, n_clusters=100),
        Case(name="E1", n_clusters=100, n_iter=20),
        Case(name="E2", n_clusters=1000, n_iter=20),
    )
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What every contender is given.

    Attributes
    ----------
    X : ndarray of shape (n, d), float32, C order
    centers : ndarray of shape (k, d), float32
        Distinct rows of `X`.
    n_iter : int
    """

    case: Case
    X: np.ndarray
    centers: np.ndarray
    n_iter: int


def make(case: Case, data: Path | None, scale: float) -> Problem:
    """Make, or read, the problem of a case with `scale` times its rows."""
    rng = np.random.default_rng(SEED)
    if case.from_file:
        if data is None:
            raise FileNotFoundError(f"case {case.name} needs --data FILE.parquet")
        X = _read(data)
        X = X[: round(len(X) * scale)]
    else:
        X = _blobs(rng, round(case.n_rows * scale), case.n_features, case.n_clusters)
    distinct = np.unique(X[rng.permutation(len(X))[: 4 * case.n_clusters]], axis=0)
    centers = rng.permutation(distinct)[: case.n_clusters]
    if len(centers) < case.n_clusters:
        raise ValueError(f"case {case.name}: {len(X)} rows have too few distinct ones for centers")
    return Problem(case=case, X=X, centers=np.ascontiguousarray(centers), n_iter=case.n_iter)


def _blobs(rng: np.random.Generator, n: int, d: int, k: int) -> np.ndarray:
    means = rng.standard_normal((k, d), dtype=np.float32)
    X = np.empty((n, d), dtype=np.float32)
    for start in range(0, n, BLOCK):
        block = X[start : start + BLOCK]
        rng.standard_normal(dtype=np.float32, out=block)
        block += means[rng.integers(k, size=len(block))]
    return X


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
