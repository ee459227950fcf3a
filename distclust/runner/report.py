"""What is told of a finished run: ``run.json``, and a table for the terminal."""

from __future__ import annotations

import hashlib
import itertools
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from distclust import __version__
from distclust.runner.labelling import ClusterCounts
from distclust.runner.progress import Tally, duration
from distclust.runner.secrets import scrub
from distclust.runner.spec import JobSpec

__all__ = [
    "RunReport",
    "centers_sha256",
    "report_headline",
    "report_places",
    "report_table",
    "versions",
]

SCHEMA_VERSION = 1
LISTED_CLUSTERS = 24
TOLD_VALUES = 100_000  # of centers in run.json
FEATURES_WIDTH = 72  # characters for the centers' columns
ENGINES = {"ray": ("ray",), "dask": ("dask", "distributed")}


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """A finished run.

    Attributes
    ----------
    spec : JobSpec
    started : datetime
    seconds : dict of str to float
        Wall time of each stage of the job.
    tally : Tally
    rows, files, features : int
    feature_names : tuple of str or None
    counts : ClusterCounts
    centers : ndarray of shape (n_clusters, n_kept_features), or None
        As the clusterer has them, after preprocessing.
    original_centers : ndarray of shape (n_clusters, n_features), or None
        In the units of the input, where preprocessing can be undone; else None.
    figures : dict
        Of the fit: ``n_iter``, ``inertia``, ``inertia_history``.
    input_digest, labels_digest : str
    """

    spec: JobSpec
    started: datetime
    seconds: dict[str, float]
    tally: Tally
    rows: int
    files: int
    features: int
    feature_names: tuple[str, ...] | None
    counts: ClusterCounts
    centers: npt.NDArray[Any] | None
    original_centers: npt.NDArray[Any] | None
    figures: dict[str, Any]
    input_digest: str
    labels_digest: str

    def as_dict(self) -> dict[str, Any]:
        """The content of ``run.json``; times in seconds, no secrets."""
        return {
            "schema_version": SCHEMA_VERSION,
            "job": self.spec.as_dict(),
            "started": self.started.astimezone(UTC).isoformat(timespec="seconds"),
            "seconds": {name: round(value, 6) for name, value in self.seconds.items()},
            "engine_seconds": {
                name: round(value, 6) for name, value in self.tally.stage_seconds.items()
            },
            "counts": {
                "rows": self.rows,
                "files": self.files,
                "features": self.features,
                "retries": self.tally.retries,
                "late_replies": self.tally.late_replies,
            },
            "result": {
                **self.figures,
                "cluster_sizes": self.counts.rows.tolist(),
                "feature_names": None if self.feature_names is None else list(self.feature_names),
                **self._centers_in_original_units(),
            },
            "digests": {
                "input": self.input_digest,
                "labels_sha256": self.labels_digest,
                "centers_sha256": None if self.centers is None else centers_sha256(self.centers),
            },
            "versions": versions(self.spec.backend.name),
            "platform": {
                "system": platform.platform(),
                "machine": platform.machine(),
                "cpus": os.cpu_count(),
            },
        }

    def _centers_in_original_units(self) -> dict[str, Any]:
        """Tell centers that are not in the model as they are, unless there are very many."""
        centers = self.original_centers
        if not self.spec.preprocess or centers is None or centers.size > TOLD_VALUES:
            return {}
        return {"original_centers": centers.tolist()}


def centers_sha256(centers: npt.NDArray[Any]) -> str:
    """SHA-256 of centers, row by row, as little-endian numbers of their own precision."""
    little = centers.astype(centers.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).tobytes()).hexdigest()


def versions(backend: str) -> dict[str, str | None]:
    """Versions of what computed the result."""
    names = ("numpy", "numba", "pyarrow", "scipy", *ENGINES.get(backend, ()))
    return {
        "python": platform.python_version(),
        "distclust": __version__,
        **{name: _version(name) for name in names},
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # running from a source tree
        return None


def report_headline(report: RunReport) -> str:
    """The run in one line."""
    figures = report.figures
    said = [f"{report.rows:,} rows", duration(report.seconds["total"])]
    if "inertia" in figures:
        said.insert(1, f"inertia {figures['inertia']:.6g}")
    if "n_iter" in figures:
        said.insert(1, f"{figures['n_iter']} iterations")
    return f"{len(report.counts.rows)} clusters: {', '.join(said)}"


def report_places(report: RunReport) -> str:
    """Where to find everything."""
    out = report.spec.output
    columns = ", ".join(dict.fromkeys((*report.spec.input.id_columns, "label", *out.columns)))
    path = scrub(out.path).rstrip("/")
    lines = [
        f"labels  {path}/labels/*.parquet  ({columns}; rows in input order)",
        f"model   {path}/model  (distclust.load)",
        f"report  {path}/run.json",
    ]
    hidden = len(report.counts.rows) - LISTED_CLUSTERS
    return "\n".join([f"... and {hidden} smaller clusters", *lines] if hidden > 0 else lines)


def report_table(report: RunReport) -> Table:
    """A table of the clusters, largest first."""
    counts, centers = report.counts, report.original_centers
    names = _feature_names(report)
    widths = itertools.accumulate(max(len(name), 6) + 3 for name in names)
    shown = sum(width <= FEATURES_WIDTH for width in widths)
    table = Table()
    table.add_column("cluster", justify="right")
    table.add_column("rows", justify="right")
    table.add_column("share", justify="right")
    if counts.distances is not None:
        table.add_column("mean distance", justify="right")
    for name in names[:shown]:
        table.add_column(Text(name), justify="right")
    if shown < len(names):
        table.add_column(f"{len(names) - shown} more", justify="right")
    largest_first = np.argsort(-counts.rows, kind="stable")[:LISTED_CLUSTERS]
    for label in largest_first:
        size = int(counts.rows[label])
        cells = [str(label), f"{size:,}", f"{size / report.rows:.1%}"]
        if counts.distances is not None:
            cells.append(f"{counts.distances[label] / size:.4g}" if size else "-")
        if centers is not None:
            cells += [f"{value:.4g}" for value in centers[label, :shown]]
        table.add_row(*cells, *(["..."] if shown < len(names) else []))
    return table


def _feature_names(report: RunReport) -> Sequence[str]:
    if report.original_centers is None:
        return ()
    if report.feature_names is not None:
        return report.feature_names
    vector = report.spec.input.vector or "x"
    return [f"{vector}[{i}]" for i in range(report.features)]


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)
