"""The embedded backend keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from distclust.backends import Backend, connect
from distclust.backends.local import LocalBackend
from distclust.errors import TaskFailed
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
