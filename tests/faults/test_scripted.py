"""The scripted backend does what its script says, and keeps the contract otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distclust.backends.local import LocalBackend
from distclust.errors import TaskFailed, WorkerLost
from tests.contract.contract import BackendContract, add, load_range, remember, total
from tests.faults.scripted import Fault, Held, ScriptedBackend


class TestScriptedBackend(BackendContract):
    name = "scripted"

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls) -> Iterator[ScriptedBackend]:
        with ScriptedBackend(LocalBackend(workers=2)) as backend:
            yield backend

    @staticmethod
    def check_traceback(error: TaskFailed, function: str) -> None:
        """As the local backend inside."""


def scripted(script: dict[tuple[int, int], Fault | Held]) -> ScriptedBackend:
    return ScriptedBackend(LocalBackend(workers=2), script)


@pytest.mark.parametrize("fault", [Fault.LOSE_BEFORE, Fault.LOSE_AFTER])
def test_a_lost_worker_takes_its_partition_along(fault: Fault) -> None:
    with scripted({(1, 1): fault}) as backend:
        zero, one = backend.place(load_range, 0, 3), backend.place(load_range, 0, 4)
        lost, kept = backend.call(total, one), backend.call(total, zero)
        assert backend.wait([lost], None) == ({lost}, set())
        for future in [lost, backend.call(total, one), backend.combine(add, [kept, lost])]:
            with pytest.raises(WorkerLost):
                backend.fetch(future)
        assert backend.fetch(kept) == 3.0
        again = backend.place(load_range, 0, 4)
        assert backend.fetch(backend.call(total, again)) == 6.0
        assert backend.places == [0, 1, 1]
        assert backend.calls == [(1, 1), (0, 1), (1, 2), (1, 3)]


def test_a_held_reply_comes_when_it_is_released() -> None:
    held = Held()
    with scripted({(0, 1): held}) as backend:
        slow = backend.call(total, backend.place(load_range, 0, 3))
        fast = backend.call(total, backend.place(load_range, 0, 4))
        assert backend.wait([slow, fast], None) == ({fast}, {slow})
        assert backend.wait([slow], 0.0) == (set(), {slow})
        held.release()
        assert backend.wait([slow], None) == ({slow}, set())
        assert backend.fetch(slow) == 3.0


def test_a_duplicate_runs_twice_and_answers_once() -> None:
    with scripted({(0, 1): Fault.DUPLICATE}) as backend:
        at = backend.place(dict)
        assert backend.fetch(backend.call(remember, at)) in (1, 2)
        assert backend.fetch(backend.call(remember, at)) == 3
