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
import itertools
import threading
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
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
MOST = 128  # requests under way; Dask has connections for 512
LISTEN_TIMEOUT, SILENCE = 5.0, 60.0  # seconds for an answer; without one, until asked again
LOST_INTERVAL = 2.0  # seconds after which a request looks whether its partition is still there
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

    @property
    def is_loaded(self) -> bool:
        """Whether the partition is in the memory of some worker."""
        return bool(self.future.status == "finished")

    def move_in(self, address: str, stay: distributed.Future) -> None:
        """Remember where the partition is, and keep the task that stays there."""
        self.address, self._stay = address, stay

    def move_out(self) -> None:
        """Forget where the partition was."""
        self.address = self._stay = None


class Requests:
    """What a client asks workers, on its event loop.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: distributed.Client) -> None:
        self._client = client
        self._deaf = False
        self._under_way = 0
        self._silent_until: dict[str, float] = {}  # by address
        self._homes: weakref.WeakSet[Home] = weakref.WeakSet()
        self._adding = threading.Lock()  # others than the event loop's thread add homes
        self._looking = asyncio.Lock()
        self._stays: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()

    def home(self, future: distributed.Future) -> Home:
        """Return the home of a partition that is being loaded."""
        home = Home(future)
        with self._adding:
            self._homes.add(home)
        return home

    def can_ask(self, home: Home) -> bool:
        """Whether the partition is loaded, and workers may be asked."""
        return home.is_loaded and self._client.status == "running" and not self._deaf

    async def ask(self, home: Home, fn: Callable[..., Any], args: Sequence[Any]) -> Any:
        """Return ``fn(resident, *args)``.

        Raises
        ------
        Unanswered
        Exception
            Whatever `fn` raised.
        """
        if self._under_way >= MOST:
            raise Unanswered("there are connections for so many at a time")
        address = await self._address(home)
        self._under_way += 1
        reply = asyncio.ensure_future(self._reply(address, dumps((home.future.key, fn, *args))))
        try:
            while not (await asyncio.wait([reply], timeout=LOST_INTERVAL))[0]:
                await self._check_that_it_is_at(address, home)
            answer = reply.result()
        except Exception as error:
            self._raise_unless_lost(error)
            self._leave(address)
            raise Unanswered(f"{address}: {error}") from error
        finally:
            self._under_way -= 1
            reply.cancel()
        if answer is None or answer["status"] == NOT_HERE:
            self._leave(address)
            raise Unanswered(f"{address}: not there")
        if answer["status"] == "OK":
            return answer["result"]
        _, raised, remote_traceback = clean_exception(**answer)
        raise raised.with_traceback(remote_traceback)

    async def _reply(self, address: str, asked: bytes) -> dict[str, Any] | None:
        """Return what the worker says; None if it does not know what is asked."""
        reply: dict[str, Any] | None
        if self._client.direct_to_workers:
            reply = await getattr(self._client.rpc(address), OP)(asked=asked)
        else:
            message = {"op": OP, "asked": asked}
            reply = await self._client.scheduler.proxy(worker=address, msg=message)
        return reply

    async def _address(self, home: Home) -> str:
        """Return where the partition is, looking for all that have been loaded."""
        async with self._looking:
            if home.address is None:
                try:
                    await self._look()
                except Exception as error:
                    self._raise_unless_lost(error)
                    raise Unanswered(f"nobody says where partitions are: {error}") from error
        if home.address is None:
            raise Unanswered(f"{home.future.key} is nowhere")
        return home.address

    async def _look(self) -> None:
        with self._adding:
            loaded = [home for home in self._homes if home.is_loaded]
        used = Counter(home.address for home in loaded if home.address)
        unknown = [home for home in loaded if home.address is None]
        known = await self._who_has(unknown)
        moving = {}
        for home in unknown:
            if having := known[home.future.key]:
                moving[home] = min(having, key=lambda address: (used[address], address))
                used[moving[home]] += 1
        listening = set(self._stays.keys())
        new = [address for address in set(moving.values()) if address not in listening]
        heard = await asyncio.gather(*map(self._listens, new))
        listening.update(itertools.compress(new, heard))
        for home, address in moving.items():
            if address in listening:
                home.move_in(address, self._stay_at(address))

    async def _listens(self, address: str) -> bool:
        """Have a worker listen to requests; one that says nothing is left alone for a while."""
        if time.monotonic() < self._silent_until.get(address, 0.0):
            return False
        self._silent_until[address] = time.monotonic() + SILENCE
        there = {"workers": [address], "on_error": "return"}
        error = (await asyncio.wait_for(self._client.run(_listen, **there), LISTEN_TIMEOUT))[
            address
        ]
        if error is None:
            del self._silent_until[address]
        elif not isinstance(error, OSError):  # it lives, and will not have us
            self._deaf = True
        return error is None

    def _raise_unless_lost(self, error: Exception) -> None:
        """Raise what is not of a lost connection, which closed ones say in many ways."""
        if self._client.status == "running" and not isinstance(error, OSError | CancelledError):
            raise error

    async def _who_has(self, homes: Sequence[Home]) -> dict[Any, Sequence[str]]:
        """Return the addresses of the workers that have each partition, by its key."""
        keys = [home.future.key for home in homes]
        known = await self._client.scheduler.who_has(keys=keys)
        return {key: known.get(key, ()) for key in keys}

    async def _check_that_it_is_at(self, address: str, home: Home) -> None:
        if address not in (await self._who_has([home]))[home.future.key]:
            raise ConnectionError("the worker or its partition was lost")

    def _leave(self, address: str) -> None:
        """Forget what was at an address where nobody answers."""
        self._stays.pop(address, None)
        with self._adding:
            there = [home for home in self._homes if home.address == address]
        for home in there:
            home.move_out()

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
        call = partial(_reply, fn, worker.data[key], *args)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(worker.executors["default"], call)
    except Exception as error:
        return dict(error_message(error))


def _reply(fn: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """Run on a thread of the worker: call `fn`, and say what came of it."""
    try:
        return {"status": "OK", "result": to_serialize(fn(*args))}
    except Exception as error:
        return dict(error_message(error))


def _stay() -> None:
    """Run on a worker, beside what it computes: stay until nobody wants it any more."""
    worker = distributed.get_worker()
    key = worker.get_current_task()
    distributed.secede()
    while worker.status in WORKING and (
        (task := worker.state.tasks.get(key)) and task.state in ("executing", "long-running")
    ):
        time.sleep(STAY_INTERVAL)
