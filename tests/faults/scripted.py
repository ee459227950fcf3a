"""A backend whose faults are written down: wrap any backend, say what goes wrong when.

::

    script = {
        (0, 1): Fault.LOSE_BEFORE,           # partition 0, first attempt: never runs
        (2, 1): Fault.LOSE_AFTER,            # partition 2, first attempt: runs, reply lost
        (1, 1): held,                        # partition 1 answers only after `held.release()`
        (3, 2): Fault.DUPLICATE,             # partition 3, second attempt: runs twice
    }
    backend = ScriptedBackend(LocalBackend(workers=2), script)

Partitions are numbered as they are first placed; placing the same recipe again is the
next life of the same partition. Attempts are the calls made on a partition, in any of
its lives and of any function: without faults, the third iteration is attempt 3.
"""

from __future__ import annotations

import enum
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from distclust.engine.protocol import Backend, Future, Handle, Ref
from distclust.errors import WorkerLost

__all__ = ["Fault", "Held", "ScriptedBackend"]


class Fault(enum.Enum):
    """What happens to a call."""

    LOSE_BEFORE = "the worker is lost before the call ran"
    LOSE_AFTER = "the call ran, then the worker was lost with its reply"
    DUPLICATE = "the call runs twice, and the first reply counts"


@dataclass(eq=False)
class Held:
    """A call that is computed, but not reported before `release`."""

    released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        self.released.set()


@dataclass(eq=False)
class Reply:
    """A future as the engine sees it: the inner one, and what befell it."""

    inner: Future | None
    fault: Fault | Held | None = None

    @property
    def held(self) -> bool:
        return isinstance(self.fault, Held) and not self.fault.released.is_set()


@dataclass(frozen=True, eq=False)
class Life:
    """Where a partition is, which one it is, and whether its worker is still there."""

    inner: Handle
    partition: int
    lost: threading.Event = field(default_factory=threading.Event)


class ScriptedBackend:
    """Any backend, with faults.

    Parameters
    ----------
    inner : Backend
        Does the work. It is closed with this one.
    script : mapping of (partition, attempt) to Fault or Held
        Attempts count from 1. A lost worker takes its partition with it: every later
        call at the same handle is lost as well, and whatever takes a lost result.

    Attributes
    ----------
    calls : list of (int, int)
        (partition, attempt) of each call, in the order they were made.
    places : list of int
        The partition of each placement, in order: a partition placed twice was lost once.
    """

    name = "scripted"

    def __init__(
        self, inner: Backend, script: Mapping[tuple[int, int], Fault | Held] | None = None
    ) -> None:
        self.inner, self.script = inner, dict(script or {})
        self.slots, self.threads_per_worker = inner.slots, inner.threads_per_worker
        self.calls: list[tuple[int, int]] = []
        self.places: list[int] = []
        self._recipes: list[tuple[Any, ...]] = []
        self._attempts: Counter[int] = Counter()

    def threads_for(self, partitions: int) -> int:
        return self.threads_per_worker

    def place(self, load: Callable[..., Any], *args: Any) -> Handle:
        partition = self._partition_of((load, *args))
        self.places.append(partition)
        life = Life(self.inner.place(load, *map(_inner, args)), partition)
        if any(map(_is_lost, args)):
            life.lost.set()
        return Handle(life)

    def put(self, value: Any) -> Ref:
        return self.inner.put(value)

    def call(self, fn: Callable[..., Any], at: Handle, *args: Any, to_fetch: bool = False) -> Reply:
        life: Life = at.where
        self._attempts[life.partition] += 1
        step = (life.partition, self._attempts[life.partition])
        self.calls.append(step)
        fault = self.script.get(step)
        if fault is Fault.LOSE_BEFORE or life.lost.is_set():
            life.lost.set()
            return Reply(None, Fault.LOSE_BEFORE)
        if any(map(_is_lost, args)):
            return Reply(None, Fault.LOSE_BEFORE)
        times = 2 if fault is Fault.DUPLICATE else 1
        inner = [
            self.inner.call(fn, life.inner, *map(_inner, args), to_fetch=to_fetch)
            for _ in range(times)
        ]
        if fault is Fault.LOSE_AFTER:
            life.lost.set()
        return Reply(inner[0], fault)

    def combine(self, fn: Callable[..., Any], futures: Sequence[Reply]) -> Reply:
        if any(_is_lost(future) for future in futures):
            return Reply(None, Fault.LOSE_BEFORE)
        return Reply(self.inner.combine(fn, [future.inner for future in futures]))

    def wait(
        self, futures: Collection[Reply], timeout: float | None
    ) -> tuple[set[Reply], set[Reply]]:
        """Wait for what is not held; if all is held, until one of them is released."""
        futures = set(futures)
        free = {future for future in futures if not future.held}
        if not free and futures:
            self._until_released(futures, timeout)
            free = {future for future in futures if not future.held}
        done = {future for future in free if future.inner is None}
        running = {future.inner: future for future in free - done}
        ready, _ = self.inner.wait(list(running), 0.0 if done else timeout)
        done |= {running[inner] for inner in ready}
        return done, futures - done

    def fetch(self, future: Reply) -> Any:
        if _is_lost(future):
            if future.inner is not None:
                self.inner.fetch(future.inner)  # it did run
            raise WorkerLost(str(future.fault))
        return self.inner.fetch(future.inner)

    def close(self) -> None:
        self.inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _partition_of(self, recipe: tuple[Any, ...]) -> int:
        """Number a recipe: the same objects again are the same partition."""
        for number, known in enumerate(self._recipes):
            if len(known) == len(recipe) and all(map(_same, known, recipe)):
                return number
        self._recipes.append(recipe)
        return len(self._recipes) - 1

    @staticmethod
    def _until_released(futures: Collection[Reply], timeout: float | None) -> None:
        """Block until one is released, without polling."""
        some = threading.Event()
        for future in futures:
            assert isinstance(future.fault, Held)
            threading.Thread(
                target=lambda event=future.fault.released: (event.wait(), some.set()), daemon=True
            ).start()
        some.wait(timeout)


def _same(left: Any, right: Any) -> bool:
    return left is right or (isinstance(left, int | str) and left == right)


def _is_lost(arg: Any) -> bool:
    return isinstance(arg, Reply) and arg.fault in (Fault.LOSE_BEFORE, Fault.LOSE_AFTER)


def _inner(arg: Any) -> Any:
    return arg.inner if isinstance(arg, Reply) else arg
