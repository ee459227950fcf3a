"""When to repeat a call: one pure function, so that it can be tested as a table."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from distclust.errors import ClusterTimeout, DistclustError, WorkerLost

__all__ = ["Decision", "RetryPolicy", "decide"]


class Decision(enum.Enum):
    """What to do with a call that failed."""

    RETRY = "retry"
    RAISE = "raise"


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Limits of patience.

    Attributes
    ----------
    max_attempts : int
        Attempts at one call, the first included.
    call_timeout : float or None
        Seconds after which a call is given up and repeated elsewhere; None waits as
        long as its worker lives.
    """

    max_attempts: int = 6
    call_timeout: float | None = None


def decide(error: DistclustError, attempt: int, policy: RetryPolicy) -> Decision:
    """Repeat what a lost or silent worker left undone; raise what a function raised.

    Calls are pure, so a function that raised would raise again; only the loss of the
    place where it ran is worth another attempt.

    Parameters
    ----------
    error : DistclustError
    attempt : int
        Attempts made so far, 1 for the first.
    policy : RetryPolicy

    Examples
    --------
    >>> from distclust.errors import TaskFailed, WorkerLost
    >>> decide(WorkerLost("gone"), 1, RetryPolicy())
    <Decision.RETRY: 'retry'>
    >>> decide(TaskFailed("bad"), 1, RetryPolicy())
    <Decision.RAISE: 'raise'>
    """
    if isinstance(error, WorkerLost | ClusterTimeout) and attempt < policy.max_attempts:
        return Decision.RETRY
    return Decision.RAISE
