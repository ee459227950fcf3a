"""Shows measured JSON lines again: tables for a terminal and for Markdown, and a plot."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import (
    density_plot,
    density_report,
    plot,
    projection_report,
    report,
    sampling_report,
)
from benchmarks.modes import MODES

__all__ = ["show"]


def show(
    json: Sequence[Path], png: Path | None, pooled: Path | None = None, ratios: Path | None = None
) -> int:
    """Print the lines of files as tables; write K-Means' pooled, and draw them, if asked."""
    console = Console(width=150)
    found = [line for path in json for line in _read(path)]
    density = [line for line in found if line["benchmark"] == "hdbscan"]
    if density:
        density_report.show(density_report.newest(density), console)
        if png is not None and len(density) == len(found):
            density_plot.draw(density_report.newest(density), png)
    sampled = [line for line in found if line["benchmark"] == "sampling"]
    if sampled:
        sampling_report.show(sampled, console)
        if png is not None and len(sampled) == len(found):
            sampling_report.draw(sampled, png)
    projected = [line for line in found if line["benchmark"] == "projection"]
    if projected:
        console.print(projection_report.table(projected))
        if png is not None and len(projected) == len(found):
            projection_report.draw(projected, png)
    lines = report.pooled(line for line in found if line["benchmark"] == "kmeans")
    lines.sort(key=_order)
    report.show(lines, console)
    if pooled is not None:
        pooled.write_text("".join(f"{jsonlib.dumps(line)}\n" for line in lines))
    if png is not None and lines:
        plot.draw(lines, png)
    if ratios is not None and lines:
        plot.draw_ratios(lines, ratios)
    return 0


def _order(line: report.Line) -> tuple[int, str, str, int]:
    """Sort by mode, case and contender, and a contender's fits by their length."""
    return list(MODES).index(line["mode"]), line["case"], line["contender"], line["budget"] or 0


def _read(path: Path) -> list[report.Line]:
    return [jsonlib.loads(line) for line in path.read_text().splitlines()]
