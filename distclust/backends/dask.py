"""The Dask backend: partitions and results as futures of a distributed client.

All are tasks, never scattered data, so Dask itself computes again what a lost worker
held. No module but this, `distclust.backends.dask_cluster` and `distclust.backends.dask_requests`
imports dask or distributed.

The scheduler takes some milliseconds for a message, however many tasks are in it. So
calls are sent together, as soon as one of them is waited for. Those whose result only comes
back, on partitions that are loaded, are no tasks (`distclust.backends.dask_requests`) unless
that fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import math
import sys
import threading
import traceback
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import FIRST_COMPLETED
from concurrent.futures import Future as Settled
from concurrent.futures import wait as wait_for
from dataclasses import replace
from typing import Any, cast

import dask
import dask.array as da
import distributed
import numpy as np
from dask.sizeof import sizeof
from dask.utils import funcname
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker, NoValidWorkerError, NoWorkerError
from distributed.utils import CancelledError

from distclust.backends import native
from distclust.backends.connection import Connection
from distclust.backends.dask_cluster import connected
from distclust.backends.dask_requests import Home, Requests, Unanswered
from distclust.data.collections import Chunks, Piece, describe, known_looks, labels_of
from distclust.data.storage import Room, load_within
from distclust.engine.protocol import Future, Handle, Ref
from distclust.errors import ClusterError, ClusterTimeout, DistclustError, TaskFailed, WorkerLost

__all__ = ["DaskBackend"]

LOST = (
    KilledWorker,
    NoValidWorkerError,
    NoWorkerError,
    CancelledError,
    asyncio.CancelledError,
    CommClosedError,
)
"""What Dask raises when processes are gone: `WorkerLost`. The rest is `TaskFailed`."""

SEND_INTERVAL = 0.002  # seconds that tasks wait to be sent together; a client's default is 0.01
PAUSE_SHARE = 0.8  # of a worker's memory limit, where Dask stops giving it tasks
INLINE_BYTES = 1 << 20  # values up to this size travel with each call

_configuring = threading.Lock()


class Call:
    """A task or a request.

    Attributes
    ----------
    future : distributed.Future, optional
        Once it is sent as a task.
    settled : concurrent.futures.Future, optional
        Once it is sent and waited for; has the result if that is `to_fetch`.
    """

    def __init__(self, fn: Callable[..., Any], *args: Any, to_fetch: bool = False) -> None:
        self.fn, self.args, self.to_fetch = fn, args, to_fetch
        self.future: distributed.Future | None = None
        self.settled: Settled[Any] | None = None

    def is_like(self, other: Call) -> bool:
        """Whether both can travel together."""
        return self.fn is other.fn and len(self.args) == len(other.args)


class DaskBackend(Connection):
    """Workers of a Dask cluster.

    Parameters
    ----------
    client : distributed.Client, optional
        Unless this or `address` is given: the current client, else a cluster of our own.
    address : str, optional
        Scheduler to connect to, for instance ``"tls://10.0.0.1:8786"``.
    workers : int, optional
        Worker processes to start, or of the cluster to use; all there are unless given.
    threads_per_worker : int, default=1
        Kernel threads of a call.
    timeout : float, default=60.0
        Seconds to wait for the workers to be there.
    insecure : bool, default=False
        Connect to a scheduler beyond this machine even though TLS is off.
    security : distributed.Security, optional
        Certificates for `address`.
    memory_limit, scratch_dir : optional
        See `Connection`.
    """

    name = "dask"

    def __init__(
        self,
        client: distributed.Client | None = None,
        address: str | None = None,
        workers: int | None = None,
        threads_per_worker: int = 1,
        *,
        timeout: float = 60.0,
        insecure: bool = False,
        security: distributed.Security | None = None,
        memory_limit: int | str | None = None,
        scratch_dir: str | None = None,
    ) -> None:
        super().__init__(memory_limit, scratch_dir)
        self.threads_per_worker = threads_per_worker
        self._unsent: list[Call] = []
        self._sending = threading.RLock()  # backends may be shared by threads
        with contextlib.ExitStack() as started:
            self._client = client or connected(
                started, address, workers, insecure, timeout=timeout, security=security
            )
            comm = self._client.scheduler_comm  # sends tasks sooner, as long as we are here
            started.callback(setattr, comm, "interval", comm.interval)
            comm.interval = SEND_INTERVAL
            self._requests = Requests(self._client)
            self._unsettled: weakref.WeakSet[Settled[Any]] = weakref.WeakSet()
            started.callback(self._give_up)
            threads = self._wait_for_workers(workers, timeout)
            self.slots = sum(max(1, count // threads_per_worker) for count in threads)
            self.room = self._room_of_workers()
            self._started = started.pop_all()

    def place(self, load: Callable[..., Any], *args: Any) -> Handle:
        """Load on the worker with least to do, or with the chunks.

        Not pinned: a task restricted to workers that all died, even with leave to run
        elsewhere, is never looked at again when others come instead.
        """
        return Handle(self._requests.home(self._submit(load_within, self.room, load, *args)))

    def put(self, value: Any) -> Ref:
        """Keep a small value to send along; make a large one a task that returns it."""
        return Ref(value if sizeof(value) <= INLINE_BYTES else self._submit(_identity, value))

    def call(
        self, fn: Callable[..., Any], at: Handle, *args: Any, to_fetch: bool = False
    ) -> Future:
        """Run `fn` where the partition is; of a task, the scheduler picks what moves least."""
        home: Home = at.where
        given = [self._argument(arg) for arg in args]
        call = Call(fn, home.future, *given, to_fetch=to_fetch)
        plain = not any(isinstance(arg, distributed.Future) for arg in given)
        if to_fetch and plain and self._requests.can_ask(home):
            self._settle(call, self._answer(home, fn, given))
        else:
            with self._sending:
                self._unsent.append(call)
        return call

    def combine(self, fn: Callable[..., Any], futures: Sequence[Future]) -> Future:
        call = Call(fn, *map(self._argument, futures))
        self._send([call])
        return call

    def wait(
        self, futures: Collection[Future], timeout: float | None
    ) -> tuple[set[Future], set[Future]]:
        settled = {self._settled(call): call for call in futures}
        done = {settled[each] for each in wait_for(settled, timeout, FIRST_COMPLETED).done}
        return done, set(futures) - done

    def fetch(self, future: Future) -> Any:
        sent = self._settled(future) if future.to_fetch else self._argument(future)
        try:
            return sent.result()
        except LOST as error:
            error.__traceback__ = None  # as below
            raise WorkerLost(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            remote_traceback = "".join(traceback.format_exception(error))
            # The client keeps the error, which must not keep our frames with all their handles.
            error.__traceback__ = None
            raise TaskFailed(
                f"{type(error).__name__}: {error}",
                cause=copy.copy(error) if isinstance(error, DistclustError) else None,
                remote_traceback=remote_traceback,
            ) from error

    def close(self) -> None:
        self._unsent.clear()
        self._started.close()

    def adopt(
        self,
        X: Any,
        *,
        columns: Sequence[str] | None = None,
        vector: str | None = None,
        sample_weight: Any = None,
    ) -> Chunks | None:
        """Return the chunks of a Dask array or dataframe, or None if `X` is neither."""
        if not dask.is_dask_collection(X) or not hasattr(X, "to_delayed"):
            return None
        X = X.rechunk({1: -1}) if isinstance(X, da.Array) and X.ndim == 2 else X
        refs = self._chunks_of(X)
        looks = known_looks(X)
        if not looks:
            asked = [self.combine(describe, [ref, columns, vector]) for ref in refs]
            looks = [self.fetch(look) for look in asked]
        chunks = Chunks.of(refs, looks, columns, vector)
        if sample_weight is None:
            return chunks
        weights = da.asarray(sample_weight)
        if not any(map(math.isnan, weights.shape)):
            weights = weights.rechunk((chunks.lengths,))
        return chunks.weighted_by(self._chunks_of(weights))

    def assemble(self, chunks: Chunks, pieces: Sequence[Piece], *, name: str = "label") -> Any:
        """Return a Dask array of labels, in the chunks that were adopted."""
        labels = [self._submit(labels_of, index, part) for part, index in pieces]
        key = f"{name}-{uuid.uuid4().hex}"
        graph = {(key, i): future for i, future in enumerate(labels)}
        return da.Array(graph, key, chunks=(chunks.lengths,), dtype=np.int32)

    def _argument(self, arg: Any) -> Any:
        """Return what Dask takes: of a call its future, for which all calls are sent."""
        if not isinstance(arg, Call):
            return native(arg)
        with self._sending:
            if arg.future is None and arg.settled is not None:
                self._send([arg])  # it was asked for, and is wanted on the workers after all
            while arg.future is None:
                if not self._unsent:
                    raise ClusterError("the call was not sent: sending failed, or we are closed")
                alike = list(itertools.takewhile(self._unsent[0].is_like, self._unsent))
                del self._unsent[: len(alike)]
                self._send(alike)
        return arg.future

    def _submit(self, fn: Callable[..., Any], *args: Any) -> distributed.Future:
        return self.combine(fn, args).future

    async def _answer(self, home: Home, fn: Callable[..., Any], args: Sequence[Any]) -> Any:
        """Return the answer to a request, or the result of a task if nobody gives one."""
        with contextlib.suppress(Unanswered):
            return await self._requests.ask(home, fn, args)
        task = Call(fn, home.future, *args)
        self._send([task])
        return await _result(task.future)

    def _settled(self, call: Call) -> Settled[Any]:
        """Return what is done once the call is, for which it is sent."""
        with self._sending:
            if call.settled is None:
                task = self._argument(call)
                self._check_connection()
                state = self._client.futures[task.key]  # unlike the future, it keeps no task
                self._settle(call, _result(task) if call.to_fetch else state.wait())
            return cast("Settled[Any]", call.settled)

    def _settle(self, call: Call, result: Coroutine[Any, Any, Any]) -> None:
        """Have the client's event loop bring what comes of a call, until nobody wants it."""
        with self._sending:
            loop = self._client.loop.asyncio_loop
            call.settled = asyncio.run_coroutine_threadsafe(result, loop)
            weakref.finalize(call, call.settled.cancel).atexit = False
            self._unsettled.add(call.settled)

    def _give_up(self) -> None:
        """Let nobody wait for what nobody brings any more."""
        with self._sending:
            for settled in list(self._unsettled):
                settled.cancel()

    def _send(self, calls: list[Call]) -> None:
        """Send calls of one function, each alone in its group.

        A group of many on few partitions looks like root tasks to the scheduler: it
        sends those anywhere, and the resident partition after them.
        """
        self._check_connection()
        fn = calls[0].fn
        keys = [(f"{funcname(fn)}-{uuid.uuid4().hex}", 0) for _ in calls]
        columns = zip(*(call.args for call in calls), strict=True)
        # A recipe may hold an array: the scheduler has to keep it, to compute it again.
        large = {"distributed.admin.large-graph-warning-threshold": sys.maxsize}
        with _configuring, dask.config.set(large):  # for all threads
            futures = self._client.map(fn, *columns, key=keys, pure=False)
        for call, future in zip(calls, futures, strict=True):
            call.future, call.args = future, ()

    def _check_connection(self) -> None:
        if self._client.status != "running":
            raise ClusterError(f"the connection to the Dask scheduler is {self._client.status}")

    def _chunks_of(self, collection: Any) -> list[Future]:
        return list(self._client.compute(list(np.ravel(collection.to_delayed()))))

    def _room_of_workers(self) -> Room:
        """Return what was given; where no limit was, the workers' own, short of their pausing."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        hosts = Counter(worker["host"] for worker in workers.values())
        room = self.room.shared(max(hosts.values()))
        known = [worker["memory_limit"] for worker in workers.values() if worker["memory_limit"]]
        if room.memory_limit is not None or not known:
            return room
        return replace(room, memory_limit=int(min(known) * PAUSE_SHARE))

    def _wait_for_workers(self, workers: int | None, timeout: float) -> list[int]:
        """Return the threads of each worker to use."""
        try:
            self._client.wait_for_workers(workers or 1, timeout)
        except TimeoutError as error:
            raise ClusterTimeout(
                f"{workers or 1} Dask workers were asked for, {len(self._client.nthreads())} came "
                f"within {timeout:g} s: start more, ask for fewer, or raise timeout"
            ) from error
        return [count for _, count in sorted(self._client.nthreads().items())[:workers]]


def _identity(value: Any) -> Any:
    return value


async def _result(task: distributed.Future) -> Any:
    return await task
