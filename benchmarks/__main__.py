"""``python -m benchmarks kmeans``: parses the command line, and nothing else."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks import cases, contenders, kmeans


def main() -> int:
    """Run the benchmark that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "kmeans", help="fixed Lloyd iterations from the same initial centers"
    )
    command.add_argument(
        "--peers",
        type=_names(contenders.PEERS),
        default=list(contenders.PEERS),
        help=f"comma-separated, or 'none'; all by default: {','.join(contenders.PEERS)}",
    )
    command.add_argument(
        "--backends",
        type=_names(contenders.OURS),
        default=list(contenders.OURS),
        help=f"our backends, comma-separated, or 'none': {','.join(contenders.OURS)}",
    )
    command.add_argument(
        "--cases",
        type=_names(cases.CASES),
        default=["A", "B", "C", "D"],
        help="; ".join(case.describe() for case in cases.CASES.values()),
    )
    command.add_argument("--repeats", type=int, default=5)
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
        "--marginal",
        action="store_true",
        help="also time one-iteration fits, to tell the cost of an iteration from fixed costs",
    )
    command.add_argument(
        "--scale", type=float, default=1.0, help="fraction of the rows, for a quick look"
    )
    command.add_argument("--data", type=Path, help="Parquet file for the cases E1 and E2")
    command.add_argument("--json", type=Path, help="file to append JSON lines to")
    options = kmeans.Options(
        **{k: v for k, v in vars(parser.parse_args()).items() if k != "command"}
    )
    return kmeans.run(options)


def _names(known: dict[str, object]) -> object:
    """A parser of comma-separated names."""

    def names(text: str) -> list[str]:
        chosen = [] if text == "none" else text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return chosen

    return names


raise SystemExit(main())
