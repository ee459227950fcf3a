"""The Ray backend: partitions in actors, results in the object store.

`distclust.backends.ray_pool` keeps the actors; this module owns joining or starting a
cluster, the translation of each verb into Ray's, and of Ray's errors into ours. No other
module imports ray.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pickle
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions as rex

from distclust.backends import native
from distclust.backends.address import knock, refuse_strangers
from distclust.backends.connection import Connection
from distclust.backends.ray_pool import (
    Pool,
    Slot,
    listen_on_loopback,
    packed,
    restore_environment_after,
)
from distclust.data.collections import Chunks, Piece, describe, labelled
from distclust.data.storage import load_within
from distclust.engine.protocol import Future, Handle, Ref
from distclust.errors import ClusterError, ConfigError, DistclustError, TaskFailed, WorkerLost

__all__ = ["RayBackend"]

LOST = (
    rex.RayActorError,
    rex.WorkerCrashedError,
    rex.NodeDiedError,
    rex.ObjectLostError,
    rex.OutOfMemoryError,
    rex.LocalRayletDiedError,
    rex.TaskPlacementGroupRemoved,
    rex.ActorPlacementGroupRemoved,
    rex.RpcError,
)
"""What Ray raises when a process or node is gone: `WorkerLost`. The rest is `TaskFailed`."""


INLINE_BYTES = 1 << 16  # values up to this size travel with each call


@dataclass(frozen=True, eq=False)
class Resident:
    """Where a partition is: `key` in the actor of `slot`, once `loaded` is there."""

    slot: Slot
    key: int
    loaded: Any


class RayBackend(Connection):
    """Actors of a Ray cluster.

    Parameters
    ----------
    address : str, optional
        Cluster to join, ``"auto"`` for the one running on this machine. Without it: the
        cluster this process has joined, else ``RAY_ADDRESS``, else one of our own on the
        loopback interface.
    workers : int, optional
        Actors; unless given, as many as the cluster has CPUs for. Ray Data needs a free
        CPU to work while they live.
    threads_per_worker : int, default=1
        CPUs, and kernel threads, of each.
    placement_timeout : float, default=60.0
        Seconds to wait for the cluster to have room for them.
    memory_per_worker : int, optional
        Bytes reserved for each; also its `memory_limit`, unless that is given.
    memory_limit, scratch_dir : optional
        See `Connection`.
    insecure : bool, default=False
        Join a cluster beyond this machine even though token authentication is off.
    """

    name = "ray"

    def __init__(
        self,
        address: str | None = None,
        workers: int | None = None,
        threads_per_worker: int = 1,
        *,
        placement_timeout: float = 60.0,
        memory_per_worker: int | None = None,
        memory_limit: int | str | None = None,
        scratch_dir: str | None = None,
        insecure: bool = False,
    ) -> None:
        super().__init__(memory_limit or memory_per_worker, scratch_dir)
        self.threads_per_worker = threads_per_worker
        self._keys = itertools.count()
        with contextlib.ExitStack() as started:
            _join(started, address, workers and workers * threads_per_worker, insecure)
            cpus = int(ray.cluster_resources().get("CPU", 0))
            self.slots = workers or max(1, cpus // threads_per_worker)
            nodes = sum(node["Alive"] for node in ray.nodes())
            self.room = self.room.shared(-(-self.slots // nodes))
            bundle: dict[str, float] = {"CPU": threads_per_worker}
            if memory_per_worker is not None:
                bundle["memory"] = memory_per_worker
            self._pool = Pool(self.slots, bundle, placement_timeout)
            started.callback(self._pool.stop)
            self._pool.start()
            self._started = started.pop_all()

    def place(self, load: Callable[..., Any], *args: Any) -> Handle:
        slot = min(self._pool.usable(), key=lambda slot: slot.residents)
        key = next(self._keys)
        loaded = slot.actor.load.remote(key, load_within, self.room, load, *map(native, args))
        handle = Handle(Resident(slot, key, loaded))
        slot.residents += 1
        weakref.finalize(handle, _forget, slot, key).atexit = False
        return handle

    def put(self, value: Any) -> Ref:
        """Keep a small value to send along with each call; store a large one once."""
        small = len(pickle.dumps(value, protocol=5)) <= INLINE_BYTES
        return Ref(value if small else ray.put(value))

    def call(
        self, fn: Callable[..., Any], at: Handle, *args: Any, to_fetch: bool = False
    ) -> Future:
        home: Resident = at.where
        asked = packed(fn, [native(arg) for arg in args])
        return home.slot.actor.call.remote(home.key, home.loaded, *asked)

    def combine(self, fn: Callable[..., Any], futures: Sequence[Future]) -> Future:
        slots = self._pool.usable()  # in turn: a merge is small, an actor is warm
        return slots[next(self._keys) % len(slots)].actor.run.remote(fn, *futures)

    def wait(
        self, futures: Collection[Future], timeout: float | None
    ) -> tuple[set[Future], set[Future]]:
        if not futures:
            return set(), set()
        done, pending = ray.wait(list(futures), timeout=timeout, fetch_local=False)
        if done and pending:  # take all that is there, not only the first
            count = len(pending)
            more, pending = ray.wait(pending, num_returns=count, timeout=0, fetch_local=False)
            done += more
        return set(done), set(pending)

    def fetch(self, future: Future) -> Any:
        try:
            return ray.get(future)
        except rex.RayError as error:
            raise self._translated(error) from error

    def close(self) -> None:
        self._started.close()

    def adopt(
        self,
        X: Any,
        *,
        columns: Sequence[str] | None = None,
        vector: str | None = None,
        sample_weight: Any = None,
    ) -> Chunks | None:
        """Return the blocks of a Ray Dataset, or None if `X` is something else."""
        if not isinstance(X, ray.data.Dataset):
            return None
        if not isinstance(X, ray.data.dataset.MaterializedDataset):
            self._pool.stop_if_idle()  # Ray Data needs CPUs to run with
            X = X.materialize()
        bundles = X.iter_internal_ref_bundles()
        refs = [entry.ref for bundle in bundles for entry in bundle.blocks]
        looks = [self.combine(describe, [ref, columns, vector]) for ref in refs]
        chunks = Chunks.of(refs, [self.fetch(look) for look in looks], columns, vector)
        if sample_weight is None:
            return chunks
        return chunks.weighted_by(ray.put(part) for part in chunks.split(sample_weight))

    def assemble(self, chunks: Chunks, pieces: Sequence[Piece], *, name: str = "label") -> Any:
        """Return a Ray Dataset: the rows adopted, with their labels as a column."""
        tables = [
            self.combine(labelled, [ref, name, index, part])
            for ref, (part, index) in zip(chunks.refs, pieces, strict=True)
        ]
        ray.wait(tables, num_returns=len(tables), fetch_local=False)
        self._pool.stop()  # Ray Data needs CPUs to run with; residents can be placed again
        return ray.data.from_arrow_refs(tables)

    def _translated(self, error: rex.RayError) -> DistclustError:
        """Translate what Ray raised, looking through the tasks that passed it on."""
        root: BaseException = error
        while isinstance(root, rex.RayTaskError):
            root = root.cause
        if isinstance(root, rex.RayActorError):
            self._pool.mark_lost(root.actor_id)
        if isinstance(root, LOST):
            return WorkerLost(f"{type(root).__name__}: {root}")
        return TaskFailed(
            f"{type(root).__name__}: {root}",
            cause=root if isinstance(root, DistclustError) else None,
            remote_traceback=str(error),
        )


def _forget(slot: Slot, key: int) -> None:
    """Drop a partition whose handle is gone."""
    slot.residents -= 1
    if not slot.lost and ray.is_initialized():
        slot.actor.forget.remote(key)


def _join(
    started: contextlib.ExitStack, address: str | None, cpus: int | None, insecure: bool
) -> None:
    """Join a cluster, or start one that listens to this machine only.

    What was done here is undone by `started`. That includes the environment: starting a
    local cluster turns token authentication on for this process.
    """
    if ray.is_initialized():
        joined = ray.get_runtime_context().gcs_address
        if address not in (None, "auto", joined):
            raise ConfigError(
                f"address={address!r}, but this process has joined the Ray cluster at "
                f"{joined!r}: call ray.shutdown() first"
            )
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    restore_environment_after(started)
    started.callback(ray.shutdown)
    own: dict[str, Any] = {}
    if address == "local":
        listen_on_loopback(started)
        own = {"include_dashboard": False, "num_cpus": cpus and max(cpus, os.cpu_count() or 1)}
    elif address != "auto":
        _refuse_strangers(address, insecure)
    try:
        if address not in ("local", "auto"):
            knock(address)  # Ray itself would try for minutes
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, RuntimeError, rex.RayError) as error:
        raise ClusterError(f"cannot join the Ray cluster at {address!r}: {error}") from error
    if address == "auto":
        _refuse_strangers(ray.get_runtime_context().gcs_address, insecure)


def _refuse_strangers(address: str, insecure: bool) -> None:
    refuse_strangers(
        address,
        authenticated=os.environ.get("RAY_AUTH_MODE") == "token",
        insecure=insecure,
        remedy="start it with RAY_AUTH_MODE=token, and set that here too",
    )
