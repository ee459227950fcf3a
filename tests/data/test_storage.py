"""Arrays beyond a limit are on disk, and nobody can tell but by where the bytes are."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distclust.data.blocks import Block, Partition, Share, empty_blocks
from distclust.data.storage import (
    LEDGER,
    RUNTIME_BYTES,
    Room,
    Storage,
    current_storage,
    load_within,
    machine_memory,
    parse_bytes,
)
from distclust.errors import ClusterError, ConfigError

NO_ROOM = Room(memory_limit=1)  # for any row


def on_disk(n_bytes: int, directory: Path) -> Storage:
    """A storage that keeps `n_bytes` in memory beside what is there, and the rest here."""
    gc.collect()
    wanted = LEDGER.in_memory + n_bytes
    return Storage(
        Room(memory_limit=RUNTIME_BYTES + wanted * 3 // 2 + 2, scratch_dir=str(directory))
    )


def counted() -> tuple[int, int]:
    gc.collect()
    return LEDGER.in_memory, LEDGER.on_disk


def test_what_fits_stays_in_memory(tmp_path: Path) -> None:
    memory, disk = counted()
    storage = on_disk(800, tmp_path)
    small, large = storage.empty(100, np.float64), storage.empty((10, 10), np.float64)
    assert counted() == (memory + 800, disk + 800)
    assert storage.mapped_bytes == 800
    assert (small.shape, large.shape, large.dtype) == ((100,), (10, 10), np.float64)
    del small
    assert counted() == (memory, disk + 800)
    row = large[0]
    del large
    assert counted() == (memory, disk + 800), "a view keeps its array"
    del row
    assert counted() == (memory, disk)
    assert storage.mapped_bytes == 0


def test_released_pages_keep_their_content(tmp_path: Path) -> None:
    storage = Storage(Room(memory_limit=1, scratch_dir=str(tmp_path)))
    array = storage.full(3_000_000, 7, np.int32)
    array[::1000] = 8
    storage.release()
    assert array.sum() == 7 * 3_000_000 + 3000


def test_scratch_files_have_no_name(tmp_path: Path) -> None:
    storage = Storage(Room(memory_limit=1, scratch_dir=str(tmp_path)))
    array = storage.full(1000, 1.5, np.float32)
    assert list(tmp_path.iterdir()) == []
    assert array.sum() == 1500


@pytest.mark.faults
def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom distclust.data.storage import Room, Storage\n"
        "storage = Storage(Room(memory_limit=1, scratch_dir=sys.argv[1]))\n"
        "array = storage.full(1 << 24, 1, 'f4')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=120)
    assert done.returncode == -9
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", [True, False])
def test_no_room_on_disk_either(tmp_path: Path, missing: bool) -> None:
    directory = tmp_path / "nowhere" if missing else tmp_path
    counts = counted()
    n_rows = 1 if missing else 1 << 58  # no file system holds so much
    with pytest.raises(ClusterError, match=r"scratch directory .* set scratch_dir to a disk"):
        Storage(Room(memory_limit=1, scratch_dir=str(directory))).empty(n_rows, np.float64)
    assert counted() == counts


def test_rows_get_a_share_of_the_limit() -> None:
    assert Room(memory_limit=RUNTIME_BYTES + 300).row_bytes == 200
    assert NO_ROOM.row_bytes == 0
    shared = Room().shared(4)
    assert shared.limit == int(machine_memory() * 0.8) // 4


def test_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTCLUST_MEMORY_LIMIT", "3GiB")
    monkeypatch.setenv("DISTCLUST_SCRATCH_DIR", "/fast")
    assert Room.of() == Room(memory_limit=3 << 30, scratch_dir="/fast")
    assert Room.of("2GiB", "/slow") == Room(memory_limit=2 << 30, scratch_dir="/slow")
    monkeypatch.delenv("DISTCLUST_SCRATCH_DIR")
    monkeypatch.setenv("TMPDIR", "/elsewhere")
    assert Room.of().directory == "/elsewhere"


@pytest.mark.parametrize("size", ["much", "2 GiBs", "-1GiB", "nan", 0.0, "1e999"])
def test_what_is_no_size(size: str) -> None:
    with pytest.raises(ConfigError, match=r"memory_limit=.* is no size; write it like 2GiB"):
        parse_bytes(size, "memory_limit")


def test_a_limit_has_to_leave_something_for_rows() -> None:
    with pytest.raises(ConfigError, match="should be more than 512MiB"):
        Room.of("100MiB")


def test_loading_says_which_room() -> None:
    assert load_within(NO_ROOM, current_storage).room == NO_ROOM
    assert current_storage().room != NO_ROOM


def rows_on_disk(directory: Path, weighted: bool = True) -> Partition:
    storage = Storage(Room(memory_limit=1, scratch_dir=str(directory)))
    blocks = empty_blocks(storage, [(30, 2), (10, 0), (0, 3)], 2, "float32", weighted=weighted)
    for block in blocks:
        block.X[:] = (block.row_start + np.arange(block.n_rows))[:, np.newaxis]
        if block.weights is not None:
            block.weights[:] = 0.5
    return Partition(blocks, storage=storage)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_moved_partition_is_on_the_disk_of_its_new_home(tmp_path: Path, weighted: bool) -> None:
    old = rows_on_disk(tmp_path, weighted)
    old.cache["labels"] = np.zeros(5)
    new: Partition = pickle.loads(pickle.dumps(old))
    assert new.cache == {}
    assert new.storage.mapped_bytes == old.storage.mapped_bytes > 0
    assert [block.row_start for block in new.blocks] == [30, 10, 0]
    for one, other in zip(old.blocks, new.blocks, strict=True):
        np.testing.assert_array_equal(one.X, other.X)
        np.testing.assert_array_equal(one.weights, other.weights)


def test_a_partition_in_memory_moves_as_it_is() -> None:
    block = Block(np.ones((3, 2)), 0)
    new: Partition = pickle.loads(pickle.dumps(Partition([block])))
    np.testing.assert_array_equal(new.blocks[0].X, block.X)
    assert new.storage.mapped_bytes == 0


def test_a_share_goes_through_its_rows_a_few_at_a_time() -> None:
    rows = Partition([Block(np.zeros((700_000, 1), "f4"), 5), Block(np.zeros((3, 1), "f4"), 0)])
    (share,) = rows.shares(1)
    pieces = list(share)
    assert [piece.block.n_rows for piece in pieces] == [262_144, 262_144, 175_712, 3]
    assert [piece.block.row_start for piece in pieces] == [5, 262_149, 524_293, 0]
    assert [piece.rows.start for piece in pieces] == [0, 262_144, 524_288, 700_000]
    wide = Share(Storage())
    wide.pieces = Partition([Block(np.zeros((9, 1 << 21)), 0)]).shares(1)[0].pieces
    assert [piece.block.n_rows for piece in wide] == [2, 2, 2, 2, 1]
