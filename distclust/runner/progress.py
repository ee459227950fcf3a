"""Listeners that show a run to a person, and one that counts for the report.

On a terminal there is a bar; anywhere else (a cluster's job log) one line an iteration,
because bars fill logs with rubbish.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from distclust.engine.events import (
    CallRetried,
    Event,
    IterationDone,
    LateReply,
    Listener,
    StageDone,
    StageProgress,
    StageStarted,
)
from distclust.runner.secrets import scrub

__all__ = ["ProgressBar", "ProgressLines", "Tally", "describe", "shown_on"]


@dataclass
class Tally:
    """Counts events for the run report.

    Attributes
    ----------
    retries, late_replies, iterations : int
    stage_seconds : dict of str to float
        Time in each stage that the engine and the estimator report, added up.
    """

    retries: int = 0
    late_replies: int = 0
    iterations: int = 0
    stage_seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        match event:
            case CallRetried():
                self.retries += 1
            case LateReply():
                self.late_replies += 1
            case IterationDone():
                self.iterations += 1
            case StageDone():
                spent = self.stage_seconds.get(event.stage, 0.0)
                self.stage_seconds[event.stage] = spent + event.seconds


class Pace:
    """Mean seconds an iteration, for the time that may remain."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._count = 0

    def at_most(self, event: IterationDone) -> float:
        """Seconds until `max_iter`: a fit may converge sooner."""
        if event.iteration <= 1:  # the next fit
            self._seconds, self._count = 0.0, 0
        self._seconds += event.seconds
        self._count += 1
        return (event.max_iter - event.iteration) * self._seconds / self._count


def describe(event: IterationDone, at_most: float) -> str:
    """One iteration as a line.

    Examples
    --------
    >>> describe(IterationDone(iteration=3, max_iter=300, inertia=1234567.0,
    ...     center_shift=0.5, n_rows=1000, seconds=0.25), 74.25)
    'iteration 3/300  inertia 1.234567e+06  shift 5.00e-01  4,000 rows/s  ETA <= 1 min 14 s'
    """
    rate = event.n_rows / max(event.seconds, 1e-9)
    run = f"run {event.run}/{event.n_runs}  " if event.n_runs > 1 else ""
    return (
        f"{run}iteration {event.iteration}/{event.max_iter}  inertia {event.inertia:.6e}  "
        f"shift {event.center_shift:.2e}  {rate:,.0f} rows/s  ETA <= {duration(at_most)}"
    )


def duration(seconds: float) -> str:
    """Seconds for people.

    Examples
    --------
    >>> duration(0.42), duration(74.25), duration(7300)
    ('0.4 s', '1 min 14 s', '2 h 01 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class ProgressLines:
    """One line an iteration, a stage and an incident."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pace = Pace()

    def __call__(self, event: Event) -> None:
        match event:
            case IterationDone():
                self._say(describe(event, self._pace.at_most(event)))
            case StageDone():
                self._say(f"{event.stage}: done in {duration(event.seconds)}")
            case CallRetried() | LateReply():
                self._say(incident(event))

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class ProgressBar:
    """A bar for the stage at hand: partitions done, or iterations of the fit."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=None, detail="")
        self._pace = Pace()
        self._iterating = False  # then the bar counts iterations, not their partitions

    def __call__(self, event: Event) -> None:
        update = self._progress.update
        match event:
            case IterationDone():
                self._iterating = True
                text = describe(event, self._pace.at_most(event)).partition("  inertia")[2]
                update(
                    self._task,
                    description=f"iteration {event.iteration}",
                    completed=event.iteration,
                    total=event.max_iter,
                    detail=f"inertia{text}",
                )
            case StageStarted():
                self._iterating = False
                self._progress.reset(self._task, description=event.stage, total=None, detail="")
            case StageProgress() if not self._iterating:
                update(self._task, completed=event.done, total=event.total)
            case CallRetried() | LateReply():
                self._progress.console.print(incident(event), markup=False, highlight=False)


def incident(event: CallRetried | LateReply) -> str:
    """Say what went wrong and what is done about it."""
    if isinstance(event, CallRetried):
        return (
            f"partition {event.partition} was lost ({scrub(event.reason)}); "
            f"placed again, attempt {event.attempt}"
        )
    return f"partition {event.partition}: a late reply of attempt {event.attempt} was dropped"


@contextmanager
def shown_on(console: Console) -> Iterator[Listener]:
    """Yield the listener that suits a console: a bar on a terminal, else lines."""
    if not console.is_terminal:
        yield ProgressLines(console)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield ProgressBar(progress)
