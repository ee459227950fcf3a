"""What a person reads: a headline, a sentence a contender, and tables of ratios."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.modes import MODES
from benchmarks.ours import OURS

__all__ = ["OUR_NAMES", "Line", "headline", "markdown", "pooled", "seconds_to", "sentence", "show"]

OUR_NAMES = tuple(cls.name for cls in OURS.values())
REFERENCE = "sklearn"

Line = dict[str, Any]


def headline(about: Line, workers: int) -> str:
    """Name the machine, and say when it is not idle."""
    text = f"{about['cpu']}, {about['cores']} cores, {workers} workers; {', '.join(about['blas'])}"
    if about["load_before"] > 0.5:
        text += f"\n[yellow]load {about['load_before']}: something else is running here[/]"
    if "OPENBLAS_CORETYPE" in about["env"]:
        text += "\n[yellow]OPENBLAS_CORETYPE is set: it slows contenders that use OpenBLAS[/]"
    return text


def sentence(line: Line) -> str:
    """Say how one contender did in one fit."""
    who = f"case {line['case']}: {line['contender']}"
    if line["error"]:
        return f"{who}: [red]{line['error']}[/]"
    (seconds,), (n_iter,) = line["seconds"], line["n_iter"]
    return f"{who}: {seconds:.3f} s, {n_iter} iterations, {1e3 * seconds / n_iter:,.1f} ms each"


def pooled(lines: Iterable[Line]) -> list[Line]:
    """Merge what several runs of one commit measured of one thing, where all went well.

    Runs of an older commit than the newest of a mode and case are left out: ratios are
    only taken between figures of the same commit.
    """
    good = [line for line in lines if not line["error"]]
    newest = {(line["mode"], line["case"]): line["commit"] for line in good}
    merged: dict[tuple[Any, ...], Line] = {}
    for line in good:
        if line["commit"] != newest[line["mode"], line["case"]]:
            continue
        key = (line["mode"], line["case"], line["contender"], line["budget"])
        if key in merged:
            for name in ("seconds", "n_iter", "inertia"):
                merged[key][name] += line[name]
        else:
            merged[key] = {
                name: list(value) if isinstance(value, list) else value
                for name, value in line.items()
            }
    for line in merged.values():
        line["median_seconds"] = statistics.median(line["seconds"])
    return list(merged.values())


def show(lines: Sequence[Line], console: Console) -> None:
    """Print all results: what was measured at length, then in short."""
    for mode in dict.fromkeys(line["mode"] for line in lines):
        if mode != "curve":  # too many lines to read: the short table says when a goal is reached
            console.print(_table([line for line in lines if line["mode"] == mode]))
    done = [line for line in lines if not line["error"]]
    console.print(markdown(done), markup=False, highlight=False, soft_wrap=True)


def _table(lines: Sequence[Line]) -> Table:
    """Lay out a mode's results, with the ratio of each contender's fit to each of ours."""
    ours = [name for name in OUR_NAMES if any(line["contender"] == name for line in lines)]
    result = Table(title=f"K-Means, {MODES[lines[0]['mode']].title}; medians of whole fits")
    result.add_column("case")
    result.add_column("contender")
    columns = ["fits", "iterations", "fit, s", "ms/iteration", "inertia"]
    columns += [name.replace("distclust", "x") for name in ours]
    for column in columns:
        result.add_column(column, justify="right")
    for group in _groups(lines):
        for line in group:
            result.add_row(*_cells(line, group, ours))
        result.add_section()
    return result


def _groups(lines: Sequence[Line]) -> list[list[Line]]:
    """Split into what may be compared: one case and budget."""
    groups: dict[tuple[Any, ...], list[Line]] = {}
    for line in lines:
        groups.setdefault((line["case"], line["budget"]), []).append(line)
    return list(groups.values())


def _cells(line: Line, group: Sequence[Line], ours: Sequence[str]) -> list[str]:
    cells = [line["case"], line["contender"]]
    if line["error"]:
        return [*cells, "failed"]
    n_iter = statistics.mean(line["n_iter"])
    cells += [
        str(len(line["seconds"])),
        f"{n_iter:.5g}",
        f"{line['median_seconds']:.3f}",
        f"{1e3 * line['median_seconds'] / n_iter:,.1f}",
        _relative_inertia(line, group),
    ]
    for name in ours:
        mine = _find(group, name)
        ratio = "" if mine is None else f"{line['median_seconds'] / mine['median_seconds']:.2f}"
        cells.append(ratio)
    return cells


def _find(group: Iterable[Line], contender: str) -> Line | None:
    """Return a contender's line, if it succeeded."""
    found = (line for line in group if line["contender"] == contender and not line["error"])
    return next(found, None)


def _relative_inertia(line: Line, group: Sequence[Line]) -> str:
    """Return by how much the inertia exceeds scikit-learn's, or else itself."""
    mean = statistics.mean(line["inertia"])
    reference = _find(group, REFERENCE)
    if reference is None:
        return f"{mean:.6g}"
    return f"{mean / statistics.mean(reference['inertia']) - 1:+.1e}"


def seconds_to(target: float, curve: Iterable[Line]) -> float | None:
    """Return the time of the shortest fit that reached an inertia, if any did.

    Parameters
    ----------
    target : float
    curve : iterable of dict
        Lines of one contender, of all budgets.
    """
    reached = [
        line["median_seconds"] for line in curve if statistics.mean(line["inertia"]) <= target
    ]
    return min(reached, default=None)


def markdown(lines: Sequence[Line], *, within: float = 0.01) -> str:
    """Return one table a mode: a row a case, a column a contender, seconds in the cells.

    The last column divides the fastest peer by the fastest of ours. For curves, a cell is
    the time to an inertia that exceeds the best of all by no more than `within`.
    """
    parts = []
    for mode in dict.fromkeys(line["mode"] for line in lines):
        of_mode = [line for line in lines if line["mode"] == mode]
        names = list(dict.fromkeys(line["contender"] for line in of_mode))
        title = MODES[mode].title
        if mode == "curve":
            title += f": time to {within:.0%} above the lowest inertia"
        parts.append(f"**{title[0].upper()}{title[1:]}** (seconds)\n")
        parts.append("| case | " + " | ".join(names) + " | fastest peer / ours |")
        parts.append("| --- |" + " --- |" * (len(names) + 1))
        for case in dict.fromkeys(line["case"] for line in of_mode):
            seconds = _seconds([line for line in of_mode if line["case"] == case], mode, within)
            cells = [f"{seconds[n]:.3g}" if n in seconds else "" for n in names]
            ours = [s for name, s in seconds.items() if name in OUR_NAMES]
            peers = [s for name, s in seconds.items() if name not in OUR_NAMES]
            ratio = f"{min(peers) / min(ours):.2f}" if ours and peers else ""
            parts.append("| " + " | ".join([case, *cells, ratio]) + " |")
        parts.append("")
    return "\n".join(parts)


def _seconds(lines: Sequence[Line], mode: str, within: float) -> dict[str, float]:
    """Return each contender's time in one case."""
    if mode != "curve":
        return {line["contender"]: line["median_seconds"] for line in lines}
    target = (1 + within) * min(statistics.mean(line["inertia"]) for line in lines)
    found = {
        name: seconds_to(target, [line for line in lines if line["contender"] == name])
        for name in dict.fromkeys(line["contender"] for line in lines)
    }
    return {name: seconds for name, seconds in found.items() if seconds is not None}
