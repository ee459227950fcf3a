"""Requests to Dask's workers: calls that are no tasks.

A task takes some ten milliseconds from a client to a worker and back, in messages that wait
to be sent together. A call on a partition that is in a worker's memory leaves nothing to
schedule. As with a call on one of Dask's actors, the worker is asked at once, through the
scheduler or, where the client may (``direct_to_workers``), directly: two milliseconds.

The scheduler knows nothing of requests, so this module sees to what would go wrong. One
that is not answered is for `distclust.backends.dask` to make a task of, which runs wherever
the partition is by then. And as long as partitions are asked, a task that only stays keeps
their worker from being retired as idle, and the cluster from being shut down.
"""

from __future__ import annotations

import asyncio
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import distributed
from distributed.core import Status, clean_exception, error_message
from distributed.protocol import to_serialize
from distributed.protocol.pickle import dumps, loads

__all__ = ["Home", "Requests", "Unanswered"]

OP = "distclust_call"
NOT_HERE = "not here"
WORKING = (Status.running, Status.paused)  # and not about to close
STAY_INTERVAL = 0.5  # seconds after which a task that stays looks whether it is still wanted


class Unanswered(Exception):
    """The worker is gone, or the partition is not there any more."""


class Home:
    """Where a partition is.

    Attributes
    ----------
    future : distributed.Future
        The task that loads it.
    address : str, optional
        The worker that has it, once that is known.
    """

    def __init__(self, future: distributed.Future) -> None:
        self.future = future
        self.address: str | None = None
        self._stay: distributed.Future | None = None

    def move_in(self, address: str, stay: distributed.Future) -> None:
        """Remember where the partition is, and keep the task that stays there."""
        self.address, self._stay = address, stay

    def move_out(self) -> None:
        """Forget where the partition was."""
        self.address = self._stay = None


class Requests:
    """What a client asks workers.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: distributed.Client) -> None:
        self._client = client
        self._homes: weakref.WeakSet[Home] = weakref.WeakSet()
        self._stays: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def home(self, future: distributed.Future) -> Home:
        """Return the home of a partition that is being loaded."""
        home = Home(future)
        self._homes.add(home)
        return home

    def address(self, home: Home) -> str | None:
        """Return where the partition is; that is looked up once it is loaded."""
        if home.address is None and home.future.status == "finished":
            self._look_for_homes()
        return home.address

    async def ask(self, address: str, key: Any, fn: Callable[..., Any], args: Sequence[Any]) -> Any:
        """Return ``fn(resident, *args)`` of the partition `key`; runs on the client's event loop.

        Raises
        ------
        Unanswered
        Exception
            Whatever `fn` raised.
        """
        asked = dumps((key, fn, *args))
        try:
            if self._client.direct_to_workers:
                reply = await getattr(self._client.rpc(address), OP)(asked=asked)
            else:
                reply = await self._client.scheduler.proxy(
                    worker=address, msg={"op": OP, "asked": asked}
                )
        except OSError as error:
            raise Unanswered(f"{address}: {error}") from error
        if reply["status"] == "OK":
            return reply["result"]
        if reply["status"] == NOT_HERE:
            raise Unanswered(f"{address}: not there")
        _, raised, remote_traceback = clean_exception(**reply)
        raise raised.with_traceback(remote_traceback)

    def _look_for_homes(self) -> None:
        loaded = [home for home in self._homes if home.future.status == "finished"]
        used = Counter(home.address for home in loaded if home.address)
        unknown = [home for home in loaded if home.address is None]
        known = self._client.who_has([home.future for home in unknown])
        moving = {}
        for home in unknown:
            if having := known.get(home.future.key):
                moving[home] = min(having, key=lambda address: (used[address], address))
                used[moving[home]] += 1
        new = set(moving.values()).difference(self._stays.keys())
        heard = self._client.run(_listen, workers=list(new), on_error="return") if new else {}
        for home, address in moving.items():
            if heard.get(address) is None:
                home.move_in(address, self._stay_at(address))

    def _stay_at(self, address: str) -> Any:
        """Return the future of a task that stays there for as long as the future is kept."""
        stay = self._stays.get(address)
        if stay is None:
            key = f"distclust-stay-{uuid.uuid4().hex}"
            there = {"workers": [address], "allow_other_workers": True, "pure": False}
            stay = self._stays[address] = self._client.submit(_stay, key=key, **there)
        return stay


def _listen(dask_worker: Any) -> None:
    """Run on a worker's event loop: answer requests from now on."""

    async def answer(asked: bytes) -> dict[str, Any]:
        return await _answer(dask_worker, asked)

    dask_worker.handlers[OP] = answer


async def _answer(worker: Any, asked: bytes) -> dict[str, Any]:
    """Run on a worker's event loop: have one of its threads call a function."""
    try:
        key, fn, *args = loads(asked)
        if key not in worker.data or worker.status not in WORKING:
            return {"status": NOT_HERE}
        call = partial(fn, worker.data[key], *args)
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(worker.executors["default"], call)
    except Exception as error:
        return dict(error_message(error))
    return {"status": "OK", "result": to_serialize(result)}


def _stay() -> None:
    """Run on a worker, beside what it computes: stay until nobody wants it any more."""
    worker = distributed.get_worker()
    key = worker.get_current_task()
    distributed.secede()
    while worker.status in WORKING and (
        (task := worker.state.tasks.get(key)) and task.state in ("executing", "long-running")
    ):
        time.sleep(STAY_INTERVAL)
