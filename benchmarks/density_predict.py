"""Labels of new rows: `HDBSCAN.predict` beside `hdbscan.approximate_predict`, on one fit.

Both get distclust's hierarchy, as the package takes a fitted `distclust.HDBSCAN` too; so
labels can differ only where a new row is equally far from fitted ones.
"""

from __future__ import annotations

import json as jsonlib
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.density_data import Size, make
from benchmarks.environment import environment
from benchmarks.report import headline
from benchmarks.timing import timed

__all__ = ["measure"]


def measure(
    sizes: Sequence[Size],
    new: int,
    min_samples: int,
    min_cluster_size: int,
    repeats: int,
    json: Path | None,
) -> int:
    """Predict `new` rows from fits of each size, and print how long both took.

    The package predicts once, after what it needs of the fitted rows has been made; distclust
    `repeats` times, after a first.
    """
    console = Console(width=None if sys.stdout.isatty() else 150)
    about = environment()
    console.print(headline(about, 1))
    for size in sizes:
        line = _predictions(size, new, min_samples, min_cluster_size, repeats)
        console.print(
            f"{size}: {new:,} new rows in {line['median_seconds']:.4f} s "
            f"({min(line['seconds']):.4f} to {max(line['seconds']):.4f}), hdbscan "
            f"{line['hdbscan_seconds']:.3f} s: {line['ratio']:.1f}x; "
            f"{line['differing_rows']:,} labels differ",
            highlight=False,
        )
        if json is not None:
            with json.open("a") as file:
                file.write(jsonlib.dumps({**line, **about}) + "\n")
    return 0


def _predictions(
    size: Size, new: int, min_samples: int, min_cluster_size: int, repeats: int
) -> dict[str, Any]:
    import hdbscan

    from distclust import HDBSCAN

    rows = make(Size(size.n_rows + new, size.n_features))
    X, unseen = rows[: size.n_rows], rows[size.n_rows :]
    model = HDBSCAN(min_cluster_size, min_samples, prediction_data=True).fit(X)
    model.generate_prediction_data()
    model.predict(unseen)
    runs = [timed(partial(model.predict, unseen), 1) for _ in range(repeats)]
    theirs, (labels, _) = timed(partial(hdbscan.approximate_predict, model, unseen), 1)
    seconds = [seconds for seconds, _ in runs]
    median = statistics.median(seconds)
    return {
        "benchmark": "hdbscan-predict",
        "case": str(size),
        "new_rows": new,
        "min_samples": min_samples,
        "min_cluster_size": min_cluster_size,
        "seconds": [round(s, 5) for s in seconds],
        "median_seconds": round(median, 5),
        "hdbscan_seconds": round(theirs, 5),
        "ratio": round(theirs / median, 2),
        "differing_rows": int(np.count_nonzero(labels != runs[0][1])),
    }
