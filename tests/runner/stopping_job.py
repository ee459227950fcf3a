"""A job that stops at a named point, says so, and waits to be killed: for `test_signals`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from distclust.cli import app
from distclust.runner.algorithms import ALGORITHMS


def wait_here(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a step of a job, then wait for ever."""

    def waiting(*args: Any) -> Any:
        result = function(*args)
        sys.stdout.write("waiting\n")
        sys.stdout.flush()
        threading.Event().wait()
        return result

    return waiting


def main() -> None:
    """Arguments: the point, then those of ``distclust``."""
    point, *args = sys.argv[1:]
    kmeans = ALGORITHMS["kmeans"]

    def build(spec: Any, n_partitions: int) -> Any:
        model = kmeans.build(spec, n_partitions)
        model.fit_source = wait_here(model.fit_source)
        return model

    changes = {"fitted": {"build": build}, "labelled": {"summary": wait_here(kmeans.summary)}}
    ALGORITHMS["kmeans"] = replace(kmeans, **changes[point])
    app(args)


if __name__ == "__main__":
    main()
