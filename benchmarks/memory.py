"""What this process and those it started use: peak memory, read from Linux, and CPU time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PeakMemory", "cpu_seconds", "peak_memory"]

RESET = "5"  # for clear_refs: forget the peak


class PeakMemory:
    """What one process held at most, in bytes above what it held when `peak_memory` began.

    None where it cannot be known: on another system, or without psutil.
    """

    nbytes: int | None = None


@contextlib.contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Find by how much the process grew that grew most: this one, or a worker."""
    result = PeakMemory()
    before = {}
    for process in _processes():
        with contextlib.suppress(OSError):
            Path(f"/proc/{process}/clear_refs").write_text(RESET)
            before[process] = _held(process, "VmRSS")
    yield result
    growth = []
    for process in _processes():
        with contextlib.suppress(OSError):
            growth.append(_held(process, "VmHWM") - before.get(process, 0))
    result.nbytes = max(growth, default=None)


def cpu_seconds() -> float:
    """Return the CPU time so far of this process and of all under it that are still alive."""
    try:
        import psutil
    except ImportError:
        return time.process_time()
    total = 0.0
    for process in _processes():
        with contextlib.suppress(psutil.Error):
            used = psutil.Process(process).cpu_times()
            total += used.user + used.system
    return total


def _processes() -> list[int]:
    """Return this process and all under it."""
    try:
        import psutil
    except ImportError:
        return []
    try:
        children = psutil.Process().children(recursive=True)
    except psutil.Error:
        children = []
    return [os.getpid(), *(child.pid for child in children)]


def _held(process: int, name: str) -> int:
    """Read a size from the kernel's status of a process, in bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"process {process} has ended")
