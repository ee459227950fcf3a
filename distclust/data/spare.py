"""Memory of arrays that are gone, kept for the next ones.

An open local backend keeps it, and so do processes that a backend has for itself: Ray actors, and
workers of a Dask cluster of our own.

The system hands out memory a page at a time, and zeroed; a virtual machine whose host takes
back what is free may wait longer for it than a fit computes. What one fit keeps of each row,
the next on the same backend keeps too: it is given the same memory.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import threading
import weakref
from typing import Any

__all__ = ["SPARE", "Spare"]

LEAST = 1 << 22  # bytes of an array that is worth it
MOST = 1 << 30  # bytes that are kept


class Spare:
    """Hands out memory: what is kept, where there is some of that size.

    Attributes
    ----------
    n_bytes : int
        Bytes that are kept, and in no array.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # an array may be collected while another is made
        self._users = 0
        self._kept: list[mmap.mmap] = []  # the one that is longest unused first
        self.n_bytes = 0

    def enter(self) -> None:
        """Keep memory from here on, until all who entered have left."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Let go of all memory if nobody else keeps it."""
        with self._lock:
            self._users -= 1
        if self._users == 0:
            self.shrink(0)

    def shrink(self, n_bytes: int) -> None:
        """Keep no more than so many bytes."""
        with self._lock:
            while self.n_bytes > max(n_bytes, 0):
                self.n_bytes -= len(self._kept.pop(0))

    def buffer(self, n_bytes: int) -> Any:
        """Return what an array can be made from, and is kept when that is gone.

        None if nobody keeps memory, or so little.
        """
        if self._users == 0 or n_bytes < LEAST:
            return None
        mapping = self._taken(n_bytes) or _mapped(n_bytes)
        buffer = (ctypes.c_char * n_bytes).from_buffer(mapping)
        weakref.finalize(buffer, self._give_back, mapping).atexit = False
        return buffer

    def _taken(self, n_bytes: int) -> mmap.mmap | None:
        with self._lock:
            for place, mapping in enumerate(self._kept):
                if len(mapping) == n_bytes:
                    self.n_bytes -= n_bytes
                    return self._kept.pop(place)
        return None

    def _give_back(self, mapping: mmap.mmap) -> None:
        with self._lock:
            if self._users > 0:
                self._kept.append(mapping)
                self.n_bytes += len(mapping)
                self.shrink(MOST)


def _mapped(n_bytes: int) -> mmap.mmap:
    """Return new memory, in large pages where the system has any."""
    mapping = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):  # it has none
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


SPARE = Spare()
"""What this process keeps."""
