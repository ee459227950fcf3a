"""Runs the HDBSCAN contenders: they take turns, and every fit is timed whole."""

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
from sklearn.metrics import adjusted_rand_score

from benchmarks import density_report as report
from benchmarks.density_data import Size, make
from benchmarks.density_peers import ORACLES, OURS, PEERS, DensityContender
from benchmarks.density_ties import differing_rows, only_ties_differ
from benchmarks.environment import environment
from benchmarks.memory import peak_memory
from benchmarks.places import PLACES, Place, opened
from benchmarks.report import headline
from benchmarks.timing import failures_noted, timed

__all__ = ["Options", "run"]

WARM_UP_ROWS = 20_000  # enough for `hdbscan` to start its worker processes


@dataclass(frozen=True, kw_only=True)
class Options:
    """The command line, parsed."""

    peers: Sequence[str]
    ours: Sequence[str]
    sizes: Sequence[Size]
    min_samples: int
    min_cluster_size: int
    partitions: Sequence[int]
    repeats: int
    limit: float
    workers: int
    json: Path | None

    def parameters(self) -> dict[str, int]:
        """Return what every contender is asked for."""
        return {"min_samples": self.min_samples, "min_cluster_size": self.min_cluster_size}


@dataclass(kw_only=True)
class Series:
    """The fits of one contender in one case."""

    contender: DensityContender
    seconds: list[float] = field(default_factory=list)
    labels: np.ndarray | None = None
    linkage: np.ndarray | None = None
    peak_nbytes: int | None = None
    error: str | None = None


def run(options: Options) -> int:
    """Run all cases, report each as it is done, and print the tables."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    about = environment()
    console.print(headline(about, options.workers))
    present = []
    for contender in _contenders(options):
        reason = contender.missing()
        if reason is None:
            present.append(contender)
        else:
            console.print(f"[yellow]skipped[/] {contender.name}: {reason}", highlight=False)
    lines = []
    for size in options.sizes:
        for line in _case(options, size, present):
            lines.append(line)
            console.print(report.sentence(line), highlight=False)
            if options.json is not None:
                with options.json.open("a") as file:
                    file.write(json.dumps({**line, **about}) + "\n")
    report.show(lines, console)
    return int(any(line["error"] for line in lines))


def _contenders(options: Options) -> list[DensityContender]:
    """Make the peers, and ours with each number of partitions."""
    peers: list[DensityContender] = [PEERS[name]() for name in options.peers]
    counts = options.partitions or [None]
    return peers + [OURS[name](count) for name in options.ours for count in counts]


def _case(
    options: Options, size: Size, present: Sequence[DensityContender]
) -> Iterator[dict[str, Any]]:
    """Yield one record a contender, once all have run: labels are compared among them."""
    X = make(size)
    everyone: list[Series] = []
    for kind in PLACES:
        here = [c for c in present if c.place == kind and len(X) <= (c.max_rows or len(X))]
        if here:
            with opened(kind, options.workers, 1, "numpy") as place:
                everyone += _measure(here, place, X, options)
    done = {s.contender.name: s for s in everyone if s.labels is not None}
    name = next((name for name in ORACLES if name in done), next(reversed(done), None))
    for series in everyone:
        likeness = {} if name is None else _likeness(series, done[name], options.min_cluster_size)
        yield _record(series, size, options) | likeness


def _measure(
    here: Sequence[DensityContender], place: Place, X: np.ndarray, options: Options
) -> list[Series]:
    """Warm up, then let the contenders take turns."""
    asked = options.parameters()
    everyone = [Series(contender=contender) for contender in here]
    for series in everyone:
        with failures_noted(series):
            series.contender.prepare(place)
            series.contender.fit(X[:WARM_UP_ROWS], **asked)
    for _ in range(options.repeats):
        for series in everyone:
            if series.error is not None or sum(series.seconds) > options.limit:
                continue
            with failures_noted(series), peak_memory() as memory:
                seconds, model = timed(partial(series.contender.fit, X, **asked), options.workers)
            if series.error is None:
                _note(series, seconds, model, memory.nbytes)
    return everyone


def _note(series: Series, seconds: float, model: Any, peak_nbytes: int | None) -> None:
    """Add a fit to its series, with the labels and the tree of the first."""
    series.seconds.append(seconds)
    if series.labels is None:
        series.labels = np.asarray(model.labels_)
        series.linkage = series.contender.linkage(model)
    if peak_nbytes is not None:
        series.peak_nbytes = max(series.peak_nbytes or 0, peak_nbytes)


def _likeness(series: Series, reference: Series, min_cluster_size: int) -> dict[str, Any]:
    """Describe labels, compare them with the reference's, and say if ties explain it all."""
    labels, expected = series.labels, reference.labels
    if labels is None or expected is None:
        return {}
    only_ties = None
    if series.linkage is not None and reference.linkage is not None:
        only_ties = only_ties_differ(
            series.linkage, labels, reference.linkage, expected, min_cluster_size
        )
    return {
        "n_clusters": int(labels.max(initial=-1)) + 1,
        "noise_fraction": float(np.mean(labels < 0)),
        "reference": reference.contender.name,
        "ari": float(adjusted_rand_score(expected, labels)),
        "same_labels": bool(np.array_equal(expected, labels)),
        "differing_rows": differing_rows(expected, labels),
        "only_ties_differ": only_ties,
    }


def _record(series: Series, size: Size, options: Options) -> dict[str, Any]:
    """Make the JSON record of a series."""
    record: dict[str, Any] = {
        "benchmark": "hdbscan",
        "case": str(size),
        "n_rows": size.n_rows,
        "n_features": size.n_features,
        **options.parameters(),
        "contender": series.contender.name,
        "ours": isinstance(series.contender, tuple(OURS.values())),
        "place": series.contender.place,
        "workers": options.workers,
        "error": series.error,
    }
    if series.error is not None:
        return record
    return record | {
        "seconds": [round(seconds, 5) for seconds in series.seconds],
        "median_seconds": round(statistics.median(series.seconds), 5),
        "peak_nbytes": series.peak_nbytes,
        "tree_weight": None if series.linkage is None else float(series.linkage[:, 2].sum()),
    }
