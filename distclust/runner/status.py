"""The last word on a job, in a file: for schedulers that flatten exit codes.

``output.status`` names it. A job that fails leaves nothing in its output directory, and a
finished output that it would have replaced stays as it was, so the state of a failure is
written only there; a job that succeeds also puts ``status.json`` into its output.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from distclust.runner.secrets import scrub

__all__ = ["status_record", "write_json", "write_status"]

STATES = {0: "done", 2: "bad configuration", 3: "bad input data", 4: "cluster failure"}
STATES |= {5: "partial", 130: "interrupted", 143: "interrupted"}


def status_record(exit_code: int, message: str) -> dict[str, Any]:
    """Return the content of a status file.

    Examples
    --------
    >>> status_record(3, "rows.parquet: zero rows")["state"]
    'bad input data'
    """
    return {
        "schema_version": 1,
        "state": STATES.get(exit_code, "failed"),
        "exit_code": exit_code,
        "message": scrub(message),
    }


def write_status(path: str | Path, exit_code: int, message: str) -> None:
    """Write a status file, making its directory if need be.

    Raises
    ------
    OSError
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        write_json(partial, status_record(exit_code, message))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, record: dict[str, Any]) -> None:
    """Write one JSON object and flush it to the disk."""
    with Path(path).open("w", encoding="utf-8") as stream:
        json.dump(record, stream, indent=1, allow_nan=False)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
