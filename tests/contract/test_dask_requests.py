"""Calls that reach Dask's workers as requests keep the contract, and lose nothing."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distclust.backends import connect
from distclust.engine.protocol import Handle
from distclust.errors import DistclustError, TaskFailed, WorkerLost
from tests.contract.contract import GIVE_UP, BackendContract, load_range, raise_data_error, total
from tests.faults.test_kill import block, die, kill, pid, seen

distributed = pytest.importorskip("distributed")
OP = pytest.importorskip("distclust.backends.dask_requests").OP


class Asking:
    """A backend whose calls are all to be fetched, on partitions that are loaded by then."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def place(self, load: Callable[..., Any], *args: Any) -> Handle:
        at: Handle = self._inner.place(load, *args)
        with contextlib.suppress(DistclustError):  # every call will raise it
            self._inner.fetch(self._inner.call(pid, at))
        return at

    def call(self, fn: Callable[..., Any], at: Handle, *args: Any) -> Any:
        return self._inner.call(fn, at, *args, to_fetch=True)


@pytest.fixture(params=[False, True], ids=["by the scheduler", "direct"], scope="module")
def client(request: pytest.FixtureRequest, dask_cluster: str) -> Iterator[Any]:
    with distributed.Client(
        dask_cluster, direct_to_workers=request.param, set_as_default=False
    ) as client:
        yield client


@pytest.fixture(scope="module")
def backend(client: Any) -> Iterator[Any]:
    with connect("dask", client=client) as backend:
        yield Asking(backend)


class TestRequests(BackendContract):
    name = "dask"

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, client: Any) -> Iterator[Any]:
        with connect("dask", client=client) as backend:
            yield Asking(backend)


def transitions(dask_scheduler: Any) -> int:
    return int(dask_scheduler.transition_counter)


def staying(dask_scheduler: Any) -> list[str]:
    """Workers that are not to be retired."""
    return [ws.address for ws in dask_scheduler.workers.values() if ws.long_running]


def threads_that_stay() -> int:
    """Threads of a worker that are in `_stay`, or in what it calls."""
    stacks = [traceback.extract_stack(frame) for frame in sys._current_frames().values()]
    return sum(any(entry.name == "_stay" for entry in stack) for stack in stacks)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GIVE_UP
    while not condition():
        assert time.monotonic() < deadline
        gc.collect()  # handles that errors of earlier tests keep
        time.sleep(0.05)


def load_noting(directory: str) -> np.ndarray[Any, Any]:
    """Load a partition, and leave a file that says so."""
    Path(directory, f"loaded-{time.monotonic_ns()}").touch()
    return load_range(0, 5)


def test_requests_are_no_tasks(backend: Any, client: Any) -> None:
    handles = [backend.place(load_range, 0, 5) for _ in range(2)]
    for at in handles:
        backend.fetch(backend.call(total, at))
    until(lambda: bool(client.run_on_scheduler(staying)))
    before = client.run_on_scheduler(transitions)
    for _ in range(20):
        calls = [backend.call(total, at, backend.put(1.0)) for at in handles]
        assert [backend.fetch(call) for call in calls] == [11.0, 11.0]
    assert client.run_on_scheduler(transitions) == before


def test_workers_stay_as_long_as_partitions_are_asked(backend: Any, client: Any) -> None:
    until(lambda: not client.run_on_scheduler(staying))  # what the test before left behind
    at: Any = backend.place(load_range, 0, 5)
    other: Any = backend.place(load_range, 0, 5)
    home = client.who_has([at.where.future])[at.where.future.key][0]
    for place in (at, other):
        backend.fetch(backend.call(total, place))
    until(lambda: home in client.run_on_scheduler(staying))
    assert home not in client.sync(client.scheduler.workers_to_close)
    until(lambda: client.run(threads_that_stay)[home] == 1)
    del at, other, place
    until(lambda: not client.run_on_scheduler(staying))
    until(lambda: not any(client.run(threads_that_stay).values()))


def drop(dask_scheduler: Any, address: str, key: Any) -> None:
    """Take a partition from one of the workers that have it, as Dask's memory manager does."""
    dask_scheduler.request_remove_replicas(address, [key], stimulus_id="test")


@pytest.mark.parametrize("retired", [True, False])
def test_a_partition_that_moves_is_asked_where_it_is(tmp_path: Path, retired: bool) -> None:
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs="CRITICAL"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        connect("dask", client=client) as inner,
    ):
        backend = Asking(inner)
        at = backend.place(load_noting, str(tmp_path))
        process = backend.fetch(backend.call(pid, at))
        future = at.where.future
        (home,) = client.who_has([future])[future.key]
        if retired:
            client.retire_workers([home])
        else:
            client.replicate([future], n=2)
            client.run_on_scheduler(drop, address=home, key=future.key)
            until(lambda: future.key not in client.has_what()[home])
        for _ in range(3):
            assert backend.fetch(backend.call(total, at)) == 10.0
        assert backend.fetch(backend.call(pid, at)) != process
        assert len(list(tmp_path.glob("loaded-*"))) == 1


@pytest.mark.faults
def test_a_request_outlives_its_worker(backend: Any, tmp_path: Path) -> None:
    at = backend.place(load_range, 0, 5)
    running = backend.call(block, at, str(tmp_path))
    queued = backend.call(total, at)
    kill(seen(tmp_path))
    (tmp_path / "open").touch()
    pending = {running, queued}
    while pending:
        _, pending = backend.wait(pending, None)
    assert [backend.fetch(call) for call in (running, queued)] == [1.0, 10.0]
    assert backend.fetch(backend.call(total, at)) == 10.0


@pytest.mark.faults
def test_a_request_that_always_kills_its_worker(backend: Any, client: Any) -> None:
    at: Any = backend.place(load_range, 0, 5)
    key = at.where.future.key
    with pytest.raises(WorkerLost):
        backend.fetch(backend.call(die, at))
    del at
    until(lambda: key not in client.futures)
    assert backend.fetch(backend.call(total, backend.place(load_range, 0, 4))) == 6.0


async def expel(dask_scheduler: Any, address: str) -> None:
    """Give a worker up, as is done when it has not been heard of for minutes."""
    await dask_scheduler.remove_worker(address, stimulus_id="test", close=False)


@pytest.mark.faults
def test_a_worker_that_hangs_and_is_given_up(backend: Any, client: Any) -> None:
    client.wait_for_workers(2, GIVE_UP)  # that other tests have killed
    handles = [backend.place(load_range, 0, 5) for _ in range(6)]

    def is_asked() -> bool:
        backend.fetch(backend.call(total, handles[0]))
        return handles[0].where.address is not None

    until(is_asked)
    address = handles[0].where.address
    process = client.run(os.getpid, workers=[address])[address]
    os.kill(process, signal.SIGSTOP)
    try:
        calls = [backend.call(total, at) for at in handles]
        client.run_on_scheduler(expel, address=address)
        assert [backend.fetch(call) for call in calls] == [10.0] * 6
    finally:
        kill(process)  # its nanny starts another
    client.wait_for_workers(2, GIVE_UP)


def forget_us(dask_worker: Any) -> None:
    """Be a worker that was started anew, where one was that knew what is asked."""
    dask_worker.handlers.pop(OP)


def test_a_worker_that_does_not_know_what_is_asked(backend: Any, client: Any) -> None:
    at: Any = backend.place(load_range, 0, 5)
    backend.fetch(backend.call(total, at))
    client.run(forget_us, workers=[at.where.address])
    for _ in range(3):
        assert backend.fetch(backend.call(total, at)) == 10.0
    assert at.where.address is not None
    client.run(forget_us, workers=[at.where.address])
    key = at.where.future.key
    with pytest.raises(TaskFailed, match="row 7"):
        backend.fetch(backend.call(raise_data_error, at))
    del at
    until(lambda: key not in client.futures)


def test_nobody_waits_for_a_call_that_is_dropped(backend: Any, client: Any, tmp_path: Path) -> None:
    at: Any = backend.place(load_range, 0, 5)
    backend.fetch(backend.call(total, at))
    key = at.where.future.key
    running: Any = backend.call(block, at, str(tmp_path))
    seen(tmp_path)
    assert key in client.futures
    del running, at
    until(lambda: key not in client.futures)
    (tmp_path / "open").touch()


def test_closing_ends_waiting(client: Any, tmp_path: Path) -> None:
    with connect("dask", client=client) as inner:
        backend = Asking(inner)
        at = backend.place(load_range, 0, 5)
        asked = backend.call(block, at, str(tmp_path))
        seen(tmp_path)
        errors: list[DistclustError] = []

        def wait() -> None:
            try:
                backend.fetch(asked)
            except (WorkerLost, TaskFailed) as error:
                errors.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
    waiting.join(GIVE_UP)
    (tmp_path / "open").touch()
    assert len(errors) == 1


def test_a_partition_in_this_process_is_asked_too() -> None:
    """Workers that are threads of this process, as notebooks have them."""
    with (
        distributed.Client(processes=False, n_workers=1, dashboard_address=":0") as client,
        connect("dask", client=client) as inner,
    ):
        backend = Asking(inner)
        at = backend.place(load_range, 0, 5)
        assert backend.fetch(backend.call(pid, at)) == os.getpid()
        assert backend.fetch(backend.call(total, at)) == 10.0
