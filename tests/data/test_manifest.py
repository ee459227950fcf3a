from __future__ import annotations

import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distclust.data import open_manifest
from distclust.errors import ConfigError, CorruptFile, DataError

Write = Callable[..., str]


def test_rows_are_numbered_along_files_and_row_groups(dataset: Path) -> None:
    manifest = open_manifest(dataset, columns=["x", "y"])
    assert manifest.n_rows == 60
    assert [file.row_start for file in manifest.files] == [0, 10, 30]
    groups = [group for file in manifest.files for group in file.row_groups]
    assert [group.n_rows for group in groups] == [8, 2, 8, 8, 4, 8, 8, 8, 6]
    assert [group.row_start for group in groups] == [0, 8, 10, 18, 26, 30, 38, 46, 54]
    assert manifest.decoded_bytes == 60 * 2 * 4
    assert [(group.file_index, group.row_group) for group in groups[1:3]] == [(0, 1), (1, 0)]


def test_all_numeric_columns_are_the_default(write: Write) -> None:
    columns = {"id": [1], "a": [1.0], "b": [True], "c": ["text"], "w": [2.0], "v": [[1.0]]}
    manifest = open_manifest(write("a.parquet", columns), id_columns=["id"], weight="w")
    assert manifest.feature_names == ("a", "b")


def test_one_vector_column_is_the_default_without_numeric_ones(write: Write) -> None:
    path = write("a.parquet", {"key": ["k"], "v": [[1.0, 2.0]]})
    manifest = open_manifest(path)
    assert manifest.selection.vector == "v"
    assert manifest.feature_names is None
    assert manifest.n_features == 2


def test_two_vector_columns_must_be_told_apart(write: Write) -> None:
    path = write("a.parquet", {"u": [[1.0]], "v": [[1.0]]})
    with pytest.raises(DataError, match=r"2 vector columns, name one of \['u', 'v'\]"):
        open_manifest(path)


@pytest.mark.parametrize(
    ("kinds", "dtype"),
    [
        ((pa.float32(), pa.float32()), "float32"),
        ((pa.float32(), pa.float16()), "float32"),
        ((pa.float32(), pa.float64()), "float64"),
        ((pa.float32(), pa.int8()), "float64"),
        ((pa.bool_(), pa.decimal128(5, 2)), "float64"),
        ((pa.list_(pa.float32()),), "float32"),
        ((pa.list_(pa.float32(), 1),), "float32"),
        ((pa.large_list(pa.float64()),), "float64"),
        ((pa.list_(pa.int8()),), "float64"),
    ],
)
def test_dtype_is_float32_only_if_every_feature_is(
    write: Write, kinds: tuple[Any, ...], dtype: str
) -> None:
    def one(kind: Any) -> Any:
        values = {pa.bool_(): True, pa.float16(): np.float16(1), pa.decimal128(5, 2): Decimal(1)}
        return pa.array([[1] if pa.types.is_nested(kind) else values.get(kind, 1)], kind)

    path = write("a.parquet", {f"c{i}": one(kind) for i, kind in enumerate(kinds)})
    assert open_manifest(path).dtype == np.dtype(dtype)
    other = "float32" if dtype == "float64" else "float64"
    assert open_manifest(path, dtype=other).dtype == np.dtype(other)


def test_hive_keys_are_columns_when_named(write: Write, tmp_path: Path) -> None:
    for year, place in ((2023, "north"), (2024, "south")):
        write(f"in/year={year}/place={place}/a.parquet", {"x": [1.5, 2.5]})
    assert open_manifest(tmp_path / "in").feature_names == ("x",)
    manifest = open_manifest(tmp_path / "in", columns=["year", "x"], id_columns=["place"])
    assert manifest.selection.partition_types == (("year", "int64"), ("place", "string"))
    assert manifest.files[1].partition_values == (("year", 2024), ("place", "south"))


def test_a_hive_key_of_text_is_no_feature(write: Write, tmp_path: Path) -> None:
    write("in/place=north/a.parquet", {"x": [1.0]})
    with pytest.raises(DataError, match="column 'place' is string"):
        open_manifest(tmp_path / "in", columns=["x", "place"])


def test_a_null_hive_key_is_no_feature(write: Write, tmp_path: Path) -> None:
    write("in/year=1/a.parquet", {"x": [1.0]})
    write("in/year=__HIVE_DEFAULT_PARTITION__/a.parquet", {"x": [1.0]})
    with pytest.raises(DataError, match=r"__HIVE_DEFAULT.*Hive column 'year' is None"):
        open_manifest(tmp_path / "in", columns=["x", "year"])


def test_a_missing_column_suggests_the_nearest(dataset: Path, write: Write) -> None:
    with pytest.raises(DataError, match=r"part-0.parquet: no column 'kay'; did you mean 'key'\?"):
        open_manifest(dataset, columns=["x"], id_columns=["kay"])
    with pytest.raises(DataError, match=r"no column 'colour'; it has 'key', 'x', 'y'"):
        open_manifest(dataset, columns=["colour"])


def test_a_column_missing_in_one_file_names_that_file(dataset: Path, write: Write) -> None:
    write("in/part-1.parquet", {"x": [1.0]})
    with pytest.raises(DataError, match=r"part-1.parquet: no column 'y'; it has 'x'"):
        open_manifest(dataset, columns=["y"])


def test_types_that_differ_name_both_files(dataset: Path, write: Write) -> None:
    write("in/part-2.parquet", {"x": [1.0], "y": [1.0]})
    with pytest.raises(
        DataError, match=r"part-2.parquet: column 'x' is double, but float in .*part-0.parquet"
    ):
        open_manifest(dataset, columns=["x"])


@pytest.mark.parametrize("kind", [pa.string(), pa.timestamp("s"), pa.date32(), pa.binary()])
def test_a_column_that_is_not_numeric_names_its_type(write: Write, kind: Any) -> None:
    path = write("a.parquet", {"x": [1.0], "bad": pa.array([None], kind)})
    with pytest.raises(DataError, match=r"a.parquet: column 'bad' is .*expected a float"):
        open_manifest(path, columns=["x", "bad"])


def test_a_vector_of_strings_is_refused(write: Write) -> None:
    path = write("a.parquet", {"v": [["a"]]})
    with pytest.raises(DataError, match=r"column 'v' is list.*expected a list of floats"):
        open_manifest(path, vector="v")


def test_vectors_of_other_fixed_length_name_the_file(write: Write, tmp_path: Path) -> None:
    for i in (2, 3):
        write(f"in/{i}.parquet", {"v": pa.array([[1.0] * i], pa.list_(pa.float32(), i))})
    with pytest.raises(DataError, match=r"3.parquet: column 'v' is fixed_size_list.*\[3\]"):
        open_manifest(tmp_path / "in", vector="v")


def test_zero_rows_are_refused(write: Write) -> None:
    path = write("a.parquet", {"x": pa.array([], pa.float32())})
    with pytest.raises(DataError, match=r"a.parquet: zero rows"):
        open_manifest(path)


def test_empty_files_among_others_are_no_fault(dataset: Path, write: Write) -> None:
    empty = {name: pa.array([], pa.float32()) for name in "xy"}
    write("in/part-00.parquet", empty)
    assert open_manifest(dataset, columns=["x", "y"]).n_rows == 60


def test_a_zero_byte_file_is_named(dataset: Path) -> None:
    (dataset / "part-1.parquet").write_bytes(b"")
    with pytest.raises(CorruptFile, match=r"part-1.parquet: the file is empty \(0 bytes\)"):
        open_manifest(dataset, columns=["x"])


@pytest.mark.parametrize("keep", [4, 100, -1, -8, -200])
def test_a_truncated_file_is_named(dataset: Path, keep: int) -> None:
    path = dataset / "part-1.parquet"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptFile, match=r"part-1.parquet: the file is truncated"):
        open_manifest(dataset, columns=["x"])


def test_another_format_is_named(dataset: Path) -> None:
    (dataset / "part-1.parquet").write_text("x,y\n1,2\n" * 10)
    with pytest.raises(CorruptFile, match=r"part-1.parquet: not a Parquet file"):
        open_manifest(dataset, columns=["x"])


def test_a_damaged_footer_is_named(dataset: Path) -> None:
    path = dataset / "part-1.parquet"
    data = bytearray(path.read_bytes())
    n_footer = int.from_bytes(data[-8:-4], "little")
    data[-8 - n_footer : -8] = bytes(n_footer)
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=r"part-1.parquet: its footer cannot be read"):
        open_manifest(dataset, columns=["x"])


def test_ray_tensor_types_are_refused_before_arrow_parses_them(tmp_path: Path) -> None:
    field = pa.field(
        "v",
        pa.list_(pa.float32()),
        metadata={"ARROW:extension:name": "ray.data.arrow_tensor", "ARROW:extension:metadata": "["},
    )
    for shift in range(3):
        named = field.with_name("v" * (shift + 1))
        table = pa.Table.from_arrays([pa.array([[1.0]], named.type)], schema=pa.schema([named]))
        pq.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"a.parquet: has Ray tensor columns"):
            open_manifest(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["x"], "vector": "v"}, "not both"),
        ({"columns": []}, "columns is empty"),
        ({"columns": "x"}, "lists of names"),
        ({"columns": ["x", "x"]}, "columns names 'x' more than once"),
        ({"columns": ["x"], "weight": "x"}, "both a feature and the weight"),
        ({"dtype": "int8"}, "dtype='int8' should be one of float32, float64"),
    ],
)
def test_a_request_that_contradicts_itself(
    dataset: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        open_manifest(dataset, **options)


def test_a_repeated_column_name_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "x"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="2 columns named 'x'"):
        open_manifest(tmp_path, columns=["x"])


def test_digest_knows_the_data_not_the_place(dataset: Path, tmp_path: Path, write: Write) -> None:
    digest = open_manifest(dataset, columns=["x", "y"]).digest
    shutil.copytree(dataset, tmp_path / "elsewhere")
    assert open_manifest(tmp_path / "elsewhere", columns=["x", "y"]).digest == digest
    assert open_manifest(dataset, columns=["y", "x"]).digest != digest
    write("in/part-2.parquet", {"x": np.zeros(30, "f4"), "y": np.zeros(30, "f4")})
    assert open_manifest(dataset, columns=["x", "y"]).digest != digest
