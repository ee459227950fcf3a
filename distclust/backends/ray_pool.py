"""Where the Ray backend runs: its actors, what replaces them, and a cluster of our own.

One actor a worker, spread over the cluster by a placement group. Ray never restarts
them (``max_restarts=0``): a lost actor is replaced when the pool is next asked for its
slots, and the engine places again what was lost with it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray import cloudpickle
from ray._private import ray_constants
from ray.util.placement_group import (
    placement_group,
    placement_group_table,
    remove_placement_group,
)
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from distclust.backends import worker_environment
from distclust.data.spare import SPARE
from distclust.errors import ClusterTimeout

__all__ = ["Pool", "Slot", "listen_on_loopback", "packed", "restore_environment_after"]


def packed(fn: Callable[..., Any], args: Sequence[Any]) -> tuple[Any, ...]:
    """Return ``fn(resident, *args)`` for `Worker.call`, all but objects in the store in one piece.

    Ray takes longer to pickle each of some small arguments than them all.
    """
    places = [i for i, arg in enumerate(args) if isinstance(arg, ray.ObjectRef)]
    plain = [None if i in places else arg for i, arg in enumerate(args)]
    return cloudpickle.dumps((fn, plain, places)), *(args[i] for i in places)


class Worker:
    """The actor: the partitions resident in one process."""

    def __init__(self) -> None:
        self._residents: dict[int, Any] = {}
        SPARE.enter()  # for as long as there is this process

    def ready(self) -> None:
        """Answer once the process is up."""

    def load(self, key: int, load: Callable[..., Any], *args: Any) -> None:
        self._residents[key] = load(*args)

    def call(self, key: int, _loaded: None, asked: bytes, *objects: Any) -> Any:
        """Call what is `packed`; if `load` raised, `_loaded` carries its error: Ray raises that."""
        fn, args, places = cloudpickle.loads(asked)
        for place, value in zip(places, objects, strict=True):
            args[place] = value
        return fn(self._residents[key], *args)

    def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        return fn(*args)

    def forget(self, key: int) -> None:
        self._residents.pop(key, None)


@dataclass(eq=False)
class Slot:
    """One place of the pool: a bundle of the placement group, and the actor in it."""

    bundle: int
    actor: Any
    residents: int = 0
    lost: bool = False


class Pool:
    """Actors that hold partitions.

    Parameters
    ----------
    size : int
        Actors.
    bundle : dict
        Resources of each, by Ray's names.
    timeout : float
        Seconds to wait for the cluster to have room for them.
    """

    def __init__(self, size: int, bundle: dict[str, float], timeout: float) -> None:
        self.size, self._bundle, self._timeout = size, bundle, timeout
        self._slots: list[Slot] = []
        self._group: Any = None

    def start(self) -> None:
        """Reserve the bundles, and wait until an actor answers from each.

        Raises
        ------
        ClusterTimeout
            There was no room for them in time.
        """
        self._group = placement_group([self._bundle] * self.size, strategy="SPREAD")
        if self._group.wait(self._timeout):
            slots = [Slot(bundle, self._actor(bundle)) for bundle in range(self.size)]
            self._slots = self._answering(slots)
        if len(self._slots) < self.size:
            error = self._no_room()  # reads what is free before the pool gives up its share
            self.stop()
            raise error

    def stop(self) -> None:
        """Kill the actors and give up what was reserved for them."""
        if ray.is_initialized():
            for slot in self._slots:
                slot.lost = True
                ray.kill(slot.actor)
            if self._group is not None:
                remove_placement_group(self._group)
        self._slots, self._group = [], None

    def stop_if_idle(self) -> None:
        """Give back the CPUs of a pool without residents; `usable` starts it again."""
        if not any(slot.residents for slot in self._slots):
            self.stop()

    def usable(self) -> list[Slot]:
        """Return the slots whose actors live, after replacing lost ones.

        A slot whose node died is left out until Ray has moved its bundle to a node with
        room: its partitions then go to the other slots.

        Raises
        ------
        ClusterTimeout
            There is no room for any.
        """
        if self._group is None:
            self.start()
        lost = [slot for slot in self._slots if slot.lost]
        if lost:
            if len(lost) == self.size:
                self._group.wait(self._timeout)
            for slot in self._answering([self._replacement(old) for old in self._housed(lost)]):
                self._slots[slot.bundle] = slot
        usable = [slot for slot in self._slots if not slot.lost]
        if not usable:
            raise self._no_room()
        return usable

    def mark_lost(self, actor_id: str | None) -> None:
        """Remember that the actor with this id, in hexadecimal, is gone."""
        for slot in self._slots:
            slot.lost |= slot.actor._actor_id.hex() == actor_id

    def _housed(self, slots: Sequence[Slot]) -> list[Slot]:
        """Return the slots whose bundle is on a living node."""
        nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        homes = placement_group_table(self._group)["bundles_to_node_id"]
        return [slot for slot in slots if homes.get(slot.bundle) in nodes]

    def _replacement(self, slot: Slot) -> Slot:
        ray.kill(slot.actor)  # it may only be out of reach, and must not come back
        return Slot(slot.bundle, self._actor(slot.bundle))

    def _actor(self, bundle: int) -> Any:
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle)
        options = {
            "num_cpus": self._bundle["CPU"],
            "memory": self._bundle.get("memory"),
            "max_restarts": 0,
            "scheduling_strategy": place,
            "runtime_env": {"env_vars": worker_environment()},
        }
        return ray.remote(Worker).options(**options).remote()

    def _answering(self, slots: Sequence[Slot]) -> list[Slot]:
        """Return the slots whose actor answers in time, and kill the others."""
        if not slots:
            return []
        signs = {slot.actor.ready.remote(): slot for slot in slots}
        ready, late = ray.wait(list(signs), num_returns=len(signs), timeout=self._timeout)
        for sign in late:
            ray.kill(signs[sign].actor)
        for sign in ready:
            ray.get(sign)
        return [signs[sign] for sign in ready]

    def _no_room(self) -> ClusterTimeout:
        cluster, free = (
            {name: amounts.get(name, 0.0) for name in self._bundle}
            for amounts in (ray.cluster_resources(), ray.available_resources())
        )
        return ClusterTimeout(
            f"Ray had no room for {self.size} workers of {self._bundle} within "
            f"{self._timeout:g} s; the cluster has {cluster}, of which {free} are free: ask for "
            "fewer workers or threads_per_worker, stop what holds the rest, or raise "
            "placement_timeout"
        )


def listen_on_loopback(started: contextlib.ExitStack) -> None:
    """Have a cluster that is started here listen on 127.0.0.1, as on macOS and Windows.

    Ray binds to all interfaces on Linux, whatever node address it is given; this is the
    switch it has for it, read by this process and by those it starts.
    """
    started.callback(setattr, ray_constants, "ENABLE_RAY_CLUSTER", ray_constants.ENABLE_RAY_CLUSTER)
    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"


def restore_environment_after(started: contextlib.ExitStack) -> None:
    """Undo, in the end, what joining does to this process's ``RAY_`` variables."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RAY_")}

    def restore() -> None:
        for name in [name for name in os.environ if name.startswith("RAY_")]:
            del os.environ[name]
        os.environ.update(before)

    started.callback(restore)
