"""Where a worker keeps arrays as long as its rows: in memory, or on disk beyond a limit.

Owns how much memory the rows of a process may take, who takes it, and the scratch files
of what exceeds it. Such a file is memory-mapped, so everybody sees ordinary arrays, and
has no name: the system frees it with its last array, or with the process, however that
ends. What is in an array never depends on where it is.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import math
import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.data.spare import SPARE
from distclust.errors import ClusterError, ConfigError

__all__ = [
    "ROOMY",
    "RUNTIME_BYTES",
    "Room",
    "Storage",
    "current_storage",
    "load_within",
    "machine_memory",
    "parse_bytes",
]

RUNTIME_BYTES = 512 << 20  # Python, pyarrow, scikit-learn, and numba compiling all kernels
ROWS_SHARE = 2 / 3  # of the rest of the limit; the last third is for what passes by
DEFAULT_SHARE = 0.8  # of the machine's memory, among the workers on it
FILLED_ROWS = 1 << 20  # at a time
UNITS = {"": 1, "B": 1, **{f"{p}iB": 1 << 10 * i for i, p in enumerate("KMGT", 1)}}
UNITS |= {f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}


@dataclass(frozen=True, kw_only=True)
class Room:
    """What one worker process may use.

    Attributes
    ----------
    memory_limit : int or None
        Bytes its memory should stay within. None means its share of the machine's memory,
        found out on the worker.
    scratch_dir : str or None
        Directory, on the worker, of scratch files. None means ``$TMPDIR``, else
        ``/var/tmp``.
    sharers : int
        Worker processes on the same machine.
    """

    memory_limit: int | None = None
    scratch_dir: str | None = None
    sharers: int = 1

    @classmethod
    def of(cls, memory_limit: int | str | None = None, scratch_dir: str | None = None) -> Room:
        """Check what a user gave, and ask the environment for what they did not.

        Raises
        ------
        ConfigError
            The limit is no size, or leaves nothing for rows.

        Examples
        --------
        >>> Room.of("4GiB").memory_limit
        4294967296
        """
        given = memory_limit
        if given is None:
            given = os.environ.get("DISTCLUST_MEMORY_LIMIT") or None
        limit = None if given is None else parse_bytes(given, "memory_limit")
        if limit is not None and limit <= RUNTIME_BYTES:
            raise ConfigError(
                f"memory_limit={given!r} should be more than {RUNTIME_BYTES >> 20}MiB, which a "
                "worker needs before it holds any rows"
            )
        directory = scratch_dir or os.environ.get("DISTCLUST_SCRATCH_DIR") or None
        return cls(memory_limit=limit, scratch_dir=directory)

    def shared(self, sharers: int) -> Room:
        """Return the room of each of so many worker processes on a machine."""
        return replace(self, sharers=sharers)

    @property
    def limit(self) -> int:
        """Bytes of memory a worker on this machine may use."""
        return self.memory_limit or int(machine_memory() * DEFAULT_SHARE) // self.sharers

    @property
    def row_bytes(self) -> int:
        """Bytes of it for rows, and for what is kept of each row."""
        return max(0, int((self.limit - RUNTIME_BYTES) * ROWS_SHARE))

    @property
    def directory(self) -> str:
        """Where scratch files go."""
        return self.scratch_dir or os.environ.get("TMPDIR") or "/var/tmp"


ROOMY = Room(memory_limit=1 << 62)
"""Enough for anything: where nobody set a limit."""


class Ledger:
    """Counts the bytes that all arrays of this process take, in memory and on disk."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # an array may be collected while another is counted
        self.in_memory = 0
        self.on_disk = 0

    def take(self, n_bytes: int, limit: int) -> bool:
        """Count them in memory if they fit below the limit, else on disk; say which."""
        with self._lock:
            fits = n_bytes == 0 or self.in_memory + n_bytes <= limit
            self._add(n_bytes, fits)
        SPARE.shrink(limit - self.in_memory)
        return fits

    def give_back(self, n_bytes: int, fitted: bool) -> None:
        with self._lock:
            self._add(-n_bytes, fitted)

    def _add(self, n_bytes: int, in_memory: bool) -> None:
        if in_memory:
            self.in_memory += n_bytes
        else:
            self.on_disk += n_bytes


LEDGER = Ledger()


def _in_memory(shape: tuple[int, ...], dtype: np.dtype[Any], n_bytes: int) -> npt.NDArray[Any]:
    """Make an array in memory that is counted already."""
    mapping = SPARE.take(n_bytes)
    owner: Any
    array: npt.NDArray[Any]
    if mapping is None:
        try:
            array = owner = np.empty(shape, dtype)
        except MemoryError:
            LEDGER.give_back(n_bytes, True)
            raise
    else:
        owner = (ctypes.c_char * n_bytes).from_buffer(mapping)
        array = np.frombuffer(owner, dtype).reshape(shape)
    weakref.finalize(owner, _give_back, n_bytes, mapping).atexit = False
    return array


def _give_back(n_bytes: int, mapping: mmap.mmap | None) -> None:
    """Keep the memory, then count it as free: nobody is to have it twice in between."""
    if mapping is not None:
        SPARE.give_back(mapping)
    LEDGER.give_back(n_bytes, True)


class Storage:
    """Makes the arrays of one partition.

    Parameters
    ----------
    room : Room
    """

    def __init__(self, room: Room = ROOMY) -> None:
        self.room = room
        self._lock = threading.Lock()
        self._maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

    def __reduce__(self) -> tuple[type[Storage], tuple[Room]]:
        return type(self), (self.room,)

    @property
    def mapped_bytes(self) -> int:
        """Bytes of its arrays that are on disk."""
        with self._lock:
            return sum(len(mapping) for mapping in self._maps)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        """Return an array of undefined content, on disk if it does not fit in memory.

        Raises
        ------
        ClusterError
            It does not fit on the disk either.
        """
        shape, dtype = (shape,) if isinstance(shape, int) else shape, np.dtype(dtype)
        n_bytes = math.prod(shape) * dtype.itemsize
        if LEDGER.take(n_bytes, self.room.row_bytes):
            return _in_memory(shape, dtype, n_bytes)
        mapping = self._map(n_bytes)
        weakref.finalize(mapping, LEDGER.give_back, n_bytes, False).atexit = False
        return np.frombuffer(mapping, dtype).reshape(shape)

    def full(self, shape: int | tuple[int, ...], value: Any, dtype: Any) -> npt.NDArray[Any]:
        """Return an array of the same value, rows first."""
        array = self.empty(shape, dtype)
        for start in range(0, len(array), FILLED_ROWS):
            array[start : start + FILLED_ROWS] = value
            self.release()
        return array

    def release(self) -> None:
        """Take mapped pages out of this process: the system's page cache keeps what it can."""
        with self._lock:
            mappings = list(self._maps)
        for mapping in mappings:
            mapping.madvise(mmap.MADV_DONTNEED)  # of a shared file: nothing written is lost

    def _map(self, n_bytes: int) -> mmap.mmap:
        """Map a new scratch file."""
        directory = self.room.directory
        try:
            with tempfile.TemporaryFile(dir=directory) as file:
                os.posix_fallocate(file.fileno(), 0, n_bytes)  # or a full disk would be SIGBUS
                mapping = mmap.mmap(file.fileno(), n_bytes)
        except OSError as error:
            LEDGER.give_back(n_bytes, False)
            raise ClusterError(
                f"{n_bytes} bytes of rows exceed the worker's memory limit, and cannot go to its "
                f"scratch directory {directory!r}: {error}; set scratch_dir to a disk with room, "
                "use more workers, or raise memory_limit"
            ) from error
        with self._lock:
            self._maps.add(mapping)
        return mapping


_room: contextvars.ContextVar[Room] = contextvars.ContextVar("distclust_room", default=ROOMY)


def load_within(room: Room, load: Callable[..., Any], *args: Any) -> Any:
    """Call ``load(*args)``; what `current_storage` returns there keeps to `room`."""
    with _within(room):
        return load(*args)


@contextlib.contextmanager
def _within(room: Room) -> Iterator[None]:
    token = _room.set(room)
    try:
        yield
    finally:
        _room.reset(token)


def current_storage() -> Storage:
    """Return a storage for a partition that is being loaded."""
    return Storage(_room.get())


def parse_bytes(size: int | str, what: str) -> int:
    """Read a size such as ``"2GiB"``.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> parse_bytes("1.5 GiB", "memory_limit"), parse_bytes("500MB", "memory_limit")
    (1610612736, 500000000)
    """
    number = str(size).rstrip("BKMGTi ")
    unit = str(size)[len(number) :].strip()
    try:
        value = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(f"{what}={size!r} is no size; write it like 2GiB, 500MB or 2000000000")
    return int(value)


@cache
def machine_memory() -> int:
    """Return the bytes of memory that processes like this one may use together."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_control_group_limits()])


def _control_group_limits() -> Iterator[int]:
    """Yield the memory limits of this process's control group and of those it is in."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in ("", "memory"):
                root = Path("/sys/fs/cgroup", controllers)
                name = "memory.limit_in_bytes" if controllers else "memory.max"
                inner = root / path.lstrip("/")
                groups = (group for group in (inner, *inner.parents) if group.is_relative_to(root))
                for group in groups:
                    with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                        yield int((group / name).read_text())
