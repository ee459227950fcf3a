from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distclust.data import Block, open_manifest, write_labels
from distclust.data.store import DurableFile
from distclust.data.uri import open_path
from distclust.errors import ConfigError, CorruptFile, DataError

Write = Callable[..., str]


def score(block: Block) -> dict[str, npt.NDArray[Any]]:
    return {
        "label": (block.X[:, 0] % 3).astype(np.int32),
        "row": np.arange(block.row_start, block.row_start + block.n_rows),
    }


def test_labels_have_the_rows_and_row_groups_of_the_input(dataset: Path, tmp_path: Path) -> None:
    manifest = open_manifest(dataset, columns=["x"], id_columns=["key"])
    for file in manifest.files:
        written = write_labels(file, manifest.selection, score, f"{tmp_path}/out", batch_nbytes=16)
        assert (written.file_index, written.n_rows) == (file.index, file.n_rows)
        assert written.stem == f"part-{file.index}"
        data = Path(written.path).read_bytes()
        assert written.n_bytes == len(data)
        assert written.sha256 == hashlib.sha256(data).hexdigest()
        labels = pq.ParquetFile(written.path)
        sizes = [labels.metadata.row_group(i).num_rows for i in range(labels.num_row_groups)]
        assert sizes == [group.n_rows for group in file.row_groups]
        table = labels.read()
        source = pq.read_table(file.path)
        assert table.schema.names == ["key", "label", "row"]
        assert table["key"].equals(source["key"])
        assert table.schema.field("label").type == pa.int32()
        np.testing.assert_array_equal(table["label"], source["x"].to_numpy() % 3)
        expected = np.arange(file.row_start, file.row_start + file.n_rows)
        np.testing.assert_array_equal(table["row"], expected)


def test_id_columns_keep_their_types(write: Write, tmp_path: Path) -> None:
    ids = {
        "when": pa.array([0, None, 2], pa.timestamp("us", "UTC")),
        "big": pa.array([2**60 + 1, None, 0], pa.int64()),
        "word": pa.array(["a", None, "a"]).dictionary_encode(),
        "nested": pa.array([{"a": [1]}, None, {"a": []}]),
    }
    write("in/year=2024/a.parquet", {"x": [1.0, 2.0, 3.0], **ids})
    manifest = open_manifest(tmp_path / "in", columns=["x"], id_columns=[*ids, "year"])
    file = manifest.files[0]
    written = write_labels(file, manifest.selection, score, f"{tmp_path}/out", batch_nbytes=1)
    table = pq.read_table(written.path, partitioning=None)
    for name, column in ids.items():
        assert table[name].to_pylist() == column.to_pylist()
        assert table[name].type == column.type
    assert table["year"].to_pylist() == [2024] * 3
    assert table["year"].type == pa.int64()


@pytest.mark.parametrize("n_row_groups", [0, 1])
def test_a_file_without_rows_has_labels_without_rows(
    dataset: Path, tmp_path: Path, n_row_groups: int
) -> None:
    schema = pq.read_schema(dataset / "part-0.parquet")
    with pq.ParquetWriter(dataset / "part-00.parquet", schema) as writer:
        for _ in range(n_row_groups):
            writer.write_table(schema.empty_table())
    manifest = open_manifest(dataset, columns=["x"], id_columns=["key"])
    file = next(file for file in manifest.files if file.n_rows == 0)
    written = write_labels(file, manifest.selection, score, f"{tmp_path}/out")
    assert pq.read_schema(written.path).names == ["key", "label", "row"]
    assert written.n_rows == 0


def test_pages_carry_checksums(dataset: Path, tmp_path: Path) -> None:
    manifest = open_manifest(dataset, columns=["x"])
    written = write_labels(manifest.files[2], manifest.selection, score, f"{tmp_path}/out")
    column = pq.read_metadata(written.path).row_group(0).column(0)
    path = Path(written.path)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start + column.total_compressed_size - 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


def test_memory_filesystem(dataset: Path) -> None:
    manifest = open_manifest(dataset, columns=["x"])
    written = write_labels(manifest.files[0], manifest.selection, score, "memory://writer/out")
    filesystem, inner = open_path(written.path)
    with filesystem.open_input_file(inner) as stream:
        data = stream.read()
    assert hashlib.sha256(data).hexdigest() == written.sha256
    assert len(pq.read_table(pa.BufferReader(data))) == 10


def failing(block: Block) -> dict[str, npt.NDArray[Any]]:
    if block.row_start >= 46:
        raise RuntimeError("scorer")
    return score(block)


@pytest.mark.parametrize("staging", ["{}/out", "memory://writer-fails"])
def test_a_failure_leaves_no_attempt_behind(dataset: Path, tmp_path: Path, staging: str) -> None:
    manifest = open_manifest(dataset, columns=["x"])
    staging = staging.format(tmp_path)
    with pytest.raises(RuntimeError, match="scorer"):
        write_labels(manifest.files[2], manifest.selection, failing, staging)
    assert not list((tmp_path / "out").glob("*"))
    assert not fsspec.filesystem("memory").find("/writer-fails")


def test_bad_input_leaves_no_attempt_behind(dataset: Path, write: Write, tmp_path: Path) -> None:
    x = np.zeros(30, np.float32)
    x[29] = np.nan
    write("in/part-2.parquet", {"x": x}, row_group_size=8)
    manifest = open_manifest(dataset, columns=["x"])
    with pytest.raises(DataError, match=r"part-2.parquet: row group 3, column 'x', row 29"):
        write_labels(manifest.files[2], manifest.selection, score, f"{tmp_path}/out")
    assert not list((tmp_path / "out").iterdir())


def test_a_full_disk_names_the_path(dataset: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    manifest = open_manifest(dataset, columns=["x"])

    class Full(DurableFile):
        def __init__(self, path: str) -> None:
            super().__init__(path)
            self._raw.close()
            self._raw = full.open("wb", buffering=0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distclust.data.writer.DurableFile", Full)
        staging = dataset.parent / "out"
        with pytest.raises(OSError, match=r"No space left on device.*out/00000-") as caught:
            write_labels(manifest.files[0], manifest.selection, score, str(staging))
    assert caught.value.errno == errno.ENOSPC
    assert not isinstance(caught.value, CorruptFile)
    assert not list(staging.iterdir())


def test_a_scorer_column_may_not_hide_an_id_column(dataset: Path, tmp_path: Path) -> None:
    manifest = open_manifest(dataset, columns=["x"], id_columns=["key"])

    def clash(block: Block) -> dict[str, npt.NDArray[Any]]:
        return {"key": np.zeros(block.n_rows)}

    with pytest.raises(ConfigError, match="column 'key' is an id column and an output column"):
        write_labels(manifest.files[0], manifest.selection, clash, str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"column 'label' has shape \(3,\), not \(8,\)"):
        write_labels(
            manifest.files[0],
            manifest.selection,
            lambda _: {"label": np.zeros(3)},
            str(tmp_path / "out"),
        )
