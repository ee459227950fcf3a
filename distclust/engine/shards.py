"""What algorithms see of the engine: `Session.shard`, `Session.broadcast`, `map`, `reduce`.

A result must not depend on arrival order or on how partitions were grouped, so the
`merge` given to `Shards.reduce` has to be associative and commutative; every merge in
distclust is, to the last bit.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from itertools import takewhile
from typing import Any, NamedTuple, Protocol

from distclust.engine.arguments import Broadcast, Each, Placement, Remote, sent
from distclust.engine.events import Event, Listener, StageDone, StageProgress, StageStarted
from distclust.engine.loop import Call, CallLoop, Reply, Step
from distclust.engine.protocol import Backend, Future
from distclust.engine.retry import RetryPolicy
from distclust.errors import DataError, DistclustError

__all__ = [
    "Broadcast",
    "Each",
    "Remote",
    "Session",
    "Shards",
    "one_uses_all",
    "partitions_for",
    "threads_here",
]

FAN_IN = 8  # replies merged by one worker-side call; up to this many the driver merges itself
LARGEST_ROWS, LARGEST_BYTES = 1 << 22, 1 << 29  # of a partition: what a call makes of it is bounded


def partitions_for(n_rows: int, row_nbytes: int, slots: int) -> int:
    """Return how many partitions to split rows into, where nobody says: as many for each slot.

    No more than their size asks for, since a call costs time. Of very many rows a slot has
    several, so that a cluster that shrinks can balance them.

    Examples
    --------
    >>> partitions_for(1_000_000, 64, slots=2), partitions_for(10_000_000, 64, slots=2)
    (2, 4)
    >>> partitions_for(100_000_000, 32, slots=2), partitions_for(1_000_000, 8192, slots=2)
    (24, 16)
    """
    largest = max(1, min(LARGEST_ROWS, LARGEST_BYTES // max(1, row_nbytes)))
    return slots * max(1, -(-n_rows // (slots * largest)))


def one_uses_all(backend: Backend) -> bool:
    """Whether a call on a lone partition has all the threads that there are."""
    return backend.threads_for(1) >= backend.slots * backend.threads_per_worker


def threads_here(backend: Backend) -> int:
    """Return how many threads this process may use between calls: as many as there are cores."""
    return min(backend.slots * backend.threads_per_worker, len(os.sched_getaffinity(0)))


class Plannable(Protocol):
    """What `Session.shard` needs of a source: recipes, and the function that follows one."""

    def plan(self, n_partitions: int) -> Sequence[tuple[Any, ...]]: ...
    def load(self, *args: Any) -> Any: ...


class Session:
    """One run on one backend.

    Parameters
    ----------
    backend : Backend
    listeners : iterable of callable
        Each receives every `Event`.
    policy : RetryPolicy
    """

    def __init__(
        self,
        backend: Backend,
        *,
        listeners: Iterable[Listener] = (),
        policy: RetryPolicy | None = None,
    ) -> None:
        self.backend = backend
        self.policy = policy or RetryPolicy()
        self.run = uuid.uuid4().hex
        self.step = 0
        self.current_stage = ""
        self._listeners = tuple(listeners)

    def emit(self, event: Event) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            listener(event)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Tell listeners when a named part of the run begins and ends."""
        began = time.monotonic()
        self.emit(StageStarted(stage=name))
        self.current_stage = name
        yield
        self.emit(StageDone(stage=name, seconds=time.monotonic() - began))

    def shard(self, source: Plannable, n_partitions: int | None = None) -> Shards:
        """Place `source` on the workers, in at most `n_partitions` partitions."""
        wanted = n_partitions or self.backend.slots
        recipes = source.plan(wanted)
        if not recipes:
            raise DataError("the input has no rows; nothing can be clustered")
        shared = self._shared(recipes)
        return Shards(
            self,
            [
                Placement(self.backend, source.load, (*shared, *args[len(shared) :]))
                for args in recipes
            ],
        )

    def _shared(self, recipes: Sequence[tuple[Any, ...]]) -> list[Broadcast]:
        """Broadcast what all recipes begin with, such as a matrix that transforms all rows."""
        if len(recipes) == 1:
            return []
        together = takewhile(
            lambda same: all(arg is same[0] for arg in same), zip(*recipes, strict=False)
        )
        return [self.broadcast(same[0]) for same in together]

    def broadcast(self, value: Any) -> Broadcast:
        """Make `value` an argument that each worker receives once."""
        return Broadcast(self.backend, value)


class Shards:
    """Partitions resident on workers, for as long as this object is alive."""

    def __init__(self, session: Session, placements: Sequence[Placement]) -> None:
        self.session = session
        self._placements = placements

    def __len__(self) -> int:
        return len(self._placements)

    def map(self, fn: Callable[..., Any], *args: Any) -> Iterator[tuple[int, Any]]:
        """Yield ``(partition index, fn(resident, *args))`` as calls complete.

        Parameters
        ----------
        fn : callable
            Importable on the workers and pure in its arguments.
        *args : object
            Sent as they are; a `Broadcast` is sent once a worker, a `Remote` comes from
            the worker that computed it, and of `Each` every partition gets its own.
        """
        loop, done = self._loop(fn, args, to_fetch=True), 0
        for call in loop.calls():
            reply = loop.settle(call)
            if reply is not None:
                done += 1
                self._progress(done)
                yield call.tag.partition, reply.value

    def gather(self, fn: Callable[..., Any], *args: Any) -> list[Any]:
        """Return ``fn(resident, *args)`` of every partition, in partition order."""
        return [value for _, value in sorted(self.map(fn, *args), key=lambda pair: pair[0])]

    def reduce(self, fn: Callable[..., Any], merge: Callable[[Any, Any], Any], *args: Any) -> Any:
        """Return the merge of ``fn(resident, *args)`` over all partitions.

        With more than `FAN_IN` partitions the replies are merged on the workers, in a
        tree that takes them as they come; otherwise the driver merges them itself.
        """
        if len(self) <= FAN_IN:
            return reduce(merge, (value for _, value in self.map(fn, *args)))
        return self._tree_reduce(self._loop(fn, args, to_fetch=False), merge)

    def futures(self, fn: Callable[..., Any], *args: Any) -> list[Future]:
        """Return one backend future a partition: results that stay on the workers.

        The engine does not watch over these; they are for handing results on in a
        backend's own collections.
        """
        backend = self.session.backend
        return [
            backend.call(fn, placement.handle, *sent(args, partition))
            for partition, placement in enumerate(self._placements)
        ]

    def remote(self, fn: Callable[..., Any], *args: Any) -> list[Remote]:
        """Leave ``fn(resident, *args)`` of every partition where it is computed.

        What is returned are arguments of other calls: all of them, or its own for each
        partition (`Each`). They are computed once one of those calls needs them.
        """
        threads = self.session.backend.threads_for(len(self))
        return [
            Remote(placement, partition, threads, fn, args)
            for partition, placement in enumerate(self._placements)
        ]

    def regroup(
        self, n: int, split: Callable[..., Any], build: Callable[..., Any], *args: Any
    ) -> Shards:
        """Make other partitions of the same data, sent from worker to worker.

        Partition j of the `n` new ones is ``build(j, *pieces)``, with a piece
        ``split(resident, j, *args)`` of each partition here.
        """
        backend = self.session.backend
        return Shards(
            self.session,
            [Placement(backend, build, (j, *self.remote(split, j, *args))) for j in range(n)],
        )

    def viewed(self, view: Callable[..., Any], *args: Any) -> Shards:
        """Return the same partitions as seen through ``view(resident, *args)``.

        Functions are called with what the view returns, which should be kept where the
        partition keeps its cache; where that is None, they are not called, and no value comes.

        Parameters
        ----------
        view : callable
            Importable on the workers and pure in its arguments.
        *args : object
            As in `map`.
        """
        return Views(self, view, args)

    def _tree_reduce(self, loop: CallLoop, merge: Callable[[Any, Any], Any]) -> Any:
        backend = self.session.backend
        leaves: dict[Future, tuple[Call, ...]] = {}
        ready: list[Future] = []
        merged: list[Reply] = []
        answered: set[int] = set()
        for done in loop.calls():
            if isinstance(done, Call):
                answered.add(done.tag.partition)
                self._progress(len(answered))
                leaves[done.future] = (done,)
                ready.append(done.future)
            else:
                merged.extend(self._collect(loop, done, leaves.pop(done)))
            if len(ready) == FAN_IN:
                calls = tuple(call for future in ready for call in leaves.pop(future))
                combined = backend.combine(partial(merge_replies, merge), ready)
                leaves[combined] = calls
                loop.watch(combined)
                ready = []
            elif not loop.busy:
                while ready:
                    future = ready.pop()
                    merged.extend(self._collect(loop, future, leaves.pop(future)))
        return merge_replies(merge, *merged).value

    def _progress(self, done: int) -> None:
        stage = self.session.current_stage
        self.session.emit(StageProgress(stage=stage, done=done, total=len(self)))

    @staticmethod
    def _collect(loop: CallLoop, future: Future, calls: tuple[Call, ...]) -> list[Reply]:
        """Fetch a merged reply; if that fails, settle each of the calls it was made of."""
        if len(calls) > 1:
            with contextlib.suppress(DistclustError):  # settling below repeats or raises it
                return [loop.fetch_merged(future)]
        settled = [loop.settle(call) for call in calls]
        return [reply for reply in settled if reply is not None]

    def _loop(self, fn: Callable[..., Any], args: Sequence[Any], *, to_fetch: bool) -> CallLoop:
        session = self.session
        session.step += 1
        step = Step(session.run, session.step, fn, args, to_fetch)
        return CallLoop(session.backend, self._placements, step, session.policy, session.emit)


class Views(Shards):
    """Shards seen through a function: made by `Shards.viewed`."""

    def __init__(self, shards: Shards, view: Callable[..., Any], args: Sequence[Any]) -> None:
        super().__init__(shards.session, shards._placements)
        self._view, self._args = partial(through, view, len(args)), tuple(args)

    def map(self, fn: Callable[..., Any], *args: Any) -> Iterator[tuple[int, Any]]:
        found = super().map(self._view, *self._args, fn, *args)
        return ((partition, seen.value) for partition, seen in found if seen is not None)

    def reduce(self, fn: Callable[..., Any], merge: Callable[[Any, Any], Any], *args: Any) -> Any:
        if len(self) <= FAN_IN:
            return reduce(merge, (value for _, value in self.map(fn, *args)))
        loop = self._loop(self._view, (*self._args, fn, *args), to_fetch=False)
        return self._tree_reduce(loop, partial(merge_seen, merge)).value

    def futures(self, fn: Callable[..., Any], *args: Any) -> list[Future]:
        raise TypeError("a view has no futures of its own")

    def remote(self, fn: Callable[..., Any], *args: Any) -> list[Remote]:
        raise TypeError("a view leaves nothing on the workers")

    def viewed(self, view: Callable[..., Any], *args: Any) -> Shards:
        raise TypeError("a view is of what is resident, not of another view")


class Seen(NamedTuple):
    """What a function returned that was called with a view."""

    value: Any


def through(view: Callable[..., Any], count: int, resident: Any, *args: Any) -> Seen | None:
    """Call the function among `args` with what the view returns of those before it."""
    seen = view(resident, *args[:count])
    return None if seen is None else Seen(args[count](seen, *args[count + 1 :]))


def merge_seen(merge: Callable[[Any, Any], Any], a: Seen | None, b: Seen | None) -> Seen | None:
    """Return the merge of both, or the one that there is."""
    if a is None or b is None:
        return b if a is None else a
    return Seen(merge(a.value, b.value))


def merge_replies(merge: Callable[[Any, Any], Any], *replies: Reply) -> Reply:
    """Merge replies of different calls; the same call must never be merged twice."""
    tags: frozenset[Any] = frozenset().union(*(reply.tags for reply in replies))
    if len(tags) != sum(len(reply.tags) for reply in replies):
        raise AssertionError(f"a reply was merged twice: {sorted(map(str, tags))}")
    return Reply(tags, reduce(merge, (reply.value for reply in replies)))
