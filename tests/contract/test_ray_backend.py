"""The Ray backend keeps the contract, and the manners of a guest on a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from distclust.backends import Backend, connect
from distclust.data.blocks import Partition
from distclust.data.collections import CollectionSource
from distclust.errors import ClusterTimeout, ConfigError
from tests.contract.contract import BackendContract, keeps_memory, load_range, total

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")


def n_rows(partition: Partition) -> int:
    return partition.n_rows


class TestRayBackend(BackendContract):
    name = "ray"

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, ray_cluster: str) -> Iterator[Backend]:
        with connect("ray", workers=2) as backend:
            yield backend


def test_close_leaves_a_joined_cluster_running_and_gives_its_cpus_back(ray_cluster: str) -> None:
    for _ in range(2):  # the second needs what the first held
        with connect("ray", address=ray_cluster) as backend:
            assert backend.slots == 2
            at = backend.place(load_range, 0, 3)
            assert backend.fetch(backend.call(total, at)) == 3.0
            assert backend.fetch(backend.call(keeps_memory, at))
        assert ray.is_initialized()
    backend.close()  # closing twice does nothing
    del at  # nor does a handle that outlives its backend


def test_demand_that_does_not_fit(ray_cluster: str) -> None:
    with pytest.raises(ClusterTimeout, match=r"no room for 3 workers of \{'CPU': 1\}.*'CPU': 2\.0"):
        connect("ray", workers=3, placement_timeout=0.1)
    with connect("ray", workers=2) as backend:  # nothing of it was left behind
        assert backend.slots == 2


def test_ray_data_gets_the_cpus_of_an_idle_pool(ray_cluster: str) -> None:
    X = ray.data.range(10, override_num_blocks=2).map_batches(
        lambda rows: rows
    )  # needs a CPU to run
    with connect("ray", workers=2) as backend:
        source = CollectionSource(backend.adopt(X))
        handles = [backend.place(source.load, *args) for args in source.plan(2)]
        assert [backend.fetch(backend.call(n_rows, at)) for at in handles] == [5, 5]


def test_another_cluster_than_the_joined_one(ray_cluster: str) -> None:
    with pytest.raises(ConfigError, match=r"this process has joined.*ray\.shutdown"):
        connect("ray", address="127.0.0.1:1")


# What follows joins or starts a cluster, so it runs in a process of its own.

STRANGER = """
from distclust.backends import connect
from distclust.errors import ConfigError
try:
    connect("ray", address="203.0.113.7:6379")
except ConfigError as error:
    assert "RAY_AUTH_MODE=token" in str(error), error
else:
    raise AssertionError("joined a stranger")
"""

NOBODY = """
from distclust.backends import connect
from distclust.errors import ClusterError
try:
    connect("ray", address="127.0.0.1:1")
except ClusterError as error:
    assert "cannot join the Ray cluster at '127.0.0.1:1'" in str(error), error
else:
    raise AssertionError("joined nobody")
"""

OWN = """
import os
import ray
from distclust.backends import connect
imported = {name: os.environ[name] for name in os.environ if name.startswith("RAY_")}
with connect("ray", workers=1) as backend:
    assert ray.get_runtime_context().gcs_address.startswith("127.0.0.1:")
    at = backend.place(int, 3)
    assert backend.fetch(backend.call(pow, at, 2)) == 9
    env = backend.fetch(backend.call(getattr, backend.place(__import__, "os"), "environ"))
    assert env["OMP_NUM_THREADS"] == "1"
assert not ray.is_initialized()
left = {name: os.environ[name] for name in os.environ if name.startswith("RAY_")}
assert left == imported, (left, imported)
"""


@pytest.mark.parametrize(
    "script",
    [STRANGER, NOBODY, OWN],
    ids=["refuses a stranger", "says that nobody is there", "starts its own"],
)
def test_in_a_process_of_its_own(script: str) -> None:
    unset = ("RAY_AUTH_MODE", "RAY_ADDRESS")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    run = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
