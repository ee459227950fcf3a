"""What a person reads of the projection benchmark: a table, and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

__all__ = ["BASE", "Line", "draw", "table"]

BASE = "sklearn-gaussian"
PANEL = (4.2, 2.6)  # inches
OURS, THEIRS = "#2563eb", "#9ca3af"

Line = dict[str, Any]


def table(lines: Sequence[Line]) -> Table:
    """Show all results, with times as multiples of scikit-learn's Gaussian projection."""
    shown = Table(title="Random projections, medians of whole transforms")
    for column in ("case", "contender"):
        shown.add_column(column)
    for column in ("seconds", f"x {BASE}", "extra MiB", "distortion, 99%"):
        shown.add_column(column, justify="right")
    for line in lines:
        if line["error"]:
            shown.add_row(line["case"], line["contender"], line["error"])
            continue
        base = _base(lines, line["case"])
        extra = line["extra_nbytes"]
        shown.add_row(
            line["case"],
            line["contender"],
            f"{line['median_seconds']:.3f}",
            "" if base is None else f"{line['median_seconds'] / base:.2f}",
            "" if extra is None else f"{extra / (1 << 20):.1f}",
            f"{line['distortion_99']:.3f}",
        )
    return shown


def draw(lines: Sequence[Line], path: Path) -> None:
    """Draw seconds, memory and distortion of every contender, a row a case, and write it as PNG."""
    from matplotlib.figure import Figure

    lines = [line for line in lines if not line["error"]]
    cases = list(dict.fromkeys(line["case"] for line in lines))
    figure = Figure(figsize=(3 * PANEL[0], PANEL[1] * len(cases)), layout="constrained")
    for case, panels in zip(cases, figure.subplots(len(cases), 3, squeeze=False), strict=True):
        here = [line for line in lines if line["case"] == case][::-1]  # the first one on top
        names = [line["contender"] for line in here]
        colors = [THEIRS if name.startswith("sklearn") else OURS for name in names]
        for panel, (title, value) in zip(panels, PLOTTED.items(), strict=True):
            bars = panel.barh(names, [value(line) for line in here], color=colors)
            panel.bar_label(bars, fmt="%.3g", fontsize=7, padding=2)
            panel.margins(x=0.15)
            panel.set_title(f"{case}\n{title}", fontsize=8)
            panel.tick_params(labelsize=7)
            panel.spines[["top", "right"]].set_visible(False)
    about = lines[-1]
    figure.supxlabel(
        f"{about['cpu']}, {about['cores']} cores, float32, {about['date'][:10]}", fontsize=8
    )
    figure.savefig(path, dpi=110)


def _base(lines: Sequence[Line], case: str) -> float | None:
    """Return the median seconds of scikit-learn's Gaussian projection in a case."""
    return next(
        (
            line["median_seconds"]
            for line in lines
            if (line["case"], line["contender"]) == (case, BASE) and not line["error"]
        ),
        None,
    )


PLOTTED = {
    "seconds": lambda line: line["median_seconds"],
    "MiB beyond what comes out": lambda line: (line["extra_nbytes"] or 0) / (1 << 20),
    "distortion, 99 % of pairs": lambda line: line["distortion_99"],
}
