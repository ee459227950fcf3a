"""Times one call, and notes why a contender failed."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from threadpoolctl import threadpool_limits

__all__ = ["failures_noted", "timed"]

ASLEEP = 0.5  # seconds; idle threads of Intel's and LLVM's OpenMP wait busily for 0.2

T = TypeVar("T")


class Fallible(Protocol):
    """What can fail, and say why."""

    error: str | None


def timed(fit: Callable[[], T], threads: int) -> tuple[float, T]:
    """Time one whole fit, in seconds of wall time, with at most `threads` threads here.

    It begins when the threads of the fit before are asleep.
    """
    time.sleep(ASLEEP)
    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore")  # not converged: that may be the point
        start = time.perf_counter()
        result = fit()
        return time.perf_counter() - start, result


@contextlib.contextmanager
def failures_noted(series: Fallible) -> Iterator[None]:
    """Note why a contender failed: it is out of this case, and the others go on."""
    try:
        yield
    except Exception as error:
        series.error = f"{type(error).__name__}: {error}"
