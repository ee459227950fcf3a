"""What a person sees of a run, and what is counted."""

from __future__ import annotations

import io

from rich.console import Console

from distclust.engine.events import (
    CallRetried,
    Event,
    IterationDone,
    LateReply,
    StageDone,
    StageProgress,
    StageStarted,
)
from distclust.runner.progress import ProgressLines, Tally, shown_on

EVENTS: list[Event] = [
    StageStarted(stage="seeding"),
    StageProgress(stage="seeding", done=1, total=4),
    StageDone(stage="seeding", seconds=2.0),
    IterationDone(iteration=1, max_iter=5, inertia=10.0, center_shift=0.5, n_rows=100, seconds=2.0),
    CallRetried(partition=3, attempt=2, reason="tcp://me:hunter2@host:1 is gone"),
    IterationDone(iteration=2, max_iter=5, inertia=9.0, center_shift=0.25, n_rows=100, seconds=4.0),
    LateReply(partition=3, attempt=1),
]


def shown(terminal: bool) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=150)
    with shown_on(console) as listener:
        for event in EVENTS:
            listener(event)
    return stream.getvalue()


def test_lines() -> None:
    assert shown(terminal=False).splitlines() == [
        "seeding: done in 2.0 s",
        "iteration 1/5  inertia 1.000000e+01  shift 5.00e-01  50 rows/s  ETA <= 8.0 s",
        "partition 3 was lost (tcp://***@host:1 is gone); placed again, attempt 2",
        "iteration 2/5  inertia 9.000000e+00  shift 2.50e-01  25 rows/s  ETA <= 9.0 s",
        "partition 3: a late reply of attempt 1 was dropped",
    ]


def test_bar() -> None:
    text = shown(terminal=True)
    assert "iteration 2" in text
    assert "ETA <= 9.0 s" in text
    assert "placed again" in text


def test_each_run_of_a_fit_has_its_own_pace() -> None:
    stream = io.StringIO()
    lines = ProgressLines(Console(file=stream, width=150))
    for seconds in (100.0, 1.0):
        lines(
            IterationDone(
                iteration=1, max_iter=3, inertia=1.0, center_shift=1.0, n_rows=1, seconds=seconds
            )
        )
    assert stream.getvalue().splitlines()[1].endswith("ETA <= 2.0 s")


def test_tally() -> None:
    tally = Tally()
    for event in [*EVENTS, StageDone(stage="seeding", seconds=1.0)]:
        tally(event)
    assert (tally.retries, tally.late_replies, tally.iterations) == (1, 1, 2)
    assert tally.stage_seconds == {"seeding": 3.0}
