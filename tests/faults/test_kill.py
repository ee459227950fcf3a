"""A worker process with a resident partition is killed with SIGKILL, on Ray and on Dask."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distclust.backends import connect
from distclust.engine.protocol import Backend, Handle
from distclust.errors import WorkerLost
from tests.contract.contract import GIVE_UP, load_range, total

pytestmark = pytest.mark.faults


def pid(_resident: Any) -> int:
    return os.getpid()


def block(_resident: Any, gate: str) -> float:
    """Say that it runs, then wait until the gate opens (or give up)."""
    Path(gate, str(os.getpid())).touch()
    deadline = time.monotonic() + GIVE_UP
    while not Path(gate, "open").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody opened the gate")
        time.sleep(0.01)
    return 1.0


def die(_resident: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill(process: int) -> None:
    """Kill and see it gone."""
    os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + GIVE_UP
    while _runs(process):
        assert time.monotonic() < deadline, f"process {process} survived SIGKILL"


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def seen(gate: Path) -> int:
    """The process that runs `block`."""
    deadline = time.monotonic() + GIVE_UP
    while not (names := [path.name for path in gate.iterdir() if path.name.isdigit()]):
        assert time.monotonic() < deadline, "the call never started"
    return int(names[0])


def fetch_or_repeat(backend: Backend, at: Handle) -> float:
    """What the engine does: on a loss, place again and repeat."""
    for _ in range(5):
        try:
            result: float = backend.fetch(backend.call(total, at))
        except WorkerLost:
            at = backend.place(load_range, 0, 5)
        else:
            return result
    raise AssertionError("lost five times")


@pytest.fixture(params=["ray", "dask"])
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A backend of 2 workers, whose cluster outlives the test."""
    address = request.getfixturevalue(f"{request.param}_cluster")
    with connect(request.param, address=address, workers=2) as backend:
        yield backend


def test_idle_worker_with_a_partition(backend: Any) -> None:
    handles = [backend.place(load_range, 0, 5) for _ in range(4)]
    processes = [backend.fetch(backend.call(pid, at)) for at in handles]
    assert len(set(processes)) == 2
    kill(processes[0])
    for at in handles:
        assert fetch_or_repeat(backend, at) == 10.0
    untouched = [
        at for at, process in zip(handles, processes, strict=True) if process != processes[0]
    ]
    assert {backend.fetch(backend.call(pid, at)) for at in untouched} == {processes[1]}
    assert backend.fetch(backend.call(total, backend.place(load_range, 0, 4))) == 6.0


def test_worker_in_the_middle_of_a_call(backend: Any, tmp_path: Path) -> None:
    at = backend.place(load_range, 0, 5)
    running = backend.call(block, at, str(tmp_path))
    queued = backend.call(total, at)
    backend.wait([running, queued], 0)  # now they are sent
    process = seen(tmp_path)
    kill(process)
    (tmp_path / "open").touch()  # for Dask, which computes it again by itself
    pending = {running, queued}
    while pending:
        _, pending = backend.wait(pending, None)
    for future, expected in [(running, 1.0), (queued, 10.0)]:
        try:
            assert backend.fetch(future) == expected
        except WorkerLost:
            assert backend.name == "ray"
    assert fetch_or_repeat(backend, at) == 10.0


def test_results_and_references_survive_the_worker_that_made_them(backend: Any) -> None:
    one, two = (backend.place(load_range, 0, 5) for _ in "ab")
    big = backend.put(np.ones(1_000_000))
    result = backend.call(total, one, big)
    backend.wait([result], None)
    kill(backend.fetch(backend.call(pid, one)))
    assert backend.fetch(result) == 10.0 + 1e6
    assert backend.fetch(backend.call(total, two, big)) == 10.0 + 1e6


def test_a_call_that_always_kills_its_worker(backend: Any) -> None:
    at = backend.place(load_range, 0, 5)
    with pytest.raises(WorkerLost):
        backend.fetch(backend.call(die, at))
    assert fetch_or_repeat(backend, at) == 10.0


def test_every_worker_at_once(backend: Any) -> None:
    handles = [backend.place(load_range, 0, 5) for _ in range(2)]
    for process in {backend.fetch(backend.call(pid, at)) for at in handles}:
        kill(process)
    for at in handles:
        assert fetch_or_repeat(backend, at) == 10.0
