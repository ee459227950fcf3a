"""Parallelism inside one call: tiles of rows over plain threads, BLAS at one thread each.

numba's own parallel loops abort when two threads enter them, and a BLAS that spawns
threads inside our threads oversubscribes the machine. So kernels are single-threaded
functions that release the GIL, and `map_tiles` spreads them.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

__all__ = ["map_tiles", "n_threads", "n_threads_for", "worker_threads"]

MOST_THREADS = 256  # beside those that call
PRODUCTS_PER_THREAD = 1 << 23  # fewer take less time than waking a thread does
PRODUCTS_PER_ROW = 256  # that take as long as what is done once a row

Tile = TypeVar("Tile")
Result = TypeVar("Result")

_threads: contextvars.ContextVar[int] = contextvars.ContextVar("distclust_threads", default=1)


def n_threads() -> int:
    """Return how many kernel threads the current call may use."""
    return _threads.get()


def n_threads_for(n_rows: int, products: int, most: int | None = None) -> int:
    """Return how many of them, or of `most`, are worth waking for so many products a row."""
    work = n_rows * (products + PRODUCTS_PER_ROW)
    return max(1, min(most or n_threads(), work // PRODUCTS_PER_THREAD))


@contextlib.contextmanager
def worker_threads(threads: int) -> Iterator[None]:
    """Run a call with `threads` kernel threads and a single-threaded BLAS."""
    token = _threads.set(threads)
    try:
        with _single_threaded_blas:
            yield
    finally:
        _threads.reset(token)


def map_tiles(fn: Callable[[Tile], Result], tiles: Iterable[Tile]) -> list[Result]:
    """Apply `fn` to each tile on this call's threads; results come in tile order.

    The calling thread is one of them, which saves waking another. Each takes the next tile
    that is left.
    """
    given = list(tiles)
    results: list[Result] = [None] * len(given)  # type: ignore[list-item]
    left = iter(range(len(given)))

    def work() -> None:
        try:
            for i in left:
                results[i] = fn(given[i])
        except BaseException:
            deque(left, maxlen=0)  # nobody starts another
            raise

    threads = min(n_threads(), len(given))
    others = [_pool().submit(work) for _ in range(threads - 1)]
    token = _threads.set(1)  # as for the others
    try:
        work()
    finally:
        _threads.reset(token)
        begun = [other for other in others if not other.cancel()]
        wait(begun)
    for other in begun:
        other.result()
    return results


@lru_cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads of all calls, started as they are needed."""
    return ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="distclust-tile")


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


class _SingleThreadedBlas:
    """Limits BLAS while at least one call is running, whichever thread ends last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._limit.enter_context(_controller().limit(limits=1, user_api="blas"))
            self._users += 1

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._limit.close()


@lru_cache
def _controller() -> ThreadpoolController:
    import numba.np.linalg  # noqa: F401 - loads the BLAS that np.dot uses in kernels
    import scipy.linalg.cython_blas  # noqa: F401 - ditto

    return ThreadpoolController()


_single_threaded_blas = _SingleThreadedBlas()
