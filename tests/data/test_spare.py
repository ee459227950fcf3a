"""Memory is kept for the next arrays, but only while somebody keeps it, and never too much."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distclust import KMeans, connect
from distclust.data import spare
from distclust.data.spare import LEAST, Spare
from distclust.data.storage import LEDGER, RUNTIME_BYTES, Room, Storage

WORDS = LEAST // 4  # float32 of an array that is worth it


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spare]:
    """What this process keeps, from here on nothing, by one user."""
    gc.collect()  # or arrays of other tests are given back during this one
    fresh = Spare()
    monkeypatch.setattr("distclust.data.storage.SPARE", fresh)
    monkeypatch.setattr("distclust.backends.local.SPARE", fresh)
    yield fresh
    assert fresh._users == 0


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_memory_is_kept_while_somebody_keeps_it(kept: Spare) -> None:
    storage = Storage()
    kept.enter()
    first = storage.full(WORDS, 7, np.float32)
    at = address(first)
    del first
    assert kept.n_bytes == LEAST
    again = storage.empty((WORDS // 2, 2), np.float32)
    assert (address(again), kept.n_bytes) == (at, 0)
    other = storage.empty(WORDS, np.float32)
    assert address(other) != at, "in use"
    again[:] = 1
    other[:] = 2
    assert (again == 1).all()
    kept.enter()
    kept.leave()
    del again, other
    assert kept.n_bytes == 2 * LEAST
    kept.leave()
    assert kept.n_bytes == 0
    late = storage.empty(WORDS, np.float32)
    del late
    assert kept.n_bytes == 0, "nobody keeps it any more"


def test_an_array_that_outlives_those_who_keep_stays_as_it_is(kept: Spare) -> None:
    kept.enter()
    array = Storage().full(WORDS, 3, np.int32)
    kept.leave()
    assert (array == 3).all()
    del array
    assert kept.n_bytes == 0


def test_a_view_keeps_its_memory(kept: Spare) -> None:
    """It is neither handed out again nor counted as free."""
    storage, before = Storage(), LEDGER.in_memory
    kept.enter()
    row = storage.full((WORDS, 2), 5, np.float32)[10]
    assert (kept.n_bytes, LEDGER.in_memory - before) == (0, 2 * LEAST)
    storage.full((WORDS, 2), 6, np.float32)
    assert row.tolist() == [5, 5]
    del row
    assert (kept.n_bytes, LEDGER.in_memory - before) == (2 * 2 * LEAST, 0)
    kept.leave()


def test_only_so_much_is_kept(kept: Spare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spare, "MOST", 3 * LEAST)
    kept.enter()
    arrays = [Storage().empty(WORDS + i, np.float32) for i in range(4)]
    last = address(arrays[-1])
    while arrays:
        del arrays[0]
    assert kept.n_bytes == 2 * LEAST + 4 * (2 + 3)
    assert address(Storage().empty(WORDS + 3, np.float32)) == last, "the latest are kept"
    small = Storage().empty(WORDS - 1, np.float32)
    n_bytes = kept.n_bytes
    del small
    assert kept.n_bytes == n_bytes, "so little is not worth it"
    kept.leave()


def test_memory_may_be_let_go_while_some_is_looked_for(kept: Spare) -> None:
    """As by a garbage collection, which may run at any time, of arrays that are kept."""

    class Mapping:
        collects = False

        def __len__(self) -> int:
            if self.collects:
                self.collects = False
                kept.shrink(0)
            return LEAST

    kept.enter()
    mapping = Mapping()
    kept.give_back(mapping)
    mapping.collects = True
    assert kept.take(LEAST) is not mapping
    assert kept.n_bytes == 0
    kept.leave()


def test_what_is_kept_is_in_nobodys_way(kept: Spare, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no more memory, what is kept is let go."""
    storage, before = Storage(), LEDGER.in_memory
    kept.enter()
    storage.empty(WORDS, np.float32)
    assert kept.n_bytes == LEAST

    def no_more(n_bytes: int) -> Any:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(spare, "_mapped", no_more)
    array = storage.full(2 * WORDS, 4, np.float32)
    assert (array == 4).all()
    assert (kept.n_bytes, LEDGER.in_memory - before) == (0, 2 * LEAST)
    with pytest.raises(MemoryError):
        storage.empty(1 << 60, np.int8)
    assert LEDGER.in_memory - before == 2 * LEAST
    kept.leave()


def test_memory_is_kept_before_it_counts_as_free(
    kept: Spare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread that takes it in between would have it beside what is kept."""
    seen = []
    monkeypatch.setattr(LEDGER, "give_back", lambda *_: seen.append(kept.n_bytes))
    kept.enter()
    Storage().empty(WORDS, np.float32)
    assert seen == [LEAST]
    monkeypatch.undo()
    LEDGER.give_back(LEAST, True)
    kept.leave()


def test_rows_come_before_what_is_kept(kept: Spare, tmp_path: Path) -> None:
    """Within a limit, what is kept makes room."""
    wanted = LEDGER.in_memory + 3 * LEAST
    room = Room(memory_limit=RUNTIME_BYTES + wanted * 3 // 2 + 2, scratch_dir=str(tmp_path))
    storage = Storage(room)
    kept.enter()
    arrays = [storage.empty(WORDS, np.float32) for _ in range(2)]
    del arrays
    assert kept.n_bytes == 2 * LEAST
    large = storage.empty(2 * WORDS, np.float32)
    assert (kept.n_bytes, storage.mapped_bytes) == (LEAST, 0)
    del large
    kept.leave()


def test_fits_on_a_backend_share_their_memory(kept: Spare) -> None:
    """And let go of it without waiting for a garbage collection."""
    X = np.random.default_rng(0).standard_normal((200_000, 30)).astype(np.float32)
    gc.disable()
    try:
        with connect("local", workers=2) as backend:
            first = KMeans(3, init=X[:3], backend=backend).fit(X)
            n_bytes = kept.n_bytes
            assert n_bytes > 200_000 * 2 * 30, "codes of all rows"
            again = KMeans(3, init=X[:3], backend=backend).fit(X)
            assert kept.n_bytes == n_bytes
        assert kept.n_bytes == 0
    finally:
        gc.enable()
    np.testing.assert_array_equal(first.labels_, again.labels_)
    assert first.inertia_ == again.inertia_
