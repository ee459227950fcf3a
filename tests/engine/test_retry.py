"""Which failures are worth another attempt, as a table."""

from __future__ import annotations

import pytest

from distclust.engine.retry import Decision, RetryPolicy, decide
from distclust.errors import (
    ClusterError,
    ClusterTimeout,
    DataError,
    DistclustError,
    TaskFailed,
    WorkerLost,
)

RETRY, RAISE = Decision.RETRY, Decision.RAISE


@pytest.mark.parametrize(
    ("error", "attempt", "max_attempts", "decision"),
    [
        (WorkerLost("gone"), 1, 3, RETRY),
        (WorkerLost("gone"), 2, 3, RETRY),
        (WorkerLost("gone"), 3, 3, RAISE),
        (WorkerLost("gone"), 4, 3, RAISE),
        (WorkerLost("gone"), 1, 1, RAISE),
        (ClusterTimeout("silent"), 1, 3, RETRY),
        (ClusterTimeout("silent"), 3, 3, RAISE),
        (TaskFailed("bad"), 1, 3, RAISE),
        (TaskFailed("bad", cause=DataError("row 7")), 1, 3, RAISE),
        (TaskFailed("lost inside a call", cause=WorkerLost("gone")), 1, 3, RAISE),
        (ClusterError("closed"), 1, 3, RAISE),
        (DataError("row 7"), 1, 3, RAISE),
    ],
)
def test_decision(
    error: DistclustError, attempt: int, max_attempts: int, decision: Decision
) -> None:
    assert decide(error, attempt, RetryPolicy(max_attempts=max_attempts)) is decision


def test_default_patience_is_several_attempts_and_no_timeout() -> None:
    assert RetryPolicy() == RetryPolicy(max_attempts=6, call_timeout=None)
