"""What a person reads: a headline, a sentence a contender, and a table of ratios at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from benchmarks.contenders import OURS

__all__ = ["headline", "sentence", "table"]

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
    """Say how one contender did in one case."""
    who = f"case {line['case']}: {line['contender']}"
    if line["error"]:
        return f"{who}: [red]{line['error']}[/]"
    return (
        f"{who}: {line['ms_per_iteration']:,.1f} ms an iteration "
        f"({line['n_iter']} iterations, {line['median_seconds']:.3f} s, "
        f"{min(line['seconds']):.3f} to {max(line['seconds']):.3f})"
    )


def table(lines: Sequence[Line]) -> Table:
    """Lay out all results, with the ratio of each contender's fit to each of ours."""
    ours = [cls.name for cls in OURS.values() if any(ln["contender"] == cls.name for ln in lines)]
    marginal = any("marginal_ms_per_iteration" in line for line in lines)
    result = Table(title="K-Means, same initial centers, medians of whole fits")
    result.add_column("case")
    result.add_column("contender")
    columns = ["ms/iteration", "iterations", "fit, s"]
    columns += ["ms/extra it.", "fixed, s"] if marginal else []
    columns += ["inertia / best", *(name.replace("distclust", "x") for name in ours)]
    for column in columns:
        result.add_column(column, justify="right")
    for case in dict.fromkeys(line["case"] for line in lines):
        group = [line for line in lines if line["case"] == case]
        for line in group:
            result.add_row(*_cells(line, group, ours, marginal=marginal))
        result.add_section()
    return result


def _cells(line: Line, group: Sequence[Line], ours: Sequence[str], *, marginal: bool) -> list[str]:
    cells = [line["case"], line["contender"]]
    if line["error"]:
        return [*cells, "failed"]
    cells += [
        f"{line['ms_per_iteration']:,.1f}",
        str(line["n_iter"]),
        f"{line['median_seconds']:.3f}",
    ]
    if marginal:
        extra = line.get("marginal_ms_per_iteration")
        cells += ["", ""] if extra is None else [f"{extra:,.1f}", f"{line['fixed_seconds']:.3f}"]
    done = [other for other in group if not other["error"]]
    cells.append(f"{line['inertia'] / min(other['inertia'] for other in done):.6f}")
    for name in ours:
        mine = [other["median_seconds"] for other in done if other["contender"] == name]
        cells.append(f"{line['median_seconds'] / mine[0]:.2f}" if mine else "")
    return cells
