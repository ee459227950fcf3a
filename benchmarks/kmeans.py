"""Runs the K-Means contenders: they take turns, and every fit is timed whole.

The contenders of a place do one fit each, then the next round begins, so that a machine
that slows down slows everyone down. Every fit is a JSON line, written at once. Those that
the file already holds, of the same commit, are not run again: what was interrupted goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from benchmarks import cases, places, report
from benchmarks.contender import Contender
from benchmarks.environment import environment
from benchmarks.inertia import inertia
from benchmarks.modes import Mode
from benchmarks.ours import OURS
from benchmarks.peers import PEERS, ScikitLearn
from benchmarks.timing import failures_noted, timed

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line, parsed."""

    mode: Mode
    peers: Sequence[str]
    ours: Sequence[str]
    cases: Sequence[cases.Case]
    repeats: int
    workers: int
    chunks_per_worker: int
    dask_input: str
    scale: float
    limit: float
    json: Path | None
    dtype: str = "float32"

    def label(self, case: cases.Case) -> str:
        """Name a case: other rows are another problem, never pooled with it."""
        part = "" if self.scale == 1.0 else f" x {self.scale:g}"
        return case.name + part + ("" if self.dtype == "float32" else f" {self.dtype}")

    def asked(self, case: cases.Case, contender: Contender, budget: int | None) -> report.Line:
        """Return what a JSON line says of how a fit was asked for."""
        line = {
            "benchmark": "kmeans",
            "mode": self.mode.name,
            "case": self.label(case),
            "contender": contender.name,
            "place": contender.place,
            "workers": self.workers,
            "budget": budget,
        }
        if contender.place == "dask":
            line |= {"chunks_per_worker": self.chunks_per_worker, "dask_input": self.dask_input}
        return line


@dataclass(kw_only=True, eq=False)
class Series:
    """The fits of one contender in one case with one limit on iterations."""

    contender: Contender
    budget: int | None
    asked: report.Line
    seconds: list[float] = field(default_factory=list)
    n_iter: list[int] = field(default_factory=list)
    error: str | None = None

    def take(self, line: report.Line) -> None:
        """Count a fit in."""
        self.seconds += line["seconds"]
        self.n_iter += line["n_iter"]


def run(options: Options) -> int:
    """Run all cases at all places, report each fit as it is done, and print the table."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    about = environment()
    console.print(report.headline(about, options.workers))
    present = []
    for contender in [PEERS[name]() for name in options.peers] + [OURS[n]() for n in options.ours]:
        reason = contender.missing()
        if reason is None and options.mode.admits(contender):
            present.append(contender)
        elif reason is not None:
            console.print(f"[yellow]skipped[/] {contender.name}: {reason}", highlight=False)
    lines = _held(options, about["commit"])
    for line in _lines(options, present, list(lines)):
        lines.append({**line, **about})
        console.print(report.sentence(line), highlight=False)
        if options.json is not None:
            with options.json.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
    failed = [line for line in lines if line["error"]]
    report.show([*report.pooled(lines), *failed], console)
    return int(bool(failed))


def _held(options: Options, commit: str | None) -> list[report.Line]:
    """Return the fits of this commit, mode and cases that the file holds."""
    known = commit is not None and not commit.endswith("-dirty")
    if not known or options.json is None or not options.json.exists():
        return []
    found = map(json.loads, options.json.read_text().splitlines())
    labels = {options.label(case) for case in options.cases}
    of_mode = [line for line in found if line.get("mode") == options.mode.name]
    return [
        line
        for line in of_mode
        if line["case"] in labels and line["commit"] == commit and not line["error"]
    ]


def _lines(
    options: Options, present: Sequence[Contender], held: Sequence[report.Line]
) -> Iterator[report.Line]:
    """Yield one record for each fit, and for each failure.

    The iterations that scikit-learn took in a case are kept for those that come after it.
    """
    references = {
        line["case"]: line["n_iter"][0]
        for line in reversed(held)
        if line["contender"] == ScikitLearn.name
    }
    for kind in places.PLACES:
        here = [contender for contender in present if contender.place == kind]
        started = [(case, _series(options, case, here, held)) for case in options.cases]
        ahead = [(case, series) for case, series in started if _wanting(series, options)]
        if not ahead:
            continue
        with places.opened(
            kind, options.workers, options.chunks_per_worker, options.dask_input
        ) as place:
            for case, series in ahead:
                problem = cases.make(case, options.scale, options.dtype)
                yield from _measure(series, place, problem, options, references)
                place.forget()


def _series(
    options: Options,
    case: cases.Case,
    here: Sequence[Contender],
    held: Sequence[report.Line],
) -> list[Series]:
    """Return everyone's fits in a case, as far as they are held."""
    everyone = [
        Series(contender=contender, budget=budget, asked=options.asked(case, contender, budget))
        for budget in sorted(options.mode.budgets, key=lambda budget: budget or 0)
        for contender in here
    ]
    for series in everyone:
        for line in held:
            if series.asked.items() <= line.items():
                series.take(line)
    return everyone


def _wanting(everyone: Sequence[Series], options: Options) -> list[Series]:
    """Return who has fits to do: not failed, not out of time, not converged with less."""
    return [
        series
        for series in everyone
        if series.error is None
        and len(series.seconds) < options.repeats
        and not (series.seconds and sum(series.seconds) >= options.limit)
        and not _settled(series, everyone)
    ]


def _settled(series: Series, everyone: Sequence[Series]) -> bool:
    """Tell whether this contender has converged with a smaller limit than this."""
    return any(
        other.contender is series.contender and n_iter < (other.budget or 0) < (series.budget or 0)
        for other in everyone
        for n_iter in other.n_iter[:1]
    )


def _measure(
    everyone: Sequence[Series],
    place: places.Place,
    problem: cases.Problem,
    options: Options,
    references: dict[str, int],
) -> Iterator[report.Line]:
    """Warm up, then let the contenders take turns."""
    warm: dict[Contender, str | None] = {}
    for series in _wanting(everyone, options):
        if series.contender not in warm:
            with failures_noted(series):
                series.contender.prepare(place, problem.X)
                short = options.mode.warm_up(problem)
                timed(partial(series.contender.fit, short), options.workers)
            warm[series.contender] = series.error
            if series.error is not None:
                yield _record(series, problem)
        series.error = warm[series.contender]
    for number in range(options.repeats):
        for series in everyone:
            if len(series.seconds) <= number and series in _wanting(everyone, options):
                line = _fit(series, number, problem, options, references)
                if series.error is None:
                    series.take(line)
                yield line


def _fit(
    series: Series,
    number: int,
    problem: cases.Problem,
    options: Options,
    references: dict[str, int],
) -> report.Line:
    """Run the next fit of a contender, and return its record."""
    mode, case = options.mode, options.label(problem.case)
    with failures_noted(series):
        request = mode.request(
            problem,
            series.contender,
            budget=series.budget,
            seed=number if mode.new_seeds else 0,
            reference=references.get(case),
        )
        seconds, fitted = timed(partial(series.contender.fit, request), options.workers)
        if isinstance(series.contender, ScikitLearn):
            references.setdefault(case, int(fitted.n_iter))
        new = mode.new_seeds or number == 0  # else the same centers again
        return _record(series, problem) | {
            "seconds": [round(seconds, 5)],
            "n_iter": [int(fitted.n_iter)],
            "inertia": [inertia(problem.X, fitted.centers)] if new else [],
        }
    return _record(series, problem)


def _record(series: Series, problem: cases.Problem) -> report.Line:
    """Make the JSON record of what a fit was of."""
    return series.asked | {
        "n_rows": len(problem.X),
        "n_features": problem.X.shape[1],
        "n_clusters": len(problem.centers),
        "dtype": str(problem.X.dtype),
        "error": series.error,
    }
