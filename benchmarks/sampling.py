"""Sampling against the full fit: seconds, inertia and ARI over sample sizes."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.metrics import adjusted_rand_score

from benchmarks import sampling_report as report
from benchmarks.density_data import Size
from benchmarks.environment import environment
from benchmarks.inertia import inertia
from benchmarks.report import headline
from benchmarks.timing import timed
from distclust import KMeans, SampleThenAssign
from distclust.backends.local import LocalBackend

__all__ = ["DATA", "SAMPLINGS", "Options", "make", "run"]

SAMPLINGS = ("uniform", "coreset", "stratified")
DATA = ("groups", "overlap", "heavy")
SEED = 20_240_608
GROUPS = 50
SIDES = {"groups": 10.0, "overlap": 3.0, "heavy": 10.0}  # of the cube of the groups' centers
TAIL = 2  # degrees of freedom of the heavy tails; their variance is infinite
FULL, SEEDED, PEER = "full", "full, seeded on all", "sklearn"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line, parsed."""

    data: Sequence[str]
    size: Size
    k: int
    sample_sizes: Sequence[int]
    samplings: Sequence[str]
    sklearn: bool
    seeds: int
    workers: int
    json: Path | None
    png: Path | None


@dataclass(kw_only=True)
class Series:
    """Fits of one kind, a seed each."""

    name: str
    sample_size: int | None = None
    seconds: list[float] = field(default_factory=list)
    inertia: list[float] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)

    def estimator(self, k: int, seed: int, backend: LocalBackend) -> Any:
        """Make the estimator."""
        if self.name == PEER:
            return SklearnKMeans(k, random_state=seed)
        if self.sample_size is None:
            init = "k-means||" if self.name == SEEDED else "sampled"
            return KMeans(k, init=init, random_state=seed, backend=backend)
        return SampleThenAssign(
            KMeans(k, random_state=seed),
            sample_size=self.sample_size,
            sampling=self.name,
            random_state=seed,
            backend=backend,
        )


def make(kind: str, size: Size) -> np.ndarray:
    """Make groups of rows, float32: normal ones, or with heavy tails.

    Returns
    -------
    ndarray of shape (n_rows, n_features), float32, C order
    """
    rng = np.random.default_rng(SEED)
    centers = rng.uniform(0, SIDES[kind], (GROUPS, size.n_features)).astype(np.float32)
    X = rng.standard_normal(size, dtype=np.float32)
    if kind == "heavy":
        X /= np.sqrt(rng.chisquare(TAIL, (size.n_rows, 1)) / TAIL).astype(np.float32)
    X += centers[rng.integers(GROUPS, size=size.n_rows)]
    return X


def run(options: Options) -> int:
    """Run all fits, report each kind as it is done, and print the table."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    about = environment()
    console.print(headline(about, options.workers))
    lines = []
    for line in (line for kind in options.data for line in _measure(kind, options)):
        lines.append(line | about)
        console.print(report.sentence(line), highlight=False)
        if options.json is not None:
            with options.json.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
    report.show(lines, console)
    if options.png is not None:
        report.draw(lines, options.png)
    return 0


def _measure(kind: str, options: Options) -> Iterator[dict[str, Any]]:
    """Yield one record a kind of fit; the full one comes first, others are compared with it."""
    X = make(kind, options.size)
    full = Series(name=FULL)
    everyone = [full, Series(name=SEEDED), *([Series(name=PEER)] if options.sklearn else [])]
    everyone += [
        Series(name=name, sample_size=size)
        for name in options.samplings
        for size in options.sample_sizes
    ]
    with LocalBackend(workers=options.workers) as backend:
        for series in everyone:
            series.estimator(options.k, 0, backend).fit(X[: 20 * options.k])
        for series in everyone:
            for seed in range(options.seeds):
                estimator = series.estimator(options.k, seed, backend)
                seconds, model = timed(partial(estimator.fit, X), options.workers)
                series.seconds.append(seconds)
                series.inertia.append(inertia(X, model.cluster_centers_))
                series.labels.append(model.labels_)
            yield _record(series, full, kind, options)
            if series is not full:
                series.labels.clear()


def _record(series: Series, full: Series, kind: str, options: Options) -> dict[str, Any]:
    """Make the JSON record of a series: its inertia and labels beside the full fit's."""
    pairs = zip(series.labels, full.labels, strict=True)
    return {
        "benchmark": "sampling",
        "case": f"{kind}, {options.size}, k={options.k}",
        "data": kind,
        "n_rows": options.size.n_rows,
        "n_features": options.size.n_features,
        "n_clusters": options.k,
        "contender": series.name,
        "sample_size": series.sample_size,
        "workers": options.workers,
        "seconds": [round(seconds, 5) for seconds in series.seconds],
        "median_seconds": round(statistics.median(series.seconds), 5),
        "inertia": series.inertia,
        "inertia_to_full": statistics.mean(series.inertia) / statistics.mean(full.inertia),
        "speed_to_full": statistics.median(full.seconds) / statistics.median(series.seconds),
        "ari_to_full": [adjusted_rand_score(ours, theirs) for ours, theirs in pairs],
    }
