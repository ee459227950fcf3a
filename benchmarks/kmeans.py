"""Runs the K-Means contenders: they take turns, and every fit is timed whole.

The contenders of a place do one fit each, then the next round begins, so that a machine
that slows down slows everyone down.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

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


@dataclass(kw_only=True)
class Series:
    """The fits of one contender with one limit on iterations."""

    contender: Contender
    budget: int | None
    seconds: list[float] = field(default_factory=list)
    n_iter: list[int] = field(default_factory=list)
    inertia: list[float] = field(default_factory=list)
    error: str | None = None


def run(options: Options) -> int:
    """Run all cases at all places, report each as it is done, and print the table."""
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
    lines = []
    for line in _lines(options, present):
        lines.append(line)
        console.print(report.sentence(line), highlight=False)
        if options.json is not None:
            with options.json.open("a") as file:
                file.write(json.dumps({**line, **about}) + "\n")
    report.show(lines, console)
    return int(any(line["error"] for line in lines))


def _lines(options: Options, present: Sequence[Contender]) -> Iterator[dict[str, Any]]:
    """Yield one record for each case, contender and budget."""
    references: dict[str, int] = {}
    for kind in places.PLACES:
        here = [contender for contender in present if contender.place == kind]
        if not here:
            continue
        with places.opened(
            kind, options.workers, options.chunks_per_worker, options.dask_input
        ) as place:
            for case in options.cases:
                problem = cases.make(case, options.scale)
                for series in _measure(here, place, problem, options, references):
                    yield _record(series, problem, options)
                place.forget()


def _measure(
    here: Sequence[Contender],
    place: places.Place,
    problem: cases.Problem,
    options: Options,
    references: dict[str, int],
) -> list[Series]:
    """Warm up, then let the contenders take turns.

    `references` holds the iterations that scikit-learn took in a case: filled here in its
    first round, read by those that come after it.
    """
    mode, name = options.mode, problem.case.name
    everyone = []
    for contender in here:
        warm_up = Series(contender=contender, budget=None)
        with failures_noted(warm_up):
            contender.prepare(place, problem.X)
            timed(partial(contender.fit, mode.warm_up(problem)), options.workers)
        budgets = mode.budgets if warm_up.error is None else mode.budgets[:1]
        everyone += [Series(contender=contender, budget=b, error=warm_up.error) for b in budgets]
    began = time.monotonic()
    for seed in range(options.repeats):
        if seed > 0 and time.monotonic() - began > options.limit:
            break
        for series in sorted(everyone, key=lambda s: s.budget or 0):  # stable: contenders in turn
            if series.error is not None or _settled(series, everyone):
                continue
            with failures_noted(series):
                request = mode.request(
                    problem,
                    series.contender,
                    budget=series.budget,
                    seed=seed if mode.new_seeds else 0,
                    reference=references.get(name),
                )
                seconds, fitted = timed(partial(series.contender.fit, request), options.workers)
                series.seconds.append(seconds)
                series.n_iter.append(int(fitted.n_iter))
                if mode.new_seeds or seed == 0:
                    series.inertia.append(inertia(problem.X, fitted.centers))
                if isinstance(series.contender, ScikitLearn):
                    references.setdefault(name, int(fitted.n_iter))
    return [series for series in everyone if series.seconds or series.error]


def _settled(series: Series, everyone: Sequence[Series]) -> bool:
    """Tell whether this contender has converged with a smaller limit than this."""
    return any(
        other.contender is series.contender and n_iter < (other.budget or 0) < (series.budget or 0)
        for other in everyone
        for n_iter in other.n_iter[:1]
    )


def _record(series: Series, problem: cases.Problem, options: Options) -> dict[str, Any]:
    """Make the JSON record of a series."""
    whole = options.scale == 1.0  # a part of the rows is another problem: never pooled with it
    record: dict[str, Any] = {
        "benchmark": "kmeans",
        "mode": options.mode.name,
        "case": problem.case.name if whole else f"{problem.case.name} x {options.scale:g}",
        "n_rows": len(problem.X),
        "n_features": problem.X.shape[1],
        "n_clusters": len(problem.centers),
        "dtype": str(problem.X.dtype),
        "contender": series.contender.name,
        "place": series.contender.place,
        "workers": options.workers,
        "budget": series.budget,
        "error": series.error,
    }
    if series.contender.place == "dask":
        record |= {
            "chunks_per_worker": options.chunks_per_worker,
            "dask_input": options.dask_input,
        }
    if series.error is not None:
        return record
    return record | {
        "seconds": [round(seconds, 5) for seconds in series.seconds],
        "median_seconds": round(statistics.median(series.seconds), 5),
        "n_iter": series.n_iter,
        "inertia": series.inertia,
    }
