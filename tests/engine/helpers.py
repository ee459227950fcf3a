"""A source of numbers, and backends that count or keep time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from typing import Any

from distclust.backends.local import LocalBackend
from distclust.engine.events import Event
from distclust.engine.protocol import Handle, Ref
from distclust.engine.retry import RetryPolicy
from distclust.engine.shards import Session, Shards
from tests.faults.scripted import Fault, Held, Reply, ScriptedBackend

Script = dict[tuple[int, int], Fault | Held]


class Numbers:
    """Partition i holds the number i."""

    def plan(self, n_partitions: int) -> list[tuple[int]]:
        return [(i,) for i in range(n_partitions)]

    @staticmethod
    def load(i: int) -> int:
        return i


class Watched(ScriptedBackend):
    """Also counts calls in flight, and remembers what was put and what calls received."""

    def __init__(self, script: Script | None = None, *, workers: int = 2) -> None:
        super().__init__(LocalBackend(workers=workers), script)
        self.in_flight: set[Any] = set()
        self.most_in_flight = 0
        self.puts: list[Ref] = []
        self.sent: list[Any] = []
        self.combined = 0

    def put(self, value: Any) -> Ref:
        self.puts.append(super().put(value))
        return self.puts[-1]

    def call(self, fn: Callable[..., Any], at: Handle, *args: Any, to_fetch: bool = False) -> Reply:
        future = super().call(fn, at, *args, to_fetch=to_fetch)
        self.sent.append(args[-1] if args else None)
        self.in_flight.add(future)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        return future

    def combine(self, fn: Callable[..., Any], futures: Any) -> Reply:
        self.combined += 1
        return super().combine(fn, futures)

    def wait(
        self, futures: Collection[Reply], timeout: float | None
    ) -> tuple[set[Reply], set[Reply]]:
        done, pending = super().wait(futures, timeout)
        self.in_flight -= done
        return done, pending


class Clock:
    """Time that passes only when it is told to; stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Timed(Watched):
    """Waits by the clock: when nothing but held replies is left, time passes at once."""

    def __init__(self, clock: Clock, script: Script | None = None, *, workers: int = 2) -> None:
        super().__init__(script, workers=workers)
        self.clock = clock

    def wait(
        self, futures: Collection[Reply], timeout: float | None
    ) -> tuple[set[Reply], set[Reply]]:
        if timeout is not None and all(future.held for future in futures):
            self.clock.now += timeout
            return set(), set(futures)
        return super().wait(futures, None if timeout else timeout)


class Heard(list[Event]):
    """A listener that keeps what it hears, and may react."""

    def __init__(self, react: Callable[[Event], None] | None = None) -> None:
        super().__init__()
        self._react = react

    def __call__(self, event: Event) -> None:
        self.append(event)
        if self._react is not None:
            self._react(event)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self if isinstance(event, kind)]


def shards_of(
    backend: Any,
    n_partitions: int,
    listener: Any = None,
    **policy: Any,
) -> Shards:
    """Place numbers 0 … n-1 as partitions."""
    listeners = [] if listener is None else [listener]
    session = Session(backend, listeners=listeners, policy=RetryPolicy(**policy))
    return session.shard(Numbers(), n_partitions)


def number(resident: int) -> int:
    return resident


def times(resident: int, factor: int) -> int:
    return resident * factor


def as_set(resident: int) -> list[int]:
    return [resident]


def joined(a: list[int], b: list[int]) -> list[int]:
    """A merge that shows what was merged."""
    return sorted(a + b)


class Gate:
    """A function of a resident that waits for permission on some partitions."""

    def __init__(self, *partitions: int) -> None:
        self.partitions, self.open = partitions, threading.Event()

    def __call__(self, resident: int) -> int:
        if resident in self.partitions:
            assert self.open.wait(60), "nobody opened the gate"
        return resident
