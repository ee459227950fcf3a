"""Random projections beside scikit-learn's: time, memory, and what becomes of distances.

The contenders take turns on the same rows, each fitted and warmed up before. What is timed
is `transform`, checks of its input included; memory is by how much the process grew at
most, less the size of what came out.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from sklearn import random_projection as sklearn_projections

from benchmarks import projection_report as report
from benchmarks.environment import environment
from benchmarks.memory import peak_memory
from benchmarks.report import headline
from benchmarks.timing import failures_noted, timed
from distclust import connect
from distclust.random_projection import (
    GaussianRandomProjection,
    HadamardRandomProjection,
    SparseRandomProjection,
)

__all__ = ["CONTENDERS", "Case", "Options", "run"]

WARM_UP_ROWS = 10_000
PAIRS = 10_000
SEED = 1


class Case(NamedTuple):
    """Rows of so many features, and how many components they are projected to."""

    n_rows: int
    n_features: int
    n_components: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read what the command line says.

        Examples
        --------
        >>> Case.parse("1000000x784:64")
        Case(n_rows=1000000, n_features=784, n_components=64)
        """
        size, _, components = text.partition(":")
        rows, _, features = size.partition("x")
        return cls(int(rows), int(features), int(components))

    def __str__(self) -> str:
        return f"{self.n_rows:,} x {self.n_features} -> {self.n_components}"

    def make(self) -> np.ndarray:
        """Make normal rows, float32."""
        rng = np.random.default_rng(SEED)
        X = np.empty((self.n_rows, self.n_features), np.float32)
        rng.standard_normal(out=X, dtype=np.float32)
        return X


CONTENDERS: dict[str, Callable[..., Any]] = {
    "sklearn-gaussian": sklearn_projections.GaussianRandomProjection,
    "sklearn-sparse": sklearn_projections.SparseRandomProjection,
    "gaussian": GaussianRandomProjection,
    "sparse": SparseRandomProjection,
    "hadamard": HadamardRandomProjection,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line, parsed."""

    cases: Sequence[Case]
    contenders: Sequence[str]
    repeats: int
    workers: int
    json: Path | None
    png: Path | None


@dataclass(kw_only=True)
class Series:
    """The projections of one contender in one case."""

    name: str
    model: Any = None
    seconds: list[float] = field(default_factory=list)
    extra_nbytes: list[int] = field(default_factory=list)
    distortion: float | None = None
    error: str | None = None


def run(options: Options) -> int:
    """Run all cases and print a table."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    about = environment()
    console.print(headline(about, options.workers))
    lines = []
    with connect("local", workers=options.workers) as backend:
        for case in options.cases:
            for line in _case(case, options, backend):
                lines.append(line | about)
                if options.json is not None:
                    with options.json.open("a") as file:
                        file.write(json.dumps(lines[-1]) + "\n")
    console.print(report.table(lines))
    if options.png is not None:
        report.draw(lines, options.png)
    return int(any(line["error"] for line in lines))


def _case(case: Case, options: Options, backend: Any) -> Iterator[dict[str, Any]]:
    """Yield one record a contender."""
    X = case.make()
    everyone = [Series(name=name) for name in options.contenders]
    for series in everyone:
        with failures_noted(series):
            series.model = CONTENDERS[series.name](case.n_components, random_state=SEED)
            if "backend" in series.model.get_params():
                series.model.set_params(backend=backend)
            series.model.fit(X[:WARM_UP_ROWS]).transform(X[:WARM_UP_ROWS])
    for _ in range(options.repeats):
        for series in everyone:
            if series.error is None:
                with failures_noted(series):
                    _project(series, X, options.workers)
    for series in everyone:
        yield _record(series, case, options)


def _project(series: Series, X: np.ndarray, threads: int) -> None:
    """Time one projection, and look at what it did."""
    with peak_memory() as memory:
        seconds, projected = timed(partial(series.model.transform, X), threads)
    series.seconds.append(seconds)
    if memory.nbytes is not None:
        series.extra_nbytes.append(max(0, memory.nbytes - projected.nbytes))
    if series.distortion is None:
        a, b = np.random.default_rng(SEED).integers(len(X), size=(2, PAIRS))
        a, b = a[a != b], b[a != b]
        before, after = (_sq_distances(rows, a, b) for rows in (X, projected))
        series.distortion = float(np.quantile(np.abs(after / before - 1), 0.99))


def _sq_distances(rows: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.square(rows[a].astype(np.float64) - rows[b]).sum(axis=1)


def _record(series: Series, case: Case, options: Options) -> dict[str, Any]:
    """Make the JSON record of a series."""
    record: dict[str, Any] = {
        "benchmark": "projection",
        "case": str(case),
        **case._asdict(),
        "dtype": "float32",
        "contender": series.name,
        "workers": options.workers,
        "error": series.error,
    }
    if series.error is not None:
        return record
    return record | {
        "seconds": [round(seconds, 5) for seconds in series.seconds],
        "median_seconds": round(statistics.median(series.seconds), 5),
        "extra_nbytes": max(series.extra_nbytes, default=None),
        "distortion_99": series.distortion,
    }
