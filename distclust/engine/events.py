"""What a run tells whoever listens: small frozen events with units in their names.

The engine and the estimators emit events; listeners (log lines, JSON lines, a progress
bar) turn them into something to look at. A listener never changes a result.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

__all__ = [
    "CallRetried",
    "Event",
    "IterationDone",
    "JsonLines",
    "LateReply",
    "Listener",
    "LogLines",
    "StageDone",
    "StageProgress",
    "StageStarted",
]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, kw_only=True)
class StageStarted(Event):
    """A named part of a run begins."""

    stage: str


@dataclass(frozen=True, kw_only=True)
class StageProgress(Event):
    """`done` of `total` partitions of the stage have answered."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class StageDone(Event):
    """A named part of a run is finished."""

    stage: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class IterationDone(Event):
    """One iteration of a fit; `inertia` is that of the centers it started from.

    `converged` says why it was the last: ``"strict convergence"`` (no label changed),
    ``"tolerance"`` (the centers rest), or empty when it was not. With `n_runs` above one,
    it is of the `run`-th, from 1, of as many runs side by side.
    """

    iteration: int
    max_iter: int
    inertia: float
    center_shift: float
    n_rows: int
    seconds: float
    converged: str = ""
    tolerance: float = 0.0
    run: int = 1
    n_runs: int = 1


@dataclass(frozen=True, kw_only=True)
class CallRetried(Event):
    """A partition's worker was lost; the partition is placed again and the call repeated."""

    partition: int
    attempt: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class LateReply(Event):
    """A replaced call answered after all; its reply was dropped."""

    partition: int
    attempt: int


Listener = Callable[[Event], None]

_log = logging.getLogger("distclust")


class LogLines:
    """Writes one log line an iteration or stage, to the ``distclust`` logger."""

    def __call__(self, event: Event) -> None:
        match event:
            case IterationDone():
                _log.info(
                    "iteration %d/%d  inertia %.8g  shift %.3g  %.3g rows/s",
                    event.iteration,
                    event.max_iter,
                    event.inertia,
                    event.center_shift,
                    event.n_rows / max(event.seconds, 1e-9),
                )
            case StageDone():
                _log.info("%s done in %.2f s", event.stage, event.seconds)
            case CallRetried() | LateReply():
                _log.warning("%s", event)


class JsonLines:
    """Writes every event as one JSON line with its kind and the time in seconds.

    Parameters
    ----------
    stream : text file
        Left open; flushed after each line.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        record = {"event": type(event).__name__, "time": time.time(), **dataclasses.asdict(event)}
        self._stream.write(json.dumps(record) + "\n")
        self._stream.flush()
