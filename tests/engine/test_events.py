"""Listeners: log lines for people, JSON lines for programs."""

from __future__ import annotations

import io
import json
import logging

import pytest

from distclust.engine.events import (
    CallRetried,
    Event,
    IterationDone,
    JsonLines,
    LateReply,
    LogLines,
    StageDone,
    StageProgress,
    StageStarted,
)

ITERATION = IterationDone(
    iteration=3, max_iter=300, inertia=1234.5, center_shift=0.25, n_rows=1000, seconds=0.5
)


@pytest.mark.parametrize(
    ("event", "level", "line"),
    [
        (ITERATION, "INFO", "iteration 3/300  inertia 1234.5  shift 0.25  2e+03 rows/s"),
        (StageDone(stage="seeding", seconds=1.234), "INFO", "seeding done in 1.23 s"),
        (
            CallRetried(partition=2, attempt=2, reason="gone"),
            "WARNING",
            "CallRetried(partition=2, attempt=2, reason='gone')",
        ),
        (LateReply(partition=2, attempt=1), "WARNING", "LateReply(partition=2, attempt=1)"),
    ],
)
def test_log_lines(event: Event, level: str, line: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="distclust"):
        LogLines()(event)
    assert [(r.name, r.levelname, r.getMessage()) for r in caplog.records] == [
        ("distclust", level, line)
    ]


@pytest.mark.parametrize(
    "event", [StageStarted(stage="x"), StageProgress(stage="x", done=1, total=2)]
)
def test_log_lines_leave_small_steps_out(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="distclust"):
        LogLines()(event)
    assert not caplog.records


def test_an_iteration_in_no_time_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    event = IterationDone(
        iteration=1, max_iter=1, inertia=0.0, center_shift=0.0, n_rows=5, seconds=0.0
    )
    with caplog.at_level(logging.INFO, logger="distclust"):
        LogLines()(event)
    assert "5e+09 rows/s" in caplog.text


class Stream(io.StringIO):
    """Counts flushes."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


def test_json_lines_hold_every_field_of_every_event() -> None:
    stream = Stream()
    listener = JsonLines(stream)
    events = [StageStarted(stage="seeding"), ITERATION, LateReply(partition=2, attempt=1)]
    for count, event in enumerate(events, start=1):
        listener(event)
        assert stream.flushes == count
    assert not stream.closed
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    times = [record.pop("time") for record in records]
    assert times == sorted(times)
    assert records == [
        {"event": "StageStarted", "stage": "seeding"},
        {
            "event": "IterationDone",
            "iteration": 3,
            "max_iter": 300,
            "inertia": 1234.5,
            "center_shift": 0.25,
            "n_rows": 1000,
            "seconds": 0.5,
            "converged": "",
            "tolerance": 0.0,
            "run": 1,
            "n_runs": 1,
        },
        {"event": "LateReply", "partition": 2, "attempt": 1},
    ]


def test_events_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ITERATION.iteration = 4  # type: ignore[misc]
