from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distclust.data import Manifest, ParquetSource, iter_blocks, open_manifest, read_blocks
from distclust.data.plan import file_pieces
from distclust.errors import CorruptFile, DataError

Write = Callable[..., str]


def rows_of(manifest: Manifest, n_partitions: int = 1, **options: Any) -> npt.NDArray[Any]:
    """All rows in global order, read through a plan."""
    X = np.full((manifest.n_rows, manifest.n_features), np.nan, dtype=manifest.dtype)
    for (spec,) in ParquetSource(manifest).plan(n_partitions):
        for block in read_blocks(spec.selection, spec.pieces, **options):
            assert block.X.flags.c_contiguous
            assert block.X.dtype == manifest.dtype
            X[block.row_start : block.row_start + block.n_rows] = block.X
    return X


def flip_byte(path: str, column: int, row_group: int = 0) -> None:
    metadata = pq.read_metadata(path).row_group(row_group).column(column)
    data = bytearray(Path(path).read_bytes())
    start = metadata.dictionary_page_offset or metadata.data_page_offset
    data[start + metadata.total_compressed_size // 2] ^= 0x10
    Path(path).write_bytes(data)


# ------------------------------------------------------------------ what is read


@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
def test_every_partitioning_reads_the_same_rows(dataset: Path, n_partitions: int) -> None:
    X = rows_of(open_manifest(dataset, columns=["y", "x"]), n_partitions)
    np.testing.assert_array_equal(X, np.stack([-np.arange(60), np.arange(60)], axis=1))


def test_a_source_describes_itself_and_loads_partitions(dataset: Path) -> None:
    source = ParquetSource(open_manifest(dataset, columns=["y"], weight="x"))
    assert (source.n_rows, source.n_features, source.weighted) == (60, 1, True)
    assert source.feature_names == ("y",)
    partitions = [source.load(*args) for args in source.plan(3)]
    assert sum(partition.n_rows for partition in partitions) == 60
    blocks = list(source.iter_file(source.manifest.files[1], batch_nbytes=64))
    assert [block.row_start for block in blocks][:3] == [10, 14, 18]
    weights = blocks[0].weights
    assert weights is not None
    assert weights.dtype == np.float64
    np.testing.assert_array_equal(weights, np.arange(10, 14))


def test_numbers_of_every_kind_become_floats(write: Write) -> None:
    columns = {
        "f2": pa.array(np.array([1.5, -2], "f2")),
        "i1": pa.array([1, -2], pa.int8()),
        "u8": pa.array([2**53, 0], pa.uint64()),
        "i8": pa.array([-(2**53), 3], pa.int64()),
        "b": pa.array([True, False]),
        "d": pa.array([Decimal("1.25"), Decimal("-3.50")], pa.decimal128(9, 2)),
    }
    manifest = open_manifest(write("a.parquet", columns))
    expected = [[1.5, 1, 2.0**53, -(2.0**53), 1, 1.25], [-2, -2, 0, 3, 0, -3.5]]
    np.testing.assert_array_equal(rows_of(manifest), expected)
    assert rows_of(open_manifest(write("a.parquet", columns), dtype="float32")).dtype == "f4"


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float32(), 3),
        pa.large_list(pa.float64()),
        pa.list_(pa.int16()),
        pa.fixed_shape_tensor(pa.float32(), (3,)),
    ],
)
@pytest.mark.parametrize("store_schema", [True, False])
def test_vectors_of_every_layout_are_read(tmp_path: Path, kind: Any, store_schema: bool) -> None:
    expected = np.arange(60).reshape(20, 3)
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    array = pa.array(expected.tolist(), storage)
    if storage is not kind:
        array = pa.ExtensionArray.from_storage(kind, array)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"v": array}), path, row_group_size=8, store_schema=store_schema)
    manifest = open_manifest(path, vector="v")
    assert manifest.n_features == 3
    np.testing.assert_array_equal(rows_of(manifest, 7), expected)


def test_hive_columns_are_filled_in(write: Write, tmp_path: Path) -> None:
    for year in (2023, 2024):
        write(f"in/year={year}/a.parquet", {"x": [0.5, 1.5]})
    manifest = open_manifest(tmp_path / "in", columns=["x", "year"])
    expected = [[0.5, 2023], [1.5, 2023], [0.5, 2024], [1.5, 2024]]
    np.testing.assert_array_equal(rows_of(manifest), expected)
    only_hive = open_manifest(tmp_path / "in", columns=["year"])
    np.testing.assert_array_equal(rows_of(only_hive), [[2023], [2023], [2024], [2024]])
    weighted = open_manifest(tmp_path / "in", columns=["x"], weight="year")
    blocks = iter_blocks(weighted.selection, file_pieces(weighted.files[1]))
    np.testing.assert_array_equal(next(blocks).weights, [2024, 2024])


def test_memory_filesystem(dataset: Path) -> None:
    files = fsspec.filesystem("memory")
    for path in dataset.iterdir():
        files.pipe(f"/reader/{path.name}", path.read_bytes())
    X = rows_of(open_manifest("memory://reader/part-*.parquet", columns=["x"]), 4)
    np.testing.assert_array_equal(X[:, 0], np.arange(60))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_rows=st.integers(1, 200),
    row_group_size=st.integers(1, 70),
    n_partitions=st.integers(1, 12),
    batch_nbytes=st.integers(1, 2000),
    vector=st.booleans(),
)
def test_round_trip(
    tmp_path: Path,
    n_rows: int,
    row_group_size: int,
    n_partitions: int,
    batch_nbytes: int,
    vector: bool,
) -> None:
    X = np.random.default_rng(n_rows).normal(size=(n_rows, 3))
    columns = {"v": list(X)} if vector else {f"c{j}": X[:, j] for j in range(3)}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=row_group_size)
    manifest = open_manifest(tmp_path / "a.parquet")
    read = rows_of(manifest, n_partitions, batch_nbytes=batch_nbytes)
    np.testing.assert_array_equal(read, X)


# ------------------------------------------------------------------ memory


def test_a_small_file_of_many_values_is_streamed(tmp_path: Path) -> None:
    """A constant column of 8 million values: 35 kB on disk, 64 MB decoded."""
    path = tmp_path / "constant.parquet"
    n_rows = 8_000_000
    pq.write_table(pa.table({"x": np.ones(n_rows)}), path, row_group_size=n_rows)
    assert path.stat().st_size < 100_000
    manifest = open_manifest(path)
    assert manifest.decoded_bytes == n_rows * 8
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    previous = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        pieces = file_pieces(manifest.files[0])
        blocks = iter_blocks(manifest.selection, pieces, batch_nbytes=1 << 20)
        assert sum(block.n_rows for block in blocks) == n_rows
        peak = tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(previous)
    assert peak < 12 << 20


# ------------------------------------------------------------------ bad values

BAD_FLOATS = [
    (None, "the value is null"),
    (float("nan"), "the value is NaN"),
    (float("inf"), "the value is inf"),
    (float("-inf"), "the value is -inf"),
]


@pytest.mark.parametrize(("value", "problem"), BAD_FLOATS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_partitions", [1, 5])
def test_a_bad_number_is_located(
    write: Write, value: float | None, problem: str, dtype: str, n_partitions: int
) -> None:
    column = [float(i) for i in range(20)]
    bad = [*column[:13], value, *column[14:]]
    path = write("a.parquet", {"x": column, "red": pa.array(bad, pa.float64())}, row_group_size=8)
    manifest = open_manifest(path, dtype=dtype)
    with pytest.raises(DataError) as caught:
        rows_of(manifest, n_partitions, batch_nbytes=32)
    expected = f"{path}: row group 1, column 'red', row 13: {problem}"
    assert str(caught.value).startswith(expected)


def test_the_first_bad_row_is_named(write: Write) -> None:
    x = np.zeros(20)
    x[[5, 9]] = np.nan
    manifest = open_manifest(write("a.parquet", {"x": x}))
    with pytest.raises(DataError, match="column 'x', row 5: the value is NaN"):
        rows_of(manifest)


def test_a_value_too_large_for_float32_is_no_infinity(write: Write) -> None:
    manifest = open_manifest(write("a.parquet", {"x": [1.0, 1e300]}), dtype="float32")
    with pytest.raises(
        DataError, match=r"column 'x', row 1: the value 1e\+300 is too large for float32"
    ):
        rows_of(manifest)


@pytest.mark.parametrize(
    ("value", "kind"), [(2**53 + 1, "i8"), (-(2**53) - 1, "i8"), (2**64 - 1, "u8")]
)
def test_an_integer_that_float64_cannot_hold_is_located(
    write: Write, value: int, kind: str
) -> None:
    path = write("a.parquet", {"n": np.array([0, 2**53, value], kind)})
    with pytest.raises(DataError, match=rf"column 'n', row 2: integer {value} is beyond 2\*\*53"):
        rows_of(open_manifest(path))
    assert rows_of(open_manifest(path, dtype="float32"))[2, 0] == np.float32(value)


RAGGED_VECTORS = [
    ([1.0], "the vector has length 1, expected 2"),
    ([1.0, 2.0, 3.0], "the vector has length 3, expected 2"),
    ([], "the vector has length 0, expected 2"),
]
BAD_VECTORS = [
    (None, "the vector is null"),
    ([1.0, None], "element 1: the value is null"),
    ([float("nan"), 1.0], "element 0: the value is NaN"),
    ([1.0, float("inf")], "element 1: the value is inf"),
]


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        *((pa.list_(pa.float64()), *bad) for bad in RAGGED_VECTORS + BAD_VECTORS),
        *((pa.list_(pa.float64(), 2), *bad) for bad in BAD_VECTORS),
    ],
)
def test_a_bad_vector_is_located(write: Write, kind: Any, value: Any, problem: str) -> None:
    vectors: list[Any] = [[0.0, 1.0]] * 20
    vectors[13] = value
    path = write("a.parquet", {"v": pa.array(vectors, kind)}, row_group_size=8)
    with pytest.raises(DataError) as caught:
        rows_of(open_manifest(path), 5)
    assert str(caught.value).startswith(f"{path}: row group 1, column 'v', row 13: {problem}")


def test_a_null_first_vector_is_located(write: Write) -> None:
    path = write("a.parquet", {"v": pa.array([None, [1.0]], pa.list_(pa.float64()))})
    with pytest.raises(DataError, match="column 'v', row 0: the vector is null"):
        open_manifest(path)


def test_ragged_vectors_do_not_decide_the_batch_size(tmp_path: Path) -> None:
    vectors = [[0.0, 1.0]] * 3 + [[0.0] * 1_000_000]
    pq.write_table(pa.table({"v": vectors}), tmp_path / "a.parquet")
    manifest = open_manifest(tmp_path / "a.parquet")
    assert manifest.decoded_bytes > 8_000_000
    with pytest.raises(DataError, match="row 3: the vector has length 1000000, expected 2"):
        rows_of(manifest)


@pytest.mark.parametrize(("weight", "problem"), [*BAD_FLOATS, (-0.5, "weight -0.5 is negative")])
def test_a_bad_weight_is_located(write: Write, weight: float | None, problem: str) -> None:
    path = write("a.parquet", {"x": [1.0] * 3, "w": [1.0, 0.0, weight]})
    with pytest.raises(DataError, match=f"column 'w', row 2: {problem}"):
        rows_of(open_manifest(path, weight="w"))


# ------------------------------------------------------------------ bad files


@pytest.mark.parametrize("column", [0, 1])
def test_a_flipped_byte_is_found_and_its_column_named(write: Write, column: int) -> None:
    X = np.random.default_rng(0).normal(size=(2, 2000))
    path = write("a.parquet", {"x": X[0], "y": X[1]}, row_group_size=1000)
    flip_byte(path, column, row_group=1)
    manifest = open_manifest(path)
    with pytest.raises(CorruptFile) as caught:
        rows_of(manifest)
    name = "xy"[column]
    assert str(caught.value).startswith(f"{path}: row group 1, column '{name}' does not decode: ")


def test_a_flipped_byte_in_another_column_is_no_fault(write: Write) -> None:
    path = write("a.parquet", {"x": np.arange(100.0), "y": np.arange(100.0)})
    flip_byte(path, 1)
    np.testing.assert_array_equal(rows_of(open_manifest(path, columns=["x"]))[:, 0], np.arange(100))


@pytest.mark.parametrize("flips", range(25))
def test_no_flipped_bit_reads_as_other_data(write: Write, flips: int) -> None:
    expected = np.random.default_rng(0).normal(size=500)
    path = write("a.parquet", {"x": expected})
    data = bytearray(Path(path).read_bytes())
    metadata = pq.read_metadata(path).row_group(0).column(0)
    rng = np.random.default_rng(flips)
    data[rng.integers(4, 4 + metadata.total_compressed_size)] ^= 1 << rng.integers(8)
    Path(path).write_bytes(data)
    try:
        X = rows_of(open_manifest(path))
    except DataError:
        return
    np.testing.assert_array_equal(X[:, 0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.arange(10.0)}, r"part-0.parquet: column 'x' is gone"),
        ({"x": np.arange(2.0, dtype="f4")}, r"row group 0 lost rows"),
        ({"x": ["a"] * 10}, r"column 'x', row 0: type string: the file changed"),
    ],
)
def test_a_file_that_changed_since_it_was_planned(
    dataset: Path, write: Write, change: dict[str, Any], message: str
) -> None:
    manifest = open_manifest(dataset, columns=["x"])
    write("in/part-0.parquet", change, row_group_size=8)
    with pytest.raises(DataError, match=message):
        rows_of(manifest)


def test_a_file_that_vanished(dataset: Path) -> None:
    manifest = open_manifest(dataset, columns=["x"])
    shutil.rmtree(dataset)
    with pytest.raises(DataError, match=r"part-0.parquet: file not found"):
        rows_of(manifest)
