"""Which Dask cluster: the current one, another by its address, or one of our own.

A cluster of our own is processes on this machine that nobody else uses, so they are set up for
what they do.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

import dask
import distributed

from distclust.backends import worker_environment
from distclust.backends.address import refuse_strangers
from distclust.data.spare import SPARE
from distclust.errors import ClusterError, ClusterTimeout

__all__ = ["connected"]

SELDOM = {
    "distributed.admin.tick.interval": ("20ms", "500ms"),
    "distributed.worker.profile.interval": ("10ms", "100ms"),
}
"""Dask's defaults that wake idle event loops, and ours: less of the cores beside kernels."""


def connected(
    started: contextlib.ExitStack,
    address: str | None,
    workers: int | None,
    insecure: bool,
    **options: Any,
) -> distributed.Client:
    """Return the current client, or one of our own that `started` closes.

    Raises
    ------
    ConfigError
        The scheduler is beyond this machine and TLS is off, but for `insecure`.
    ClusterError, ClusterTimeout
        Processes did not start, or the scheduler did not answer in time.
    """
    if address is None:
        with contextlib.suppress(ValueError):
            return distributed.default_client()
        target: Any = _start_cluster(workers)
        started.callback(target.close)
        options["direct_to_workers"] = True
    else:
        refuse_strangers(
            address,
            authenticated=address.startswith(("tls://", "inproc://")),
            insecure=insecure,
            remedy="use its tls:// address, with security=",
        )
        target = address
    try:
        client = distributed.Client(target, **options)
    except OSError as error:
        raise ClusterTimeout(
            f"no Dask scheduler answered at {address!r} within {options['timeout']:g} s: {error}"
        ) from error
    started.callback(client.close)
    if address is None:
        client.register_plugin(KeepsMemory())
    return client


def _start_cluster(workers: int | None) -> distributed.LocalCluster:
    """Start processes for one call at a time each, that listen to this machine only.

    Stealing is off: a task that moves would pull its resident partition after it. Processes look
    less often than by default at what they are doing, unless asked to: kernels are long.
    """
    config: dict[str, Any] = {"distributed.scheduler.work-stealing": False}
    for name, (default, ours) in SELDOM.items():
        if dask.config.get(name) == default:
            config[name] = ours
    try:
        with dask.config.set(config):
            return distributed.LocalCluster(
                n_workers=workers or len(os.sched_getaffinity(0)),
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.ERROR,
                env=worker_environment(),
            )
    except RuntimeError as error:
        remedy = "a script has to connect under `if __name__ == '__main__':`"
        raise ClusterError(f"Dask's worker processes did not start; {remedy}") from error


class KeepsMemory(distributed.WorkerPlugin):
    """Has a worker keep memory of a fit for the next, for as long as there is its process."""

    name = "distclust-memory"

    def setup(self, worker: distributed.Worker) -> None:
        SPARE.enter()
