"""What every backend is besides its seven verbs: a context manager that is never copied.

It also says what its workers may use (`distclust.data.storage`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from distclust.data.storage import Room

__all__ = ["Connection"]


class Connection(ABC):
    """A way to workers. Copying an estimator shares it.

    Parameters
    ----------
    memory_limit : int or str, optional
        Bytes, or a size such as ``"2GiB"``, that a worker process should stay within: rows
        read from files, and what is kept of each row, go to disk beyond it. Unless given:
        ``$DISTCLUST_MEMORY_LIMIT``, else the worker's share of its machine.
    scratch_dir : str, optional
        Directory for that, on each worker's own machine. Unless given:
        ``$DISTCLUST_SCRATCH_DIR``, else the worker's ``$TMPDIR``, else ``/var/tmp``.
    """

    def __init__(self, memory_limit: int | str | None, scratch_dir: str | None) -> None:
        self.room = Room.of(memory_limit, scratch_dir)

    threads_per_worker: int

    def threads_for(self, partitions: int) -> int:
        """Kernel threads of a call: those of its worker, however many partitions there are."""
        return self.threads_per_worker

    @abstractmethod
    def close(self) -> None:
        """Release what was started; leave alone what was only connected to."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self
