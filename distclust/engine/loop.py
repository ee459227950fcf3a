"""The one loop that waits, retries, fences late replies and limits what is in flight.

`CallLoop.calls` submits one call a partition and yields each as it completes, not yet
fetched: its value is still where it was computed, so `distclust.engine.shards` may
fetch it (map) or merge it worker-side first (reduce). A call that was lost is handed
back with `CallLoop.settle`, which places the partition again and repeats it.

Fencing: every reply carries the `Tag` of the attempt that made it. A replaced attempt
is no longer awaited; if it answers after all, it is counted and dropped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from distclust.engine.arguments import Placement, compute, renew, sent
from distclust.engine.events import CallRetried, Event, LateReply
from distclust.engine.protocol import Backend, Future
from distclust.engine.retry import Decision, RetryPolicy, decide
from distclust.errors import ClusterTimeout, DistclustError, TaskFailed

__all__ = ["Call", "CallLoop", "Reply", "Step", "Tag"]

IN_FLIGHT_PER_SLOT = 2  # one running and one queued keeps every worker busy


@dataclass(frozen=True)
class Tag:
    """Which attempt, at which step of which run, a reply belongs to."""

    run: str
    step: int
    partition: int
    attempt: int


@dataclass(frozen=True)
class Reply:
    """What a worker sends back: the value and the tags of the calls it stands for."""

    tags: frozenset[Tag]
    value: Any


@dataclass(frozen=True, eq=False)
class Call:
    """An attempt in flight."""

    tag: Tag
    future: Future
    deadline: float | None


@dataclass(frozen=True, eq=False)
class Step:
    """One call on every partition: ``fn(resident, *args)``, the `number`-th of run `run`.

    Either each reply is to be fetched, or they are to be merged where they are.
    """

    run: str
    number: int
    fn: Callable[..., Any]
    args: Sequence[Any]
    to_fetch: bool


def answer(resident: Any, tag: Tag, threads: int, fn: Callable[..., Any], *args: Any) -> Reply:
    """Run on the worker: call `fn` with the worker's kernel threads, and tag its result."""
    return Reply(frozenset([tag]), compute(resident, threads, fn, *args))


class CallLoop:
    """Drives one step to its end.

    Parameters
    ----------
    backend : Backend
    placements : sequence of Placement
    step : Step
    policy : RetryPolicy
    emit : callable
        Receives events.
    """

    def __init__(
        self,
        backend: Backend,
        placements: Sequence[Placement],
        step: Step,
        policy: RetryPolicy,
        emit: Callable[[Event], None],
    ) -> None:
        self._backend, self._placements = backend, placements
        self._step, self._policy, self._emit = step, policy, emit
        self._queue = deque((index, 1) for index in range(len(placements)))
        self._pending: dict[Future, Call] = {}
        self._watched: set[Future] = set()
        self._abandoned: dict[Future, Call] = {}

    @property
    def busy(self) -> bool:
        """Whether anything is still queued, running or being merged."""
        return bool(self._queue or self._pending or self._watched)

    def calls(self) -> Iterator[Call | Future]:
        """Yield each call when its future is done, and each `watch`-ed future likewise."""
        limit = IN_FLIGHT_PER_SLOT * self._backend.slots
        while self.busy:
            while self._queue and len(self._pending) < limit:
                self._submit(*self._queue.popleft())
            done, _ = self._backend.wait(
                [*self._pending, *self._watched, *self._abandoned], self._patience()
            )
            self._drop_late(done)
            for future in done & self._watched:
                self._watched.discard(future)
                yield future
            for future in done & self._pending.keys():
                yield self._pending.pop(future)
            self._give_up_overdue()

    def watch(self, future: Future) -> None:
        """Have `calls` also yield this future (a worker-side merge) when it is done."""
        self._watched.add(future)

    def settle(self, call: Call) -> Reply | None:
        """Fetch a completed call; None means it was lost and is being repeated."""
        try:
            reply: Reply = self._backend.fetch(call.future)
        except DistclustError as error:
            self._retry_or_raise(call.tag, error)
            return None
        if reply.tags != {call.tag}:
            raise TaskFailed(f"expected the reply of {call.tag}, received {reply.tags}")
        return reply

    def fetch_merged(self, future: Future) -> Reply:
        """Fetch a `watch`-ed future."""
        reply: Reply = self._backend.fetch(future)
        return reply

    def _submit(self, partition: int, attempt: int) -> None:
        tag = Tag(self._step.run, self._step.number, partition, attempt)
        future = self._backend.call(
            answer,
            self._placements[partition].handle,
            tag,
            self._backend.threads_for(len(self._placements)),
            self._step.fn,
            *sent(self._step.args, partition),
            to_fetch=self._step.to_fetch,
        )
        patience = self._policy.call_timeout
        deadline = None if patience is None else time.monotonic() + patience
        self._pending[future] = Call(tag, future, deadline)

    def _patience(self) -> float | None:
        deadlines = [c.deadline for c in self._pending.values() if c.deadline is not None]
        return max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None

    def _give_up_overdue(self) -> None:
        now = time.monotonic()
        overdue = [
            future
            for future, call in self._pending.items()
            if call.deadline is not None and call.deadline <= now
        ]
        if overdue:  # some may have answered while the caller was busy with other replies
            _, silent = self._backend.wait(overdue, 0)
            for future in silent:
                call = self._abandoned[future] = self._pending.pop(future)
                error = ClusterTimeout(f"no reply within {self._policy.call_timeout:g} s")
                self._retry_or_raise(call.tag, error)

    def _drop_late(self, done: set[Future]) -> None:
        for future in done & self._abandoned.keys():
            tag = self._abandoned.pop(future).tag
            self._emit(LateReply(partition=tag.partition, attempt=tag.attempt))

    def _retry_or_raise(self, tag: Tag, error: DistclustError) -> None:
        if decide(error, tag.attempt, self._policy) is Decision.RAISE:
            raise self._grouped(tag, error)
        self._emit(CallRetried(partition=tag.partition, attempt=tag.attempt + 1, reason=str(error)))
        self._placements[tag.partition].replace()
        renew(self._step.args, tag.partition)
        self._queue.append((tag.partition, tag.attempt + 1))

    def _grouped(self, tag: Tag, error: DistclustError) -> DistclustError:
        """Let what is in flight finish, then raise one error for all of the same kind."""
        failures = {tag.partition: error}
        while self._pending:
            done, _ = self._backend.wait(list(self._pending), self._policy.call_timeout)
            for future in done:
                call = self._pending.pop(future)
                try:
                    self._backend.fetch(future)
                except DistclustError as other:
                    failures[call.tag.partition] = other
            if not done:
                break
        # what a function raised says more than a worker that was lost on the way
        first = min(failures.items(), key=lambda f: (not isinstance(f[1], TaskFailed), f[0]))[1]
        if isinstance(first, TaskFailed) and first.cause is not None:
            first = first.cause
        if len(failures) > 1:
            first.add_note(f"{len(failures)} partitions failed: {sorted(failures)}")
        return first
