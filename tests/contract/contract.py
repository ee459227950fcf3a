"""What every backend has to do: subclass `BackendContract` and provide `backend`."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import numpy as np
import pytest

from distclust.data.spare import SPARE
from distclust.engine.protocol import Backend
from distclust.errors import DataError, TaskFailed

GIVE_UP = 60.0  # seconds after which something that should happen has not


def load_range(start: int, stop: int) -> np.ndarray[Any, Any]:
    return np.arange(start, stop, dtype=np.float64)


def load_pair(left: Any, right: Any) -> Any:
    return left + right


def load_bad() -> None:
    raise DataError("part-3.parquet, row 7: NaN")


class Counted:
    """Counts how many of it live in this process."""

    alive = 0
    lock = threading.Lock()

    def __init__(self) -> None:
        with Counted.lock:
            Counted.alive += 1

    def __del__(self) -> None:
        with Counted.lock:
            Counted.alive -= 1


def load_counted() -> Counted:
    return Counted()


def alive(_resident: Any) -> int:
    gc.collect()
    return Counted.alive


def total(resident: Any, *others: Any) -> float:
    return float(np.sum(resident)) + sum(float(np.sum(other)) for other in others)


def listed(resident: Any, *others: Any) -> list[Any]:
    return [resident, *others]


def scaled(resident: Any, factor: Any) -> Any:
    return resident * factor


def add(*values: Any) -> Any:
    return sum(values)


def identity(resident: Any) -> Any:
    return resident


def address_of(resident: Any) -> int:
    return id(resident)


def remember(resident: dict[str, int]) -> int:
    """Count calls in a resident's discardable cache."""
    resident["calls"] = resident.get("calls", 0) + 1
    return resident["calls"]


def raise_value_error(_resident: Any) -> None:
    raise ValueError("k=3 exceeds n=2")


def raise_data_error(_resident: Any) -> None:
    raise DataError("row 7: NaN")


def keeps_memory(_resident: Any) -> bool:
    return SPARE._users > 0


class Unpicklable(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")
        self.lock = threading.Lock()


def raise_unpicklable(_resident: Any) -> None:
    raise Unpicklable("cannot", "travel")


def wait_all(backend: Backend, futures: list[Any]) -> set[Any]:
    """Wait as the engine does: until nothing is pending."""
    done: set[Any] = set()
    pending = set(futures)
    deadline = time.monotonic() + GIVE_UP
    while pending:
        assert time.monotonic() < deadline, f"{len(pending)} of {len(futures)} never completed"
        ready, pending = backend.wait(pending, GIVE_UP)
        done |= ready
    return done


class BackendContract:
    """Subclasses define the fixtures `backend` (ready to use) and `name`."""

    name: str

    def test_says_what_it_is(self, backend: Backend) -> None:
        assert backend.name == self.name
        assert backend.slots >= 1
        assert backend.threads_per_worker >= 1
        assert backend.threads_for(backend.slots) == backend.threads_per_worker

    def test_call_runs_on_the_resident(self, backend: Backend) -> None:
        at = backend.place(load_range, 0, 5)
        assert backend.fetch(backend.call(total, at)) == 10.0

    def test_many_partitions_and_calls(self, backend: Backend) -> None:
        handles = [backend.place(load_range, 0, stop) for stop in range(12)]
        calls = {backend.call(total, at): stop for stop, at in enumerate(handles) for _ in "abc"}
        assert wait_all(backend, list(calls)) == set(calls)
        for future, stop in calls.items():
            assert backend.fetch(future) == stop * (stop - 1) / 2

    def test_resident_is_loaded_once_and_keeps_its_cache(self, backend: Backend) -> None:
        at = backend.place(dict)
        assert [backend.fetch(backend.call(remember, at)) for _ in range(3)] == [1, 2, 3]

    def test_resident_does_not_move(self, backend: Backend) -> None:
        handles = [backend.place(load_range, 0, 1_000) for _ in range(4)]
        first = [backend.fetch(backend.call(address_of, at)) for at in handles]
        for _ in range(3):
            calls = [backend.call(address_of, at) for at in handles for _ in "abcd"]
            assert [backend.fetch(call) for call in calls[::4]] == first

    def test_place_accepts_futures(self, backend: Backend) -> None:
        left, right = (backend.call(identity, backend.place(load_range, 0, 3)) for _ in "ab")
        at = backend.place(load_pair, left, right)
        assert backend.fetch(backend.call(total, at)) == 6.0

    def test_call_accepts_futures_and_references(self, backend: Backend) -> None:
        one, two = (backend.place(load_range, start, start + 2) for start in (0, 10))
        halo = backend.call(scaled, two, backend.put(2.0))
        assert backend.fetch(backend.call(total, one, halo, backend.put(5.0))) == 48.0
        placed = backend.fetch(backend.call(listed, one, "plain", halo, backend.put(5.0)))
        np.testing.assert_equal(placed, [[0.0, 1.0], "plain", [20.0, 22.0], 5.0])

    @pytest.mark.parametrize("n", [3, 1_000_000], ids=["small", "8 MB"])
    def test_put(self, backend: Backend, n: int) -> None:
        values = np.ones(n)
        ref = backend.put(values)
        handles = [backend.place(load_range, 0, 3) for _ in range(3)]
        assert [backend.fetch(backend.call(total, at, ref)) for at in handles] == [n + 3.0] * 3

    def test_broadcast_arrays_may_be_read_only(self, backend: Backend) -> None:
        values = np.ones(200_000)
        values.flags.writeable = False
        at = backend.place(load_range, 0, 1)
        assert backend.fetch(backend.call(total, at, backend.put(values))) == 200_000.0

    def test_large_results_arrive_whole(self, backend: Backend) -> None:
        at = backend.place(load_range, 0, 300_000)
        np.testing.assert_array_equal(
            backend.fetch(backend.call(identity, at)), load_range(0, 300_000)
        )

    def test_combine(self, backend: Backend) -> None:
        handles = [backend.place(load_range, 0, stop) for stop in (2, 3, 4)]
        merged = backend.combine(add, [backend.call(total, at) for at in handles])
        again = backend.combine(add, [merged, merged])
        assert backend.fetch(again) == 2 * (1 + 3 + 6)

    def test_wait_of_nothing(self, backend: Backend) -> None:
        assert backend.wait([], None) == (set(), set())

    def test_wait_reports_what_is_done_and_only_that(self, backend: Backend) -> None:
        done = backend.call(total, backend.place(load_range, 0, 2))
        backend.fetch(done)
        assert backend.wait([done], None) == ({done}, set())
        assert backend.wait({done}, 0.0) == ({done}, set())

    def test_wait_counts_a_failure_as_done(self, backend: Backend) -> None:
        future = backend.call(raise_value_error, backend.place(load_range, 0, 2))
        assert backend.wait([future], None) == ({future}, set())

    def test_fetching_twice_gives_the_same(self, backend: Backend) -> None:
        future = backend.call(total, backend.place(load_range, 0, 4))
        assert backend.fetch(future) == backend.fetch(future) == 6.0

    def test_error_of_a_function(self, backend: Backend) -> None:
        future = backend.call(raise_value_error, backend.place(load_range, 0, 2))
        with pytest.raises(TaskFailed, match="ValueError: k=3 exceeds n=2") as caught:
            backend.fetch(future)
        assert caught.value.cause is None
        self.check_traceback(caught.value, "raise_value_error")

    def test_our_own_error_crosses_the_wire(self, backend: Backend) -> None:
        future = backend.call(raise_data_error, backend.place(load_range, 0, 2))
        with pytest.raises(TaskFailed, match="row 7: NaN") as caught:
            backend.fetch(future)
        assert type(caught.value.cause) is DataError
        assert str(caught.value.cause) == "row 7: NaN"

    def test_error_that_cannot_travel(self, backend: Backend) -> None:
        future = backend.call(raise_unpicklable, backend.place(load_range, 0, 2))
        with pytest.raises(TaskFailed, match="cannot travel"):
            backend.fetch(future)

    def test_error_of_load_surfaces_from_every_call(self, backend: Backend) -> None:
        at = backend.place(load_bad)
        for future in [backend.call(total, at), backend.call(total, at)]:
            with pytest.raises(TaskFailed, match=r"part-3\.parquet, row 7") as caught:
                backend.fetch(future)
            assert type(caught.value.cause) is DataError

    def test_error_passes_through_what_depends_on_it(self, backend: Backend) -> None:
        at = backend.place(load_range, 0, 2)
        bad, good = backend.call(raise_data_error, at), backend.call(total, at)
        for future in [
            backend.combine(add, [good, bad]),
            backend.call(total, at, bad),
            backend.combine(add, [backend.combine(add, [bad])]),
        ]:
            with pytest.raises(TaskFailed, match="row 7") as caught:
                backend.fetch(future)
            assert type(caught.value.cause) is DataError

    def test_backend_works_after_an_error(self, backend: Backend) -> None:
        at = backend.place(load_range, 0, 3)
        with pytest.raises(TaskFailed):
            backend.fetch(backend.call(raise_value_error, at))
        assert backend.fetch(backend.call(total, at)) == 3.0

    @pytest.mark.parametrize("failing", [False, True])
    def test_partition_goes_with_its_handle(self, backend: Backend, failing: bool) -> None:
        probes = [backend.place(load_range, 0, 1) for _ in range(2 * backend.slots)]
        at: Any = backend.place(load_counted)
        while not any(backend.fetch(backend.call(alive, probe)) for probe in [*probes, at]):
            pass
        if failing:
            with pytest.raises(TaskFailed):
                backend.fetch(backend.call(raise_data_error, at))
        del at
        deadline = time.monotonic() + GIVE_UP
        while any(backend.fetch(backend.call(alive, probe)) for probe in probes):
            gc.collect()
            assert time.monotonic() < deadline, "the partition outlived its handle"

    def test_many_calls_need_no_backpressure(self, backend: Backend) -> None:
        handles = [backend.place(load_range, 0, 3) for _ in range(4)]
        futures = [backend.call(total, handles[i % 4]) for i in range(400)]
        assert len(wait_all(backend, futures)) == 400
        assert {backend.fetch(future) for future in futures[::37]} == {3.0}

    @staticmethod
    def check_traceback(error: TaskFailed, function: str) -> None:
        """A remote backend brings the worker's traceback along."""
        assert function in error.remote_traceback
