"""Draws results: bars of whole fits, inertia over time, and how many times as long peers take."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.modes import MODES
from benchmarks.report import OUR_NAMES, Line

__all__ = ["draw", "draw_ratios"]

PANEL = (4.2, 3.0)  # inches
BAR = 0.16  # inches
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


def draw_ratios(lines: Sequence[Line], path: Path) -> None:
    """Draw one panel a mode: a peer's time as a multiple of the fastest of ours, case by case."""
    from matplotlib.figure import Figure

    groups = {
        mode: _ratios([line for line in lines if line["mode"] == mode])
        for mode in dict.fromkeys(line["mode"] for line in lines)
        if mode != "curve"
    }
    groups = {mode: ratios for mode, ratios in groups.items() if ratios}
    n_bars = max(sum(1 + len(peers) for peers in ratios.values()) for ratios in groups.values())
    size = (PANEL[0] * len(groups), 1.0 + BAR * n_bars)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    colors = _colors(lines)
    for (mode, ratios), panel in zip(groups.items(), panels, strict=True):
        _multiples(panel, ratios, colors)
        panel.set_title(MODES[mode].title, fontsize=8)
    about = lines[-1]
    figure.supxlabel(
        "times as long as distclust takes, whole fits; "
        f"{about['cpu']}, {about['cores']} cores, float32, {about['date'][:10]}",
        fontsize=8,
    )
    figure.savefig(path, dpi=110)


def _ratios(lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Return each peer's multiple of our fastest time, in each case where both took part."""
    ratios = {}
    for case in dict.fromkeys(line["case"] for line in lines):
        here = [line for line in lines if line["case"] == case]
        seconds = {line["contender"]: line["median_seconds"] for line in here}
        ours = min((s for name, s in seconds.items() if name in OUR_NAMES), default=None)
        peers = {name: s / ours for name, s in seconds.items() if ours and name not in OUR_NAMES}
        if peers:
            ratios[case] = dict(sorted(peers.items(), key=lambda item: item[1]))
    return ratios


def _multiples(panel: Any, ratios: dict[str, dict[str, float]], colors: dict[str, str]) -> None:
    """Draw the bars of each case under each other, the fastest peer first."""
    place, ticks = 0, []
    for case, peers in ratios.items():
        ticks.append((place + (len(peers) - 1) / 2, case.replace(" k=", "\nk=")))
        for name, ratio in peers.items():
            bar = panel.barh(place, ratio, color=colors[name], height=0.9)
            panel.bar_label(bar, [f"{ratio:.1f} {name}"], padding=3, fontsize=6)
            place += 1
        place += 1
    panel.set_yticks(*zip(*ticks, strict=True), fontsize=7)
    panel.invert_yaxis()
    panel.axvline(1, color=OUR_COLORS[0], lw=1.5)
    panel.set_xscale("log")
    drawn = [ratio for peers in ratios.values() for ratio in peers.values()]
    panel.set_xlim(0.8 * min(1.0, *drawn), 4 * max(drawn))
    panel.tick_params(axis="x", labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)


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
