"""What a person reads of HDBSCAN's benchmark: a sentence a contender, and two tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Line", "cpu_per_row", "markdown", "newest", "sentence", "show"]

Line = dict[str, Any]


def sentence(line: Line) -> str:
    """Say how one contender did in one case."""
    who = f"{line['case']}: {line['contender']}"
    if line["error"]:
        return f"{who}: [red]{line['error']}[/]"
    return (
        f"{who}: {line['median_seconds']:.3f} s "
        f"({min(line['seconds']):.3f} to {max(line['seconds']):.3f}), "
        f"{line['n_clusters']} clusters, ARI {line['ari']:.6f} to {line['reference']}"
    )


def newest(lines: Iterable[Line]) -> list[Line]:
    """Return the last line of each contender in each case, cases by their size."""
    last = {(line["case"], line["contender"]): line for line in lines}
    return sorted(last.values(), key=lambda line: (line["n_rows"], line["n_features"]))


def cpu_per_row(line: Line) -> float | None:
    """Return microseconds of CPU time a row; None if it was not measured."""
    seconds = line.get("cpu_seconds")
    return 1e6 * statistics.median(seconds) / line["n_rows"] if seconds else None


def show(lines: Sequence[Line], console: Console) -> None:
    """Print all results: what was measured at length, then in short."""
    result = Table(title="HDBSCAN, medians of whole fits")
    for column in ("case", "contender"):
        result.add_column(column)
    columns = [
        "fits",
        "fit, s",
        "x ours",
        "CPU us/row",
        "MiB",
        "clusters",
        "noise",
        "tree",
        "ARI",
        "labels",
    ]
    for column in columns:
        result.add_column(column, justify="right")
    for case, group in _cases(lines).items():
        base, exact = _base(group), _exact_weight(group)
        for line in group:
            result.add_row(case, line["contender"], *_cells(line, base, exact))
        result.add_section()
    console.print(result)
    console.print(markdown(lines), markup=False, highlight=False, soft_wrap=True)


def _cases(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Split into what may be compared."""
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(line["case"], []).append(line)
    return groups


def _base(group: Iterable[Line]) -> float | None:
    """Return the time of the first of ours that succeeded."""
    ours = (line["median_seconds"] for line in group if line["ours"] and not line["error"])
    return next(ours, None)


def _exact_weight(group: Iterable[Line]) -> float | None:
    """Return the weight of the reference's spanning tree."""
    weights = (line["tree_weight"] for line in group if line["contender"] == line.get("reference"))
    return next(weights, None)


def _cells(line: Line, base: float | None, exact: float | None) -> list[str]:
    if line["error"]:
        return ["failed"]
    peak, weight, cpu = line["peak_nbytes"], line["tree_weight"], cpu_per_row(line)
    return [
        str(len(line["seconds"])),
        f"{line['median_seconds']:.3f}",
        "" if base is None else f"{line['median_seconds'] / base:.2f}",
        "" if cpu is None else f"{cpu:.2f}",
        "" if peak is None else f"{peak / (1 << 20):,.0f}",
        f"{line['n_clusters']}",
        f"{line['noise_fraction']:.2%}",
        "" if weight is None or exact is None else f"{weight / exact - 1:+.1e}",
        f"{line['ari']:.6f}",
        _likeness(line),
    ]


def _likeness(line: Line) -> str:
    if line["same_labels"]:
        return "the same"
    rows = line.get("differing_rows")
    if rows is None:  # measured before that was counted
        return "differ"
    return f"{rows:,} differ" + (", ties" if line["only_ties_differ"] else "")


def markdown(lines: Iterable[Line]) -> str:
    """Return a row a case and a column a contender: seconds, and how many times ours."""
    done = [line for line in lines if not line["error"]]
    names = list(dict.fromkeys(line["contender"] for line in done))
    rows = ["| rows x features | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for case, group in _cases(done).items():
        base = _base(group)
        cells = dict.fromkeys(names, "")
        for line in group:
            cells[line["contender"]] = f"{line['median_seconds']:.3g}"
            if base is not None and not line["ours"]:
                cells[line["contender"]] += f" ({line['median_seconds'] / base:.3g}x)"
        rows.append("| " + " | ".join([case, *cells.values()]) + " |")
    return "\n".join(rows)
