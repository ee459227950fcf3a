"""The embedded backend: partitions in this process, calls on a thread pool.

Arrays are shared, not copied. Nothing here can be lost, so `WorkerLost` never happens.
`CallingThread` is for rows so few that waking workers takes longer than a call.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextvars import Context
from functools import partial
from typing import Any

from distclust.backends.connection import Connection
from distclust.data.spare import SPARE
from distclust.data.storage import Room, load_within
from distclust.engine.protocol import Handle, Ref
from distclust.engine.shards import threads_here
from distclust.errors import ClusterError, ConfigError, DistclustError, TaskFailed

__all__ = ["CallingThread", "LocalBackend"]


class LocalBackend(Connection):
    """Threads of this process.

    While it is open, it keeps some memory of a fit for the next (`distclust.data.spare`).

    Parameters
    ----------
    workers : int, optional
        Partitions worked on at the same time; as many as there are usable cores unless
        given.
    threads_per_worker : int, default=1
        Kernel threads inside each of them.
    memory_limit, scratch_dir : optional
        See `Connection`; of this process.
    """

    name = "local"

    def __init__(
        self,
        workers: int | None = None,
        threads_per_worker: int = 1,
        *,
        memory_limit: int | str | None = None,
        scratch_dir: str | None = None,
    ) -> None:
        super().__init__(memory_limit, scratch_dir)
        for what, value in (("workers", workers), ("threads_per_worker", threads_per_worker)):
            if value is not None and value < 1:
                raise ConfigError(f"{what}={value} must be at least 1")
        self.threads_per_worker = threads_per_worker
        self.slots = workers or max(1, len(os.sched_getaffinity(0)) // threads_per_worker)
        self._pool = self._executor()
        SPARE.enter()
        self._keeping = weakref.finalize(self, SPARE.leave)

    def _executor(self) -> Executor:
        return ThreadPoolExecutor(self.slots, thread_name_prefix="distclust-worker")

    def here(self) -> CallingThread:
        """Return a backend of all these threads, on which the one that asks does the calls."""
        if not self._keeping.alive:
            raise ClusterError("the local backend is closed")
        return CallingThread(threads_here(self), self.room)

    def threads_for(self, partitions: int) -> int:
        """Kernel threads of a call: workers without a partition leave theirs to the others."""
        return self.threads_per_worker * max(1, self.slots // partitions)

    def place(self, load: Callable[..., Any], *args: Any) -> Handle:
        return Handle(self._submit(load_within, self.room, load, *args))

    def put(self, value: Any) -> Ref:
        return Ref(value)

    def call(
        self, fn: Callable[..., Any], at: Handle, *args: Any, to_fetch: bool = False
    ) -> Future[Any]:
        return self._submit(fn, at.where, *args)

    def combine(self, fn: Callable[..., Any], futures: Sequence[Future[Any]]) -> Future[Any]:
        return self._submit(fn, *futures)

    def wait(
        self, futures: Collection[Future[Any]], timeout: float | None
    ) -> tuple[set[Future[Any]], set[Future[Any]]]:
        done, pending = wait(futures, timeout, FIRST_COMPLETED)
        return done, pending

    def fetch(self, future: Future[Any]) -> Any:
        try:
            return future.result()
        except DistclustError as error:
            raise TaskFailed(str(error), cause=error) from error
        except Exception as error:
            raise TaskFailed(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._keeping()  # no longer: at the first call

    def _submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run `fn` once the futures among its arguments are done: waiting takes no worker."""
        if not any(_is_pending(arg) for arg in args):
            return self._pool.submit(_apply, fn, *args)
        result: Future[Any] = Future()
        self._submit_later(result, fn, args)
        return result

    def _submit_later(
        self, result: Future[Any], fn: Callable[..., Any], args: Sequence[Any]
    ) -> None:
        pending = next((arg for arg in args if _is_pending(arg)), None)
        if pending is not None:
            once = [args]  # futures keep their callbacks, which must not keep the rows
            pending.add_done_callback(lambda _: self._submit_later(result, fn, once.pop()))
            return
        if any(isinstance(arg, Future) and arg.cancelled() for arg in args):
            _cancel(result)  # the pool is closing, and must not be asked
            return
        try:
            done = self._pool.submit(_apply, fn, *args)
        except RuntimeError as closed:
            result.set_exception(closed)
        else:
            done.add_done_callback(partial(_pass_on, result))


class CallingThread(LocalBackend):
    """The thread that asks: each call is done at once, and cannot be given up.

    Parameters
    ----------
    threads : int, default=1
        Kernel threads of a call, the one that asks included.
    room : Room, optional
        What this process may use.
    """

    def __init__(self, threads: int = 1, room: Room | None = None) -> None:
        limits = (room.memory_limit, room.scratch_dir) if room else (None, None)
        super().__init__(1, threads, memory_limit=limits[0], scratch_dir=limits[1])

    def _executor(self) -> Executor:
        return _AtOnce()

    def wait(
        self, futures: Collection[Future[Any]], timeout: float | None
    ) -> tuple[set[Future[Any]], set[Future[Any]]]:
        return set(futures), set()


class _AtOnce(Executor):
    """Runs what it is given before it returns, in a context of its own as on another thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(Context().run(fn, *args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _is_pending(arg: Any) -> bool:
    return isinstance(arg, Future) and not arg.done()


def _cancel(result: Future[Any]) -> None:
    result.cancel()
    result.set_running_or_notify_cancel()  # tells those that wait


def _pass_on(result: Future[Any], done: Future[Any]) -> None:
    """Give one future the outcome of another."""
    if done.cancelled():
        _cancel(result)
    elif (error := done.exception()) is not None:
        result.set_exception(error)
    else:
        result.set_result(done.result())


def _apply(fn: Callable[..., Any], *args: Any) -> Any:
    """Call `fn` with references and futures, which are done, replaced by their values."""
    return fn(*(_value(arg) for arg in args))


def _value(arg: Any) -> Any:
    if isinstance(arg, Future):
        return arg.result()
    return arg.where if isinstance(arg, Ref) else arg
