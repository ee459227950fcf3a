"""What a person reads of the sampling benchmark: a sentence a fit, a table, and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

__all__ = ["Line", "draw", "markdown", "sentence", "show"]

PANEL = (4.2, 3.2)  # inches
COLORS = {"uniform": "#2563eb", "coreset": "#c2410c", "stratified": "#0f766e"}

Line = dict[str, Any]


def sentence(line: Line) -> str:
    """Say how one kind of fit did."""
    size = "" if line["sample_size"] is None else f" of {line['sample_size']:,}"
    return (
        f"{line['case']}: {line['contender']}{size}: {line['median_seconds']:.3f} s, "
        f"{line['speed_to_full']:.1f} times as fast as the full fit, "
        f"{line['inertia_to_full']:.4f} times its inertia, ARI {_ari(line):.3f}"
    )


def show(lines: Sequence[Line], console: Console) -> None:
    """Print all results as a table in Markdown."""
    console.print(markdown(lines), markup=False, highlight=False, soft_wrap=True)


def markdown(lines: Sequence[Line]) -> str:
    """Return a row a kind of fit."""
    rows = ["| case | fit | sample | s | speed | inertia | ARI |", "| --- |" + " --- |" * 6]
    for line in lines:
        size = "all" if line["sample_size"] is None else f"{line['sample_size']:,}"
        cells = [
            line["case"],
            line["contender"],
            size,
            f"{line['median_seconds']:.3g}",
            f"{line['speed_to_full']:.1f}x",
            f"{line['inertia_to_full']:.4f}",
            f"{_ari(line):.3f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def draw(lines: Sequence[Line], path: Path) -> None:
    """Draw inertia, likeness and speed over sample sizes, a row a case, and write it as PNG."""
    from matplotlib.figure import Figure

    cases = list(dict.fromkeys(line["case"] for line in lines))
    figure = Figure(figsize=(3 * PANEL[0], PANEL[1] * len(cases)), layout="constrained")
    for case, panels in zip(cases, figure.subplots(len(cases), 3, squeeze=False), strict=True):
        here = [line for line in lines if line["case"] == case]
        for panel, (title, value) in zip(panels, PLOTTED.items(), strict=True):
            for name in dict.fromkeys(line["contender"] for line in here):
                points = [
                    (line["sample_size"], value(line))
                    for line in here
                    if line["contender"] == name and line["sample_size"] is not None
                ]
                if points:
                    panel.plot(
                        *zip(*sorted(points), strict=True), ".-", label=name, color=COLORS[name]
                    )
            panel.set_xscale("log")
            panel.set_title(f"{case}\n{title}", fontsize=8)
            panel.set_xlabel("sampled rows", fontsize=7)
            panel.tick_params(labelsize=7)
            panel.spines[["top", "right"]].set_visible(False)
        panels[0].legend(fontsize=7)
    about = lines[-1]
    figure.supxlabel(
        f"{about['cpu']}, {about['cores']} cores, float32, {about['date'][:10]}", fontsize=8
    )
    figure.savefig(path, dpi=110)


def _ari(line: Line) -> float:
    return statistics.mean(line["ari_to_full"])


PLOTTED = {
    "% above the full fit's inertia": lambda line: 100 * (line["inertia_to_full"] - 1),
    "ARI to the full fit's labels": _ari,
    "times as fast as the full fit": lambda line: line["speed_to_full"],
}
