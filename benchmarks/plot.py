"""Draws results: bars of whole fits, and inertia over time."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.modes import MODES
from benchmarks.report import OUR_NAMES, Line

__all__ = ["draw"]

PANEL = (4.2, 3.0)  # inches
OUR_COLORS = ("#c2410c", "#f59e0b", "#be123c", "#fb7185")
PEER_COLORS = ("#1e3a8a", "#2563eb", "#60a5fa", "#0f766e", "#5eead4", "#6b7280", "#a3a3a3")


def draw(lines: Sequence[Line], path: Path) -> None:
    """Draw one row of panels a mode and one panel a case, and write it as PNG."""
    from matplotlib.figure import Figure

    modes = list(dict.fromkeys(line["mode"] for line in lines))
    cases = list(dict.fromkeys(line["case"] for line in lines))
    figure = Figure(figsize=(PANEL[0] * len(cases), PANEL[1] * len(modes)), layout="constrained")
    panels = figure.subplots(len(modes), len(cases), squeeze=False)
    colors = _colors(lines)
    for mode, row in zip(modes, panels, strict=True):
        for case, panel in zip(cases, row, strict=True):
            here = [line for line in lines if (line["mode"], line["case"]) == (mode, case)]
            if not here:
                panel.set_axis_off()
                continue
            (_curves if mode == "curve" else _bars)(panel, here, colors)
            size = f"{here[0]['n_rows']:,} x {here[0]['n_features']}, k={here[0]['n_clusters']}"
            name = case.split(" k=")[0]
            panel.set_title(f"{name}: {size}\n{MODES[mode].title}", fontsize=8)
    about = lines[-1]
    figure.supxlabel(
        f"{about['cpu']}, {about['cores']} cores, float32, {about['date'][:10]}", fontsize=8
    )
    figure.savefig(path, dpi=110)


def _colors(lines: Sequence[Line]) -> dict[str, str]:
    """Give each contender a color: ours warm ones."""
    names = list(dict.fromkeys(line["contender"] for line in lines))
    ours = [name for name in names if name in OUR_NAMES]
    peers = [name for name in names if name not in OUR_NAMES]
    return dict(zip(ours, cycle(OUR_COLORS))) | dict(zip(peers, cycle(PEER_COLORS)))


def _above_lowest(lines: Sequence[Line]) -> list[float]:
    """Return by how many percent each line's inertia exceeds the lowest."""
    means = [statistics.mean(line["inertia"]) for line in lines]
    return [100 * (mean / min(means) - 1) for mean in means]


def _bars(panel: Any, lines: Sequence[Line], colors: dict[str, str]) -> None:
    """Draw a bar a contender, the fastest on top; in brackets, inertia above the lowest."""
    ordered = sorted(lines, key=lambda line: line["median_seconds"], reverse=True)
    names = [line["contender"] for line in ordered]
    seconds = [line["median_seconds"] for line in ordered]
    bars = panel.barh(names, seconds, color=[colors[name] for name in names])
    above = _above_lowest(ordered)
    texts = [
        f"{s:.3g} s" + (f" (+{a:.1f} %)" if a >= 0.05 else "")
        for s, a in zip(seconds, above, strict=True)
    ]
    panel.bar_label(bars, texts, padding=3, fontsize=7)
    panel.set_xlim(0, 1.35 * max(seconds))
    panel.tick_params(labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)


def _curves(panel: Any, lines: Sequence[Line], colors: dict[str, str]) -> None:
    """Draw a line a contender: inertia above the lowest, over seconds."""
    points = list(zip(lines, _above_lowest(lines), strict=True))
    for name in dict.fromkeys(line["contender"] for line in lines):
        mine = [(line["median_seconds"], a) for line, a in points if line["contender"] == name]
        width = 2.0 if name in OUR_NAMES else 1.2
        panel.plot(*zip(*mine, strict=True), ".-", color=colors[name], label=name, lw=width)
    panel.set_xscale("log")
    panel.set_yscale("symlog", linthresh=0.1)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("seconds", fontsize=7)
    panel.set_ylabel("% above the lowest inertia", fontsize=7)
    panel.tick_params(labelsize=7)
    panel.legend(fontsize=6)
    panel.spines[["top", "right"]].set_visible(False)
