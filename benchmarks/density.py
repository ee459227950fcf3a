"""Runs the HDBSCAN contenders: they take turns, and every fit is timed whole.

What the file of results already holds is not run again, so what was interrupted goes on:
peers' results count whatever the commit, distclust's if they are of the same one.
"""

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
from benchmarks.memory import cpu_seconds, peak_memory
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
    patience: float
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
    cpu_seconds: list[float] = field(default_factory=list)
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
    lines = _held(options, about["commit"])
    for size in options.sizes:
        ahead = []
        for contender in present:
            reason = _left_out(contender, size, options, lines)
            if reason is None:
                ahead.append(contender)
            else:
                console.print(f"{size}: {contender.name}: {reason}", highlight=False)
        for line in _case(options, size, ahead) if ahead else ():
            lines.append({**line, **about})
            console.print(report.sentence(line), highlight=False)
            if options.json is not None:
                with options.json.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
    report.show(report.newest(lines), console)
    return int(any(line["error"] for line in lines))


def _held(options: Options, commit: str | None) -> list[report.Line]:
    """Return what the file holds of the same parameters, ours only of this commit."""
    if options.json is None or not options.json.exists():
        return []
    asked = {**options.parameters(), "workers": options.workers, "error": None}
    same = commit is not None and not commit.endswith("-dirty")
    return [
        line
        for line in map(json.loads, options.json.read_text().splitlines())
        if line["benchmark"] == "hdbscan"
        and asked.items() <= line.items()
        and (not line["ours"] or (same and line["commit"] == commit))
    ]


def _left_out(
    contender: DensityContender, size: Size, options: Options, lines: Sequence[report.Line]
) -> str | None:
    """Say why a contender has nothing to do in a case: it is done, or would take too long.

    Time grows at least with rows, so a case of fewer rows and as many features tells.
    """
    if size.n_rows > (contender.max_rows or size.n_rows):
        return f"looks at all pairs of rows, and stays out beyond {contender.max_rows:,}"
    mine = [line for line in lines if line["contender"] == contender.name and not line["error"]]
    if any(line["case"] == str(size) for line in mine):
        return "was measured before"
    expected = max(
        (
            line["median_seconds"] * size.n_rows / line["n_rows"]
            for line in mine
            if line["n_features"] == size.n_features and line["n_rows"] < size.n_rows
        ),
        default=0.0,
    )
    if expected > options.patience:
        return f"would take {expected:.0f} s or more, judging by fewer rows"
    return None


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
        here = [contender for contender in present if contender.place == kind]
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
            cpu = cpu_seconds()
            with failures_noted(series), peak_memory() as memory:
                seconds, model = timed(partial(series.contender.fit, X, **asked), options.workers)
            if series.error is None:
                series.cpu_seconds.append(cpu_seconds() - cpu)
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
        "cpu_seconds": [round(seconds, 3) for seconds in series.cpu_seconds],
        "peak_nbytes": series.peak_nbytes,
        "tree_weight": None if series.linkage is None else float(series.linkage[:, 2].sum()),
    }
