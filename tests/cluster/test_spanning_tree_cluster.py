"""The spanning tree on Ray and Dask: the same bits, also when workers are killed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

import distclust
from distclust.backends.local import LocalBackend
from distclust.cluster.spanning_tree import MutualReachability, spanning_tree
from distclust.data.arrays import ArraySource
from distclust.engine.events import Event, StageProgress
from distclust.engine.shards import Session
from tests.cluster.helpers import Killer, at_stage
from tests.cluster.test_spanning_tree import assert_same, groups_with_noise
from tests.faults.scripted import Fault, ScriptedBackend

N, D = 6000, 2
PHASES = ["partitioning", "core distances", "trees of partitions", "edges between partitions"]


@cache
def expected() -> MutualReachability:
    """Of one partition."""
    with LocalBackend(workers=1) as backend:
        return find(backend, 1)


def find(backend: Any, n_partitions: int, listener: Any = None) -> MutualReachability:
    session = Session(backend, listeners=[] if listener is None else [listener])
    source = ArraySource(groups_with_noise(N, D))
    return spanning_tree(session, source, min_samples=5, n_partitions=n_partitions)


@pytest.fixture(params=["ray", "dask"], scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A backend of two worker processes."""
    address = request.getfixturevalue(f"{request.param}_cluster")
    with distclust.connect(request.param, address=address) as backend:
        yield backend


@pytest.mark.parametrize("n_partitions", [1, 3, 16])
def test_on_a_cluster(cluster: Any, n_partitions: int) -> None:
    assert_same(find(cluster, n_partitions), expected())


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("partition", range(8))
def test_losses_anywhere(partition: int, fault: Fault) -> None:
    """Partitions 0 to 3 are those of the source, 4 to 7 the cells; each is lost twice."""
    script = {(partition, attempt): fault for attempt in (1 + partition % 4, 8 + partition % 4)}
    with ScriptedBackend(LocalBackend(workers=2), script) as backend:
        assert_same(find(backend, 4), expected())


class During:
    """While calls of a phase are in flight: some partitions have answered."""

    def __init__(self, phase: str) -> None:
        self.starts, self.began = at_stage(phase), False

    def __call__(self, event: Event) -> bool:
        self.began |= self.starts(event)
        return self.began and isinstance(event, StageProgress)


@pytest.mark.faults
@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_killed_in_each_phase(cluster: Any, phase: str) -> None:
    killer = Killer(cluster, During(phase))
    found = find(cluster, 4, killer)
    assert killer.killed
    assert_same(found, expected())
