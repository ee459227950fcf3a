"""Native collections: adopted in row order, and labelled in the same form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from distclust.backends import connect
from distclust.data.blocks import Partition
from distclust.data.collections import Chunks, CollectionSource
from distclust.errors import DataError, TaskFailed

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")

ROWS = np.arange(44, dtype=np.float64).reshape(11, 4)


def contents(partition: Partition) -> list[tuple[int, Any, Any]]:
    return [(block.row_start, block.X, block.weights) for block in partition.blocks]


def first_feature(partition: Partition) -> list[Any]:
    """Stand-in for labels: one array a block."""
    return [block.X[:, 0].astype(np.int32) for block in partition.blocks]


def place(backend: Any, source: CollectionSource, n_partitions: int) -> list[Any]:
    return [backend.place(source.load, *args) for args in source.plan(n_partitions)]


def rows_of(backend: Any, source: CollectionSource, n_partitions: int) -> tuple[Any, Any]:
    """Fetch everything, checking that global row ids follow the input."""
    parts = [
        backend.fetch(backend.call(contents, at)) for at in place(backend, source, n_partitions)
    ]
    blocks = [block for part in parts for block in part]
    starts = [start for start, _, _ in blocks]
    lengths = [len(X) for _, X, _ in blocks]
    assert starts == [sum(lengths[:i]) for i in range(len(lengths))]
    weights = [weight for _, _, weight in blocks]
    return (
        np.concatenate([X for _, X, _ in blocks]),
        None if weights[0] is None else np.concatenate(weights),
    )


def labels(backend: Any, source: CollectionSource, n_partitions: int) -> Any:
    handles = place(backend, source, n_partitions)
    parts = [backend.call(first_feature, at) for at in handles]
    return backend.assemble(source.chunks, source.pieces(parts))


@pytest.fixture(scope="module")
def dask_backend(dask_cluster: str) -> Iterator[Any]:
    with connect("dask", address=dask_cluster) as backend:
        yield backend


@pytest.fixture(scope="module")
def ray_backend(ray_cluster: str) -> Iterator[Any]:
    with connect("ray", workers=1) as backend:  # Ray Data needs the other CPU
        yield backend


def arrays() -> dict[str, Any]:
    uneven = da.from_array(ROWS, chunks=((5, 1, 3, 2), 4))
    return {
        "even": da.from_array(ROWS, chunks=(4, 4)),
        "uneven": uneven,
        "columns cut": da.from_array(ROWS, chunks=(3, 2)),
        "empty chunks": uneven[(ROWS[:, 0] < 20) | (ROWS[:, 0] >= 24)],
        "unknown sizes": uneven[da.from_array(ROWS[:, 0], chunks=((5, 1, 3, 2),)) % 8 == 0],
        "float32": uneven.astype(np.float32),
        "integers": uneven.astype(np.int64),
        "frame": uneven.to_dask_dataframe(columns=list("abcd")),
        "integer frame": uneven.astype(np.int16).to_dask_dataframe(columns=list("abcd")),
    }


@pytest.mark.parametrize("n_partitions", [1, 3, 64])
@pytest.mark.parametrize("kind", arrays())
def test_dask_collections(dask_backend: Any, kind: str, n_partitions: int) -> None:
    X = arrays()[kind]
    expected = np.asarray(X.compute())
    source = CollectionSource(dask_backend.adopt(X))
    rows, weights = rows_of(dask_backend, source, n_partitions)
    assert source.dtype == rows.dtype == ("float32" if kind == "float32" else "float64")
    assert (source.n_rows, source.n_features, weights) == (len(expected), 4, None)
    assert source.feature_names == (tuple("abcd") if "frame" in kind else None)
    np.testing.assert_array_equal(rows, expected)
    assembled = labels(dask_backend, source, n_partitions)
    assert assembled.numblocks == (len(X.divisions) - 1 if "frame" in kind else X.numblocks[0],)
    assert assembled.chunks[0] == source.chunks.lengths
    np.testing.assert_array_equal(assembled.compute(), expected[:, 0])
    np.testing.assert_array_equal((assembled + 1).compute(), expected[:, 0] + 1)


@pytest.mark.parametrize("kind", ["uneven", "unknown sizes", "frame"])
@pytest.mark.parametrize("chunks", [11, 2])
def test_dask_weights(dask_backend: Any, kind: str, chunks: int) -> None:
    X = arrays()[kind]
    expected = np.arange(len(X.compute())) + 0.5
    weights = da.from_array(expected, chunks=chunks)
    source = CollectionSource(dask_backend.adopt(X, sample_weight=weights))
    assert source.weighted
    np.testing.assert_array_equal(rows_of(dask_backend, source, 3)[1], expected)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (da.ones(5, chunks=2), "1 dimensions"),
        (da.ones((5, 2), dtype=complex), "complex128"),
        (da.ones((0, 2)), "no rows"),
        (dd.from_pandas(pd.DataFrame({"a": [1.0], "b": ["x"]})), "column 'b'"),
    ],
    ids=["one dimension", "complex", "no rows", "text"],
)
def test_dask_collections_that_cannot_be_used(dask_backend: Any, X: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dask_backend.adopt(X)


@pytest.mark.parametrize("kind", ["array", "frame"])
def test_bad_value_is_located(dask_backend: Any, kind: str) -> None:
    rows = ROWS.copy()
    rows[7, 2] = np.nan
    X = da.from_array(rows, chunks=((5, 1, 3, 2), 4))
    if kind == "frame":
        X = X.to_dask_dataframe(columns=list("abcd"))
    source = CollectionSource(dask_backend.adopt(X))
    handles = place(dask_backend, source, 1)
    with pytest.raises(TaskFailed) as caught:
        dask_backend.fetch(dask_backend.call(contents, handles[0]))
    assert isinstance(caught.value.cause, DataError)
    column = "c" if kind == "frame" else "2"
    message = rf"chunk 2, row 1 \(row 7 of the input\), column '{column}': the value is nan"
    with pytest.raises(DataError, match=f"(?i){message}"):
        raise caught.value.cause


def datasets() -> dict[str, Any]:
    data = pytest.importorskip("ray.data")
    table = pa.table(dict(zip("abcd", ROWS.T.copy(), strict=True)))
    vectors = pa.FixedSizeListArray.from_arrays(ROWS.ravel(), 4)
    cut = [table.slice(0, 5), table.slice(5, 1), table.slice(6)]
    return {
        "columns": data.from_arrow(cut),
        "empty block": data.from_arrow([*cut[:1], table.slice(0, 0), *cut[1:]]),
        "pandas": data.from_pandas([part.to_pandas() for part in cut]),
        "tensor": data.from_numpy([ROWS[:5], ROWS[5:]]),
        "vectors": data.from_arrow(pa.table({"v": vectors})),
        "lists": data.from_arrow(pa.table({"v": ROWS.tolist()})),
        "mapped": data.from_arrow(cut).map_batches(lambda batch: batch, batch_format="pyarrow"),
    }


KINDS = ["columns", "empty block", "pandas", "tensor", "vectors", "lists", "mapped"]


@pytest.mark.parametrize("kind", KINDS)
def test_ray_datasets(ray_backend: Any, kind: str) -> None:
    source = CollectionSource(ray_backend.adopt(datasets()[kind], sample_weight=np.arange(11.0)))
    assert (source.n_rows, source.n_features, source.dtype) == (11, 4, np.float64)
    rows, weights = rows_of(ray_backend, source, 2)
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(weights, np.arange(11.0))
    assembled = labels(ray_backend, source, 2)
    assert [row["label"] for row in assembled.take_all()] == list(ROWS[:, 0])


def test_another_kind_is_not_adopted(dask_backend: Any, ray_backend: Any) -> None:
    for backend in (dask_backend, ray_backend):
        assert backend.adopt(ROWS) is None


def test_groups_are_neighbours_balanced_and_repeatable() -> None:
    chunks = Chunks(
        refs=tuple("abcdefg"), lengths=(4, 0, 4, 1, 1, 0, 9), n_features=1, dtype=np.dtype("f8")
    )
    source = CollectionSource(chunks)
    assert source.groups(1) == [[0, 2, 3, 4, 6]]
    assert source.groups(2) == [[0, 2, 3, 4], [6]]
    for n in range(1, 9):
        groups = source.groups(n)
        assert len(groups) <= n
        assert source.groups(len(groups)) == groups
    assert source.pieces(["x", "y"]) == [
        ("x", 0), (None, None), ("x", 1), ("x", 2), ("x", 3), (None, None), ("y", 0)
    ]  # fmt: skip
