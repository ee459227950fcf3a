"""What calls are given besides plain values, and where partitions come from.

A `Broadcast` is sent once to every worker. A `Remote` is a result that stays on the
worker that computed it and goes from there to the calls that take it: rows that change
partition, questions to other partitions and their answers. `Each` gives every partition
its own. All of them remember how they were made, so whatever a lost worker held is made
again: nothing but the driver's recipes has to survive.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from distclust.engine.protocol import Backend, Future, Handle, Ref
from distclust.engine.threads import worker_threads
from distclust.errors import WorkerLost

__all__ = ["Argument", "Broadcast", "Each", "Placement", "Remote", "renew", "sent"]


class Argument(ABC):
    """An argument that the backend holds."""

    @abstractmethod
    def sent(self, partition: int) -> Any:
        """Return what the backend takes for it, in a call on that partition."""

    @abstractmethod
    def renew(self, partition: int) -> None:
        """Make sure that the next `sent` is good: a worker was lost, maybe with this."""


def sent(args: Sequence[Any], partition: int) -> list[Any]:
    """Return the arguments as the backend takes them."""
    return [arg.sent(partition) if isinstance(arg, Argument) else arg for arg in args]


def renew(args: Sequence[Any], partition: int) -> None:
    """Renew the arguments of a call that was lost."""
    for arg in args:
        if isinstance(arg, Argument):
            arg.renew(partition)


class Placement:
    """One partition's recipe and where it lives now.

    Attributes
    ----------
    handle : Handle
    generation : int
        How often the partition was placed again.
    """

    def __init__(self, backend: Backend, load: Callable[..., Any], args: Sequence[Any]) -> None:
        self.backend, self._load, self._args = backend, load, args
        self.generation = 0
        self.handle: Handle = self._place()

    def replace(self) -> None:
        """Place the partition again, from the same recipe."""
        renew(self._args, 0)
        self.generation += 1
        self.handle = self._place()

    def revive(self) -> None:
        """Place the partition again if it is not there any more."""
        try:
            self.backend.fetch(self.backend.call(_nothing, self.handle, to_fetch=True))
        except WorkerLost:
            self.replace()

    def _place(self) -> Handle:
        handle = self.backend.place(self._load, *sent(self._args, 0))
        for arg in self._args:
            if isinstance(arg, Remote):
                arg.forget()
        return handle


def _nothing(_resident: Any) -> None:
    """Be there."""


class Broadcast(Argument):
    """A value every worker can read. The driver keeps it, so that it can be sent again."""

    def __init__(self, backend: Backend, value: Any) -> None:
        self._backend, self._value = backend, value
        self.ref: Ref = backend.put(value)

    def sent(self, partition: int) -> Ref:
        return self.ref

    def renew(self, partition: int) -> None:
        """Send the value again: the copy may have gone with a lost worker."""
        self.ref = self._backend.put(self._value)


class Remote(Argument):
    """``fn(resident, *args)`` of one partition, computed once it is needed.

    Parameters
    ----------
    at : Placement
    partition : int
        The number of that partition, for arguments that differ.
    threads : int
        Kernel threads of the call.
    fn : callable
        Importable on the workers and pure in its arguments.
    args : sequence
    """

    def __init__(
        self,
        at: Placement,
        partition: int,
        threads: int,
        fn: Callable[..., Any],
        args: Sequence[Any],
    ) -> None:
        self._at, self._partition = at, partition
        self._threads, self._fn, self._args = threads, fn, args
        self._future: Future | None = None
        self._generation = -1

    def sent(self, partition: int) -> Future:
        if self._future is None or self._generation != self._at.generation:
            args = sent(self._args, self._partition)
            self._generation = self._at.generation
            self._future = self._at.backend.call(
                compute, self._at.handle, self._threads, self._fn, *args
            )
        return self._future

    def renew(self, partition: int) -> None:
        """Compute it again when next needed, where its partition is by then."""
        renew(self._args, self._partition)
        self._at.revive()
        self.forget()

    def forget(self) -> None:
        """Let go of the result; it is computed again if it is needed after all."""
        self._future = None


class Each(Argument):
    """One argument a partition."""

    def __init__(self, arguments: Sequence[Argument]) -> None:
        self._arguments = arguments

    def sent(self, partition: int) -> Any:
        return self._arguments[partition].sent(partition)

    def renew(self, partition: int) -> None:
        self._arguments[partition].renew(partition)


def compute(resident: Any, threads: int, fn: Callable[..., Any], *args: Any) -> Any:
    """Run on the worker: call `fn` with the worker's kernel threads."""
    with worker_threads(threads):
        return fn(resident, *args)
