"""Memory of arrays that are gone, kept for the next ones.

An open local backend keeps it, and so do processes that a backend has for itself: Ray actors, and
workers of a Dask cluster of our own.

The system hands out memory a page at a time, and zeroed; a virtual machine whose host takes
back what is free may wait longer for it than a fit computes. What one fit keeps of each row,
the next on the same backend keeps too: it is given the same memory.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import OrderedDict

__all__ = ["SPARE", "Spare"]

LEAST = 1 << 22  # bytes of an array that is worth it
MOST = 1 << 30  # bytes that are kept


class Spare:
    """Hands out memory: what is kept, where there is some of that size.

    An array may be collected while another is made, and memory be given back, or let go,
    between any two lines.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._users = 0
        self._kept: OrderedDict[int, mmap.mmap] = OrderedDict()  # the longest unused first

    @property
    def n_bytes(self) -> int:
        """Bytes that are kept, and in no array."""
        return sum(map(len, list(self._kept.values())))

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
            for key in list(self._kept):
                if self.n_bytes <= n_bytes:
                    break
                self._kept.pop(key, None)

    def take(self, n_bytes: int) -> mmap.mmap | None:
        """Return memory for an array, which is to be given back once that is gone.

        None if nobody keeps memory, or so little, or the system has none.
        """
        if self._users == 0 or n_bytes < LEAST:
            return None
        with self._lock:
            for key, mapping in list(self._kept.items()):
                if len(mapping) == n_bytes and self._kept.pop(key, None) is not None:
                    return mapping
        try:
            return _mapped(n_bytes)
        except OSError:  # what is kept may be in the way
            self.shrink(0)
            return None

    def give_back(self, mapping: mmap.mmap) -> None:
        """Keep the memory of an array that is gone, if somebody keeps any."""
        with self._lock:
            if self._users > 0:
                self._kept[id(mapping)] = mapping
                self.shrink(MOST)


def _mapped(n_bytes: int) -> mmap.mmap:
    """Return new memory, in large pages where the system has any."""
    mapping = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):  # it has none
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


SPARE = Spare()
"""What this process keeps."""
