"""The K-Means benchmark: fixed Lloyd iterations from the same centers, interleaved repeats.

The contenders of a place take turns: one fit each, then the next repeat, so that a machine
that slows down slows everyone down. Figures are medians of whole fits.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from threadpoolctl import threadpool_limits

from benchmarks import cases, contenders, places, report
from benchmarks.contenders import Contender, Fitted
from benchmarks.environment import environment
from benchmarks.inertia import inertia

__all__ = ["Options", "run"]

WARM_UP_ITERATIONS = 2


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line, parsed."""

    peers: Sequence[str]
    backends: Sequence[str]
    cases: Sequence[str]
    repeats: int
    workers: int
    chunks_per_worker: int
    dask_input: str
    marginal: bool
    scale: float
    data: Path | None
    json: Path | None


@dataclass(kw_only=True)
class Series:
    """What one contender did in one case."""

    contender: Contender
    fitted: Fitted | None = None
    seconds: list[float] = field(default_factory=list)
    one_iteration_seconds: list[float] = field(default_factory=list)
    error: str | None = None


def run(options: Options) -> int:
    """Run all cases at all places, report each as it is done, and print the table."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    about = environment()
    console.print(report.headline(about, options.workers))
    chosen = [contenders.PEERS[name]() for name in options.peers]
    chosen += [contenders.OURS[name]() for name in options.backends]
    present = []
    for contender in chosen:
        reason = contender.missing()
        if reason is None:
            present.append(contender)
        else:
            console.print(f"[yellow]skipped[/] {contender.name}: {reason}", highlight=False)
    lines = []
    for line in _lines(options, present, console):
        lines.append(line)
        console.print(report.sentence(line), highlight=False)
        if options.json is not None:
            with options.json.open("a") as file:
                file.write(json.dumps({**line, **about}) + "\n")
    console.print(report.table(lines))
    return int(any(line["error"] for line in lines))


def _lines(
    options: Options, present: Sequence[Contender], console: Console
) -> Iterator[dict[str, Any]]:
    """Yield one record for each case and contender."""
    for kind in places.PLACES:
        here = [contender for contender in present if contender.place == kind]
        if not here:
            continue
        with places.opened(
            kind, options.workers, options.chunks_per_worker, options.dask_input
        ) as place:
            for name in dict.fromkeys(options.cases):
                try:
                    problem = cases.make(cases.CASES[name], options.data, options.scale)
                except FileNotFoundError as error:
                    console.print(f"[yellow]skipped[/] {error}", highlight=False)
                    continue
                for series in _measure(here, place, problem, options):
                    yield _record(series, problem, options)
                place.forget()


def _measure(
    here: Sequence[Contender], place: places.Place, problem: cases.Problem, options: Options
) -> list[Series]:
    """Warm up, then let the contenders take turns."""
    all_series = [Series(contender=contender) for contender in here]
    for series in all_series:
        with _failures_noted(series):
            series.contender.prepare(place, problem.X)
            _timed_fit(series.contender, problem, WARM_UP_ITERATIONS, options.workers)
    for _ in range(options.repeats):
        for series in all_series:
            if series.error is not None:
                continue
            with _failures_noted(series):
                seconds, series.fitted = _timed_fit(
                    series.contender, problem, problem.n_iter, options.workers
                )
                series.seconds.append(seconds)
                if options.marginal:
                    seconds, _ = _timed_fit(series.contender, problem, 1, options.workers)
                    series.one_iteration_seconds.append(seconds)
    return all_series


def _timed_fit(
    contender: Contender, problem: cases.Problem, n_iter: int, threads: int
) -> tuple[float, Fitted]:
    """Time one whole fit, in seconds of wall time, with at most `threads` threads here."""
    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore")  # not converged: that is the point
        start = time.perf_counter()
        fitted = contender.fit(problem.centers.copy(), n_iter)
        return time.perf_counter() - start, fitted


@contextlib.contextmanager
def _failures_noted(series: Series) -> Iterator[None]:
    """Note why a contender failed: it is out of this case, and the others go on."""
    try:
        yield
    except Exception as error:
        series.error = f"{type(error).__name__}: {error}"


def _record(series: Series, problem: cases.Problem, options: Options) -> dict[str, Any]:
    """Make the JSON record of a series."""
    record: dict[str, Any] = {
        "benchmark": "kmeans",
        "case": problem.case.name,
        "n_rows": len(problem.X),
        "n_features": problem.X.shape[1],
        "n_clusters": len(problem.centers),
        "dtype": str(problem.X.dtype),
        "contender": series.contender.name,
        "place": series.contender.place,
        "workers": options.workers,
        "error": series.error,
    }
    if series.contender.place == "dask":
        record |= {
            "chunks_per_worker": options.chunks_per_worker,
            "dask_input": options.dask_input,
        }
    if series.fitted is None or series.error is not None:
        return record
    median = statistics.median(series.seconds)
    record |= {
        "n_iter": int(series.fitted.n_iter),
        "seconds": [round(seconds, 5) for seconds in series.seconds],
        "median_seconds": round(median, 5),
        "ms_per_iteration": round(1e3 * median / series.fitted.n_iter, 3),
        "inertia": inertia(problem.X, series.fitted.centers),
    }
    if series.one_iteration_seconds and series.fitted.n_iter > 1:
        one = statistics.median(series.one_iteration_seconds)
        marginal = (median - one) / (series.fitted.n_iter - 1)
        record |= {
            "marginal_ms_per_iteration": round(1e3 * marginal, 3),
            "fixed_seconds": round(one - marginal, 5),
        }
    return record
