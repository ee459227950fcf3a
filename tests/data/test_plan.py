from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distclust.data import DataFile, Manifest, RowGroup, Selection, open_manifest, plan_shards
from distclust.errors import ConfigError

SELECTION = Selection(
    columns=("x",),
    vector=None,
    weight=None,
    id_columns=(),
    partition_types=(),
    n_features=1,
    dtype="float64",
)


def manifest_of(files: list[list[int]]) -> Manifest:
    """A manifest of files with row groups of the given numbers of rows."""
    row_start, data_files = 0, []
    for index, sizes in enumerate(files):
        start, groups = row_start, []
        for i, n_rows in enumerate(sizes):
            groups.append(RowGroup(index, i, n_rows, row_start, n_rows * SELECTION.row_nbytes))
            row_start += n_rows
        n_rows = row_start - start
        data_files.append(DataFile(f"{index}.parquet", index, 1, n_rows, start, tuple(groups)))
    return Manifest(tuple(data_files), SELECTION, "")


@given(
    files=st.lists(st.lists(st.integers(0, 1000), max_size=8), min_size=1, max_size=8),
    n_partitions=st.integers(1, 70),
)
def test_a_plan_holds_every_row_once_in_balance(files: list[list[int]], n_partitions: int) -> None:
    manifest = manifest_of(files)
    shards = plan_shards(manifest, n_partitions)
    starts = {
        (index, group.row_group): group.row_start
        for index, file in enumerate(manifest.files)
        for group in file.row_groups
    }
    rows = []
    for shard in shards:
        assert shard.n_rows > 0
        order = [(piece.path, piece.row_group, piece.offset) for piece in shard.pieces]
        assert order == sorted(order)
        for piece in shard.pieces:
            index = int(piece.path.removesuffix(".parquet"))
            assert piece.row_start == starts[index, piece.row_group] + piece.offset
            rows += range(piece.row_start, piece.row_start + piece.length)
    assert sorted(rows) == list(range(manifest.n_rows))
    assert len(shards) <= n_partitions
    share = -(-manifest.decoded_bytes // n_partitions)
    assert all(shard.decoded_bytes <= 2.5 * share + SELECTION.row_nbytes for shard in shards)
    assert plan_shards(manifest, n_partitions) == shards


def test_one_giant_row_group_is_shared_out() -> None:
    shards = plan_shards(manifest_of([[1000]]), 4)
    assert [shard.pieces[0].offset for shard in shards] == [0, 250, 500, 750]
    assert [shard.n_rows for shard in shards] == [250] * 4


def test_row_groups_about_as_large_as_a_share_stay_whole() -> None:
    shards = plan_shards(manifest_of([[100, 120], [90, 110]]), 4)
    assert sorted(shard.n_rows for shard in shards) == [90, 100, 110, 120]


def test_never_more_shards_than_rows() -> None:
    assert [shard.n_rows for shard in plan_shards(manifest_of([[3]]), 64)] == [1, 1, 1]


def test_a_spec_is_small_and_travels(dataset: Path) -> None:
    spec = plan_shards(open_manifest(dataset, columns=["x"]), 1)[0]
    data = pickle.dumps(spec)
    assert pickle.loads(data) == spec
    assert len(data) < 2000


def test_no_partitions_is_an_error() -> None:
    with pytest.raises(ConfigError, match="n_partitions=0 should be at least 1"):
        plan_shards(manifest_of([[1]]), 0)
