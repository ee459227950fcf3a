"""Draws HDBSCAN's benchmark: seconds and CPU time a row over rows, and over partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.density_report import Line, cpu_per_row

__all__ = ["draw"]

PANEL = (3.6, 3.0)  # inches
OURS = ("#c2410c", "#f59e0b", "#be123c", "#fb7185")
THEIRS = ("#1e3a8a", "#2563eb", "#60a5fa", "#0f766e", "#6b7280")
PARTITIONS = " P="  # in the names of those that were told how many to make


def draw(lines: Sequence[Line], path: Path) -> None:
    """Draw a column a number of features, and write it as PNG."""
    from matplotlib.figure import Figure

    lines = [line for line in lines if not line["error"]]
    alone = [line for line in lines if PARTITIONS not in line["contender"]]
    split = [line for line in lines if PARTITIONS in line["contender"]]
    rows = [
        (title, value, over, here)
        for title, value, over, here in (
            ("seconds of a fit", _seconds, _rows, alone),
            ("CPU microseconds a row", cpu_per_row, _rows, alone),
            ("seconds, by number of partitions", _seconds, _partitions, split),
        )
        if here
    ]
    features = sorted({line["n_features"] for line in lines})
    figure = Figure(figsize=(PANEL[0] * len(features), PANEL[1] * len(rows)), layout="constrained")
    colors = _colors(lines)
    panels = figure.subplots(len(rows), len(features), squeeze=False)
    for (title, value, over, here), line_of_panels in zip(rows, panels, strict=True):
        for d, panel in zip(features, line_of_panels, strict=True):
            drawn = [line for line in here if line["n_features"] == d]
            if not drawn:
                panel.set_axis_off()
                continue
            panel.set_title(f"{d} features\n{title}", fontsize=8)
            _curves(panel, drawn, value, over, colors)
    about = lines[-1]
    figure.supxlabel(
        f"{about['cpu']}, {about['workers']} threads or workers, float64, {about['date'][:10]}",
        fontsize=8,
    )
    figure.savefig(path, dpi=110)


def _curves(
    panel: Any,
    lines: Sequence[Line],
    value: Callable[[Line], float | None],
    over: Callable[[Line], int],
    colors: dict[str, str],
) -> None:
    """Draw a line a contender, or a contender and size where partitions vary."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        height = value(line)
        if height is not None:
            curves.setdefault(_label(line), []).append((over(line), height))
    for label, points in curves.items():
        color = colors[label.split(",")[0]]
        panel.plot(*zip(*sorted(points), strict=True), ".-", label=label, color=color)
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("rows" if over is _rows else "partitions", fontsize=7)
    panel.tick_params(labelsize=7, which="both")
    panel.spines[["top", "right"]].set_visible(False)
    if curves:
        panel.legend(fontsize=6)


def _label(line: Line) -> str:
    name, _, parts = line["contender"].partition(PARTITIONS)
    return f"{name}, {line['n_rows']:,} rows" if parts else name


def _colors(lines: Sequence[Line]) -> dict[str, str]:
    """Give each contender a color: ours warm ones."""
    colors = {}
    for palette, ours in ((OURS, True), (THEIRS, False)):
        names = dict.fromkeys(
            line["contender"].partition(PARTITIONS)[0] for line in lines if line["ours"] == ours
        )
        colors |= {name: palette[i % len(palette)] for i, name in enumerate(names)}
    return colors


def _rows(line: Line) -> int:
    return int(line["n_rows"])


def _partitions(line: Line) -> int:
    return int(line["contender"].partition(PARTITIONS)[2])


def _seconds(line: Line) -> float:
    return float(line["median_seconds"])
