"""Shows measured JSON lines again: tables for a terminal and for Markdown, and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import plot, report
from benchmarks.modes import MODES

__all__ = ["show"]


def show(json: Sequence[Path], png: Path | None) -> int:
    """Pool the lines of files, print them as tables, and draw them if asked."""
    lines = report.pooled(line for path in json for line in _read(path))
    lines.sort(key=_order)
    report.show(lines, Console(width=150))
    if png is not None:
        plot.draw(lines, png)
    return 0


def _order(line: report.Line) -> tuple[int, str, str, int]:
    """Sort by mode, case and contender, and a contender's fits by their length."""
    return list(MODES).index(line["mode"]), line["case"], line["contender"], line["budget"] or 0


def _read(path: Path) -> list[report.Line]:
    return [json.loads(line) for line in path.read_text().splitlines()]
