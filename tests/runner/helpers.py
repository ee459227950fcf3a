"""Ways to run commands and to look at what they left."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from distclust.cli import app

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Data:
    """The iris measurements in three files with several row groups."""

    directory: Path
    rows: np.ndarray

    @property
    def files(self) -> list[Path]:
        return sorted(self.directory.glob("*.parquet"))


def invoke(*args: str | Path) -> Ended:
    """Run a command in this process."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ended(result.exit_code, result.stdout, result.stderr)


def start(*args: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", *map(str, args)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def tree(directory: Path) -> set[str]:
    """Every file below a directory, except the input and the job."""
    return {
        str(path.relative_to(directory))
        for path in directory.rglob("*")
        if path.is_file() and path.parts[len(directory.parts)] not in ("data", "job.yaml")
    }
