"""The embedded backend keeps the contract."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from distclust.backends import Backend, connect
from distclust.backends.local import CallingThread, LocalBackend
from distclust.data.arrays import ArraySource
from distclust.data.blocks import Partition
from distclust.engine.shards import Session
from distclust.errors import ClusterError, DataError, TaskFailed
from tests.contract.contract import BackendContract


class TestLocalBackend(BackendContract):
    name = "local"

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls) -> Iterator[Backend]:
        with connect("local", workers=2) as backend:
            yield backend

    @staticmethod
    def check_traceback(error: TaskFailed, function: str) -> None:
        """Here the traceback is that of the cause."""
        assert isinstance(error.__cause__, ValueError)


def test_idle_workers_leave_their_threads_to_the_others() -> None:
    with LocalBackend(workers=5, threads_per_worker=2) as backend:
        assert [backend.threads_for(partitions) for partitions in (1, 2, 3, 9)] == [10, 4, 2, 2]


def test_a_call_that_waits_for_another_takes_no_worker() -> None:
    open_gate, at_gate = threading.Event(), threading.Event()
    with LocalBackend(workers=2) as backend:
        at = backend.place(lambda: (open_gate, at_gate))
        blocked = backend.call(_wait_at, at)
        waiting = [backend.call(_second, at, blocked) for _ in range(3)]
        assert at_gate.wait(30)
        free = backend.call(_second, at, 7)
        assert backend.wait([free], 30) == ({free}, set())
        open_gate.set()
        assert [backend.fetch(future) for future in [free, *waiting]] == [7, 1, 1, 1]
        failed = backend.call(_second, at, backend.call(_divide_by, at, 0))
        with pytest.raises(TaskFailed, match="ZeroDivisionError"):
            backend.fetch(failed)


def _wait_at(gates: tuple[threading.Event, threading.Event]) -> int:
    open_gate, at_gate = gates
    at_gate.set()
    assert open_gate.wait(60)
    return 1


def _second(_: Any, value: Any) -> Any:
    return value


def _divide_by(_: Any, value: int) -> float:
    return 1 / value


def test_calls_do_not_see_how_the_user_treats_floating_point_errors() -> None:
    with np.errstate(divide="raise"), LocalBackend(workers=1) as backend, backend.here() as here:
        for each in (backend, here):
            at = each.place(np.zeros, 2)
            assert each.fetch(each.call(_logarithm, at)) == -np.inf


def _logarithm(zeros: Any) -> float:
    with warnings.catch_warnings(action="ignore"):
        return float(np.log(zeros)[0])


def test_whoever_asks_here_has_all_threads_and_the_same_room() -> None:
    with LocalBackend(workers=1, memory_limit="3GiB") as backend, backend.here() as here:
        assert (here.slots, here.threads_for(1), here.room) == (1, 1, backend.room)
    cores = len(os.sched_getaffinity(0))
    with LocalBackend(workers=cores, threads_per_worker=2) as backend, backend.here() as here:
        assert here.threads_for(1) == here.threads_for(7) == cores
    with pytest.raises(ClusterError, match="closed"):
        backend.here()


def test_the_calling_thread_does_it_all() -> None:
    """Nobody is woken; results and errors are those of any backend."""
    rows = ArraySource(np.arange(12.0).reshape(6, 2))
    with CallingThread() as backend:
        shards = Session(backend).shard(rows, 3)
        assert shards.reduce(_sum_here, float.__add__, threading.get_ident()) == 66
        with pytest.raises(TaskFailed, match="ZeroDivisionError"):
            shards.gather(_divide)
        with pytest.raises(DataError, match="partitions failed"):
            shards.gather(_refuse)
        both = backend.combine(_add, [_done(1), _done(2)])
        assert backend.fetch(both) == 3


def _sum_here(partition: Partition, thread: int) -> float:
    assert threading.get_ident() == thread
    return float(partition.blocks[0].X.sum())


def _divide(_: Partition) -> float:
    return 1 / 0


def _refuse(_: Partition) -> None:
    raise DataError("no")


def _add(a: int, b: int) -> int:
    return a + b


def _done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future
