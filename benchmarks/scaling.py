"""How time grows with rows, features, clusters and workers; what an iteration costs on few rows.

No peers here: distclust on its backends, beside itself. Rows are Parquet files that the
workers read, the same for every backend; clusters are started before the clock.
"""

from __future__ import annotations

import json as jsonlib
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.cases import Case, Problem, make
from benchmarks.environment import environment
from benchmarks.report import headline

__all__ = ["BACKENDS", "BASE", "VARIED", "measure_overhead", "measure_scaling"]

BACKENDS = ("local", "ray", "dask")
BASE = Case(name="base", n_rows=1_000_000, n_features=16, n_clusters=100, separation=4.0)
TINY = Case(name="tiny", n_rows=4000, n_features=2, n_clusters=64)  # iterates for long on little
FILES = 16
TARGET_MS = {"ray": 8.0, "dask": 40.0}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One fit.

    Attributes
    ----------
    fit_seconds : float
        Reading, statistics, iterations and inertia.
    iteration_seconds : list of float
    """

    fit_seconds: float
    iteration_seconds: list[float]


@contextmanager
def files(problem: Problem) -> Iterator[Path]:
    """Write the rows to Parquet files, which are gone in the end."""
    with tempfile.TemporaryDirectory(prefix="distclust-bench-") as name:
        step = -(-len(problem.X) // FILES)
        for number, start in enumerate(range(0, len(problem.X), step)):
            rows = problem.X[start : start + step]
            columns = {f"x{j}": rows[:, j] for j in range(rows.shape[1])}
            path = Path(name, f"{number:02}.parquet")
            pq.write_table(pa.table(columns), path, compression="none", use_dictionary=False)
        yield Path(name)


def timed_fit(backend: Any, path: Path, problem: Problem, iterations: int) -> Timing:
    """Fit from given centers, for so many iterations unless it converges."""
    from distclust import KMeans, open_manifest
    from distclust.data.parquet import ParquetSource
    from distclust.engine.events import Event, IterationDone
    from distclust.engine.shards import Session

    seconds: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, IterationDone):
            seconds.append(event.seconds)

    model = KMeans(
        problem.case.n_clusters,
        init=problem.centers,
        max_iter=iterations,
        tol=0,
        n_partitions=None if problem.case is not TINY else backend.slots,
    )
    source = ParquetSource(open_manifest(path))
    began = time.perf_counter()
    model.fit_source(Session(backend, listeners=[listen]), source)
    return Timing(fit_seconds=time.perf_counter() - began, iteration_seconds=seconds)


def measure_overhead(
    *, backends: Sequence[str], workers: int, iterations: int, json: Path | None
) -> int:
    """Time iterations over a few rows, where nearly all of one is the engine and the backend."""
    from distclust import connect

    console, about = Console(), environment()
    console.print(headline(about, workers))
    table = Table(title=f"An iteration over {TINY.describe()}, {workers} workers")
    for heading in ("backend", "median ms", "90 % within ms", "target ms"):
        table.add_column(heading, justify="left" if heading == "backend" else "right")
    problem = make(TINY)
    with files(problem) as path:
        for name in backends:
            with connect(name, workers=workers) as backend:
                timed_fit(backend, path, problem, 5)
                seconds = timed_fit(backend, path, problem, iterations).iteration_seconds
            within = statistics.quantiles(seconds, n=10)[-1]
            figures = {"median": statistics.median(seconds), "90 %": within}
            target = TARGET_MS.get(name)
            table.add_row(
                name,
                *(f"{1e3 * value:.2f}" for value in figures.values()),
                "" if target is None else f"{target:g}",
            )
            _append(json, about, benchmark="overhead", backend=name, workers=workers, **figures)
    console.print(table)
    return 0


def measure_scaling(
    *,
    vary: str,
    values: Sequence[int] | None,
    backends: Sequence[str],
    workers: int,
    iterations: int,
    repeats: int,
    scale: float,
    json: Path | None,
) -> int:
    """Time fits that differ in one thing."""
    console, about = Console(), environment()
    console.print(headline(about, workers))
    what, defaults = VARIED[vary]
    table = Table(title=f"{BASE.describe()}, {iterations} iterations; {vary} varies")
    headings = (vary, "backend", "fit s", "iterations s", f"ns / {what}", "to the first")
    for heading in (*headings, f"fit to {backends[0]}"):
        table.add_column(heading, justify="left" if heading == "backend" else "right")
    first: dict[str, float] = {}
    for value in values or defaults:
        point = replace(BASE, n_rows=round(BASE.n_rows * scale))
        n_workers = value if vary == "workers" else workers
        if vary != "workers":
            point = replace(point, **{FIELDS[vary]: value})
        problem = make(point)
        fits: list[float] = []
        with files(problem) as path:
            for name in backends:
                fit, per_iteration = _medians(name, n_workers, path, problem, iterations, repeats)
                unit = 1e9 * per_iteration / _work(vary, point, n_workers)
                base = first.setdefault(name, unit)
                fits.append(fit)
                table.add_row(
                    f"{value:,}",
                    name,
                    f"{fit:.2f}",
                    f"{per_iteration * iterations:.2f}",
                    f"{unit:.3g}",
                    f"{unit / base:.2f}",
                    f"{fit / fits[0]:.2f}",
                )
                figures = {"fit": fit, "iteration": per_iteration, "unit_ns": unit}
                _append(
                    json,
                    about,
                    benchmark="scaling",
                    vary=vary,
                    value=value,
                    backend=name,
                    **figures,
                )
    console.print(table)
    return 0


FIELDS = {"n": "n_rows", "d": "n_features", "k": "n_clusters"}
VARIED: dict[str, tuple[str, tuple[int, ...]]] = {
    "n": ("row", (1_000_000, 4_000_000, 16_000_000)),
    "d": ("row and feature", (4, 16, 64)),
    "k": ("row and cluster", (10, 100, 1000)),
    "workers": ("row and worker", (1, 2)),
}
"""What can vary: what time is divided by, and the values taken by default."""


def _work(vary: str, point: Case, workers: int) -> float:
    """Return what the time of an iteration would be proportional to, if scaling were perfect."""
    factors: dict[str, float] = {
        "n": 1,
        "d": point.n_features,
        "k": point.n_clusters,
        "workers": 1 / workers,
    }
    return point.n_rows * factors[vary]


def _medians(
    name: str, workers: int, path: Path, problem: Problem, iterations: int, repeats: int
) -> tuple[float, float]:
    """Return median seconds of a fit and of one of its iterations, after one to warm up."""
    from distclust import connect

    with connect(name, workers=workers) as backend:
        timed_fit(backend, path, problem, 2)
        runs = [timed_fit(backend, path, problem, iterations) for _ in range(repeats)]
    each = [statistics.fmean(run.iteration_seconds) for run in runs]
    return statistics.median(run.fit_seconds for run in runs), statistics.median(each)


def _append(path: Path | None, about: dict[str, Any], **line: Any) -> None:
    if path is not None:
        with path.open("a") as out:
            out.write(jsonlib.dumps({**about, **line}) + "\n")
