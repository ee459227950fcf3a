"""Rows that steps make while they are read: streamed, bounded, and located when wrong."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from distclust.backends.local import LocalBackend
from distclust.data import ArraySource, ParquetSource, open_manifest
from distclust.data.blocks import DENSE_CELLS, Block, Partition
from distclust.data.collections import Chunks, CollectionSource, describe
from distclust.data.steps import BadRow, Chain, RowStep, chain
from distclust.data.transformed import RowStream, Streamed, TransformedRows
from distclust.data.values import Allowed
from distclust.engine.shards import Session
from distclust.errors import DataError


@dataclass(frozen=True)
class Sums(RowStep):
    """Replaces a row by its sum and its number."""

    refused: int = -1

    def __call__(self, block: Block) -> Block:
        assert block.X.size <= DENSE_CELLS
        ids = np.arange(block.row_start, block.row_start + block.n_rows)
        if self.refused in ids:
            raise BadRow(self.refused, "the row is unwanted")
        X = np.column_stack([block.X.sum(axis=1, dtype=np.float64), ids])
        return Block(X, block.row_start, block.weights)

    def n_features_out(self, n_features: int) -> int:
        return 2

    def dtype_out(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(np.float64)

    def feature_names_out(self, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return ("sum", "id")


@dataclass(frozen=True)
class Plus(RowStep):
    """Adds a number; takes and leaves missing values."""

    number: float

    @property
    def accepts_missing(self) -> bool:
        return True

    def __call__(self, block: Block) -> Block:
        return Block(block.X + block.X.dtype.type(self.number), block.row_start, block.weights)


N, D = 5000, 3
X = np.random.default_rng(0).integers(0, 100, (N, D)).astype(np.float32)
SUMS = np.column_stack([X.sum(axis=1) + 2 * D, np.arange(N)])
STEP = chain(Plus(2.0), Sums())


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    weights = np.arange(N, dtype=np.float64)
    if request.param == "array":
        return ArraySource(X, weights)
    if request.param == "sparse":
        return ArraySource(sp.csr_matrix(X), weights)
    if request.param == "chunks":
        parts, looks = np.split(X, [1000, 1000, 4000]), []
        looks = [describe(part, None, None) for part in parts]
        chunks = Chunks.of(parts, looks).weighted_by(np.split(weights, [1000, 1000, 4000]))
        return CollectionSource(chunks)
    table = pa.table({**{f"x{j}": X[:, j] for j in range(D)}, "w": weights})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=700)
    return ParquetSource(open_manifest(tmp_path, weight="w"))


KINDS = ["array", "sparse", "chunks", "files"]
everywhere = pytest.mark.parametrize("source", KINDS, indirect=True)


def in_order(blocks: Iterator[Block] | list[Block]) -> tuple[np.ndarray, np.ndarray]:
    found = sorted(blocks, key=lambda block: block.row_start)
    assert [b.row_start for b in found] == [
        0, *np.cumsum([b.n_rows for b in found])[:-1].tolist()
    ]  # fmt: skip
    return np.concatenate([b.dense().X for b in found]), np.concatenate([b.weights for b in found])


@everywhere
@pytest.mark.parametrize("n_partitions", [1, 3, 50])
def test_partitions_hold_what_the_step_makes(source: Any, n_partitions: int) -> None:
    made = TransformedRows(source, STEP)
    assert (made.n_rows, made.n_features, made.dtype, made.weighted) == (N, 2, np.float64, True)
    assert made.feature_names == ("sum", "id")
    recipes = pickle.loads(pickle.dumps(made.plan(n_partitions)))
    parts = [made.load(*args) for args in recipes]
    for part, args in zip(parts, recipes, strict=True):
        assert [(b.row_start, b.n_rows) for b in part.blocks] == made.spans(*args)
    rows, weights = in_order([block for part in parts for block in part.blocks])
    np.testing.assert_array_equal(rows, SUMS)
    np.testing.assert_array_equal(weights, np.arange(N))


@everywhere
def test_steps_compose_into_one_pass(source: Any) -> None:
    one = TransformedRows(TransformedRows(source, Plus(2.0)), Sums())
    assert not isinstance(one.source, TransformedRows)
    assert isinstance(one.step, Chain)
    blocks = [b for args in one.plan(4) for b in one.load(*args).blocks]
    np.testing.assert_array_equal(in_order(blocks)[0], SUMS)


def total(stream: RowStream) -> tuple[float, int]:
    blocks = [block.dense().X for share in stream.shares(2) for block in share]
    return float(sum(X[:, 0].sum() for X in blocks)), sum(len(X) for X in blocks)


@everywhere
@pytest.mark.parametrize("transformed", [False, True])
def test_streams_read_anew_in_each_pass(source: Any, transformed: bool) -> None:
    rows = TransformedRows(source, STEP) if transformed else source
    expected = float(SUMS[:, 0].sum() if transformed else X[:, 0].sum()), N
    with LocalBackend(workers=2) as backend:
        shards = Session(backend).shard(Streamed(rows), 3)
        for _ in range(2):
            found = shards.gather(total)
            assert tuple(map(sum, zip(*found, strict=True))) == expected


@everywhere
def test_a_refused_row_is_located(source: Any) -> None:
    made = TransformedRows(source, Sums(refused=4321))
    args = made.plan(1)[0]
    places = {
        ArraySource: "row 4321 of the input",
        CollectionSource: "chunk 3, row 321 (row 4321 of the input)",
        ParquetSource: "rows.parquet: row group 6, row 121 of it",
    }
    with pytest.raises(DataError) as caught:
        made.load(*args)
    assert str(caught.value).endswith(f"{places[type(source)]}: the row is unwanted")


def test_missing_values_come_through_only_where_asked(tmp_path: Path) -> None:
    columns = {
        "f": pa.array([1.0, None, float("nan")], pa.float32()),
        "i": pa.array([2**53 - 1, None, 3]),
        "b": pa.array([True, None, False]),
        "d": pa.array([1, None, 2], pa.decimal128(5, 2)),
    }
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    source = ParquetSource(open_manifest(tmp_path))
    with pytest.raises(DataError, match="column 'f', row 1: the value is null"):
        source.load(*source.plan(1)[0])
    lenient = source.allowing(Allowed.MISSING)
    rows = lenient.load(*lenient.plan(1)[0]).blocks[0].X
    nan = np.nan
    np.testing.assert_array_equal(rows, [[1, 2**53 - 1, 1, 1], [nan] * 4, [nan, 3, 0, 2]])
    assert lenient.manifest.digest == source.manifest.digest
    made = TransformedRows(source, Plus(1.0))
    with pytest.raises(DataError, match="row group 0, row 1 of it, feature 'f': the value is nan"):
        made.load(*made.plan(1)[0])
    made = made.allowing(Allowed.MISSING)
    np.testing.assert_array_equal(made.load(*made.plan(1)[0]).blocks[0].X, rows + 1)


def test_vectors_may_miss_elements_but_not_be_missing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": [[1.0, None], [3.0, 4.0]]}), tmp_path / "a.parquet")
    source = ParquetSource(open_manifest(tmp_path)).allowing(Allowed.MISSING)
    rows = source.load(*source.plan(1)[0]).blocks[0].X
    np.testing.assert_array_equal(rows, [[1.0, np.nan], [3.0, 4.0]])
    pq.write_table(pa.table({"v": [[1.0, 2.0], None]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 1: the vector is null"):
        source.load(*ParquetSource(open_manifest(tmp_path)).allowing(Allowed.MISSING).plan(1)[0])


def test_integers_that_floats_cannot_hold_are_found_behind_missing_ones(tmp_path: Path) -> None:
    pq.write_table(pa.table({"i": [None, 1, 2**53 + 1]}), tmp_path / "a.parquet")
    source = ParquetSource(open_manifest(tmp_path)).allowing(Allowed.MISSING)
    with pytest.raises(DataError, match=r"row 2: integer 9007199254740993 is beyond 2\*\*53"):
        source.load(*source.plan(1)[0])


PEAK = """
import resource, sys
import numpy as np
from sklearn.pipeline import make_pipeline
from distclust import KMeans
from distclust.backends.local import LocalBackend
from distclust.preprocessing import SimpleImputer, StandardScaler
from distclust.random_projection import GaussianRandomProjection

backend = LocalBackend(workers=1)
steps = SimpleImputer(), StandardScaler(), GaussianRandomProjection(4, random_state=0)
steps = [step.set_params(backend=backend, n_partitions=1) for step in steps]
model = make_pipeline(*steps, KMeans(3, random_state=0, backend=backend, n_partitions=1))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

model.fit(np.random.default_rng(0).normal(size=(3000, 256)).astype(np.float32))  # compiles
before = peak()
labels = model.fit_predict(sys.argv[1])
print(len(labels), peak() - before)
"""


@pytest.mark.slow
def test_raw_rows_are_never_held(tmp_path: Path) -> None:
    """240 MiB of rows in one partition pass by in row groups of 5 MiB."""
    n, d = 240_000, 256
    rng = np.random.default_rng(0)
    schema = pa.schema([(f"x{j}", pa.float32()) for j in range(d)])
    with pq.ParquetWriter(tmp_path / "rows.parquet", schema, use_dictionary=False) as writer:
        for _ in range(n // 5000):
            part = rng.standard_normal((d, 5000), dtype=np.float32)
            writer.write_table(pa.table(list(part), schema=schema))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    rows, grown = map(int, done.stdout.split())
    assert rows == n
    assert grown < n * d * 4 / 2


def test_a_partition_of_transformed_rows_keeps_to_its_storage(tmp_path: Path) -> None:
    from distclust.data.storage import Room, load_within

    made = TransformedRows(ArraySource(X), STEP)
    tight = Room(memory_limit=(512 << 20) + 1000, scratch_dir=str(tmp_path))
    part: Partition = load_within(tight, made.load, *made.plan(1)[0])
    assert part.storage.mapped_bytes == N * 2 * 8
    np.testing.assert_array_equal(part.blocks[0].X, SUMS)
