"""The backend protocol: all that a backend has to do, in seven verbs.

A backend places data on workers, calls functions where the data lives, and fetches
results. It knows nothing of algorithms, retries or progress: `distclust.engine.loop`
owns waiting and retrying, so a backend stays a thin translation of one library.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["Backend", "Future", "Handle", "Ref"]

Future = Any
"""A result to come. Opaque and hashable; only the backend that made it can read it."""


@dataclass(frozen=True, eq=False)
class Handle:
    """A partition resident on a worker, for as long as this object is alive.

    Attributes
    ----------
    where : object
        What the backend needs to find the partition again; opaque to the engine.
    """

    where: Any


@dataclass(frozen=True, eq=False)
class Ref:
    """A broadcast value as the backend holds it, accepted as an argument of `Backend.call`."""

    where: Any


class Backend(Protocol):
    """What the engine asks of a backend.

    Attributes
    ----------
    name : str
        ``"local"``, ``"ray"`` or ``"dask"``; shown in messages and reports.
    slots : int
        Workers that can run a call at the same time.
    threads_per_worker : int
        Kernel threads of each worker.
    """

    name: str
    slots: int
    threads_per_worker: int

    def threads_for(self, partitions: int) -> int:
        """Kernel threads a call may use while that many partitions are worked on."""

    def place(self, load: Callable[..., Any], *args: Any) -> Handle:
        """Make ``resident = load(*args)`` on a worker; do not wait for it.

        Arguments may be futures or native references (a Dask future, a Ray object
        reference): they reach `load` as values, moved worker to worker. An error in
        `load` surfaces from every call made at the handle.
        """

    def put(self, value: Any) -> Ref:
        """Make `value` available to every worker."""

    def call(
        self, fn: Callable[..., Any], at: Handle, *args: Any, to_fetch: bool = False
    ) -> Future:
        """Run ``fn(resident, *args)`` where the partition lives.

        A backend may keep calls back, to send them together, until any is waited for.
        Arguments may be `Ref` objects and futures of other calls. A result that is
        `to_fetch` is no argument of other calls: it may come here as soon as it is there.
        """

    def combine(self, fn: Callable[..., Any], futures: Sequence[Future]) -> Future:
        """Run ``fn(*results)`` on a worker, without passing through the driver."""

    def wait(
        self, futures: Collection[Future], timeout: float | None
    ) -> tuple[set[Future], set[Future]]:
        """Split into (done, pending), as soon as one is done or after `timeout` seconds."""

    def fetch(self, future: Future) -> Any:
        """Return a result; raises only `WorkerLost` or `TaskFailed`."""

    def close(self) -> None:
        """Release what this backend started; leave alone what it only connected to."""
