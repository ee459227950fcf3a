"""The Dask backend keeps the contract, and the manners of a guest on a cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from distclust.backends import Backend, connect
from distclust.errors import ClusterError, ClusterTimeout, ConfigError, DistclustError
from tests.contract.contract import BackendContract, keeps_memory, load_range, total

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

TICK = "distributed.admin.tick.interval"


def tick(_resident: Any) -> Any:
    """How often the event loop of a worker looks at itself."""
    return dask.config.get(TICK)


class TestDaskBackend(BackendContract):
    name = "dask"

    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls, dask_cluster: str) -> Iterator[Backend]:
        with connect("dask", address=dask_cluster) as backend:
            yield backend


def test_close_leaves_a_foreign_cluster_and_client_alone(dask_cluster: str) -> None:
    with distributed.Client(dask_cluster, set_as_default=False) as client:
        with connect("dask", client=client) as backend:
            assert backend.slots == 2
        assert client.status == "running"
        backend.close()  # closing twice does nothing
    with connect("dask", address=dask_cluster) as backend:
        at = backend.place(load_range, 0, 3)
        assert backend.fetch(backend.call(total, at)) == 3.0
        assert not backend.fetch(backend.call(keeps_memory, at))
    with pytest.raises(ClusterError, match="connection to the Dask scheduler is closed"):
        backend.place(load_range, 0, 3)


def test_the_current_client_is_used(dask_cluster: str) -> None:
    with distributed.Client(dask_cluster) as client, connect("dask", workers=1) as backend:
        assert backend.slots == 1
        at = backend.place(load_range, 0, 3)
        assert client.who_has([at.where.future])


def test_threads_of_the_workers_are_shared_out(dask_cluster: str) -> None:
    with connect("dask", address=dask_cluster, threads_per_worker=2) as backend:
        assert (backend.slots, backend.threads_per_worker) == (2, 2)


def test_own_cluster_is_on_loopback_and_goes_with_the_backend() -> None:
    with connect("dask", workers=2) as backend:
        at = backend.place(load_range, 0, 3)
        assert backend.fetch(backend.call(total, at)) == 3.0
        assert backend.fetch(backend.call(keeps_memory, at))
        assert backend.fetch(backend.call(tick, at)) == "500ms"
        address = distributed.default_client().scheduler.address
        assert address.startswith("tcp://127.0.0.1:")
    with pytest.raises(ValueError, match="No client"):
        distributed.default_client()
    with pytest.raises(ClusterTimeout, match="no Dask scheduler answered"):
        connect("dask", address=address, timeout=0.5)


def test_own_cluster_keeps_to_what_the_user_set() -> None:
    with dask.config.set({TICK: "40ms"}), connect("dask", workers=1) as backend:
        assert backend.fetch(backend.call(tick, backend.place(load_range, 0, 3))) == "40ms"


def test_workers_that_do_not_come(dask_cluster: str) -> None:
    with pytest.raises(ClusterTimeout, match="3 Dask workers were asked for, 2 came"):
        connect("dask", address=dask_cluster, workers=3, timeout=0.2)


@pytest.mark.parametrize("address", ["tcp://203.0.113.7:8786", "203.0.113.7:8786"])
def test_stranger_without_tls_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"beyond this machine.*tls://"):
        connect("dask", address=address)


def test_threads_may_share_a_backend(dask_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits first sends what the others called, and they wait for that."""
    with connect("dask", address=dask_cluster) as backend, ThreadPoolExecutor(2) as threads:
        at = backend.place(load_range, 0, 5)
        send = backend._send

        def slowly(calls: list[Any]) -> None:
            time.sleep(0.3)
            send(calls)

        monkeypatch.setattr(backend, "_send", slowly)
        calls = [backend.call(total, at) for _ in range(2)]
        assert list(threads.map(backend.fetch, calls)) == [10.0, 10.0]


def test_what_cannot_be_sent_is_forgotten(dask_cluster: str) -> None:
    with connect("dask", address=dask_cluster) as backend:
        at = backend.place(load_range, 0, 5)
        bad, good = backend.call(total, at, threading.Lock()), backend.call(total, at)
        with pytest.raises((TypeError, DistclustError)):
            backend.fetch(bad)
        with pytest.raises(ClusterError, match="was not sent"):
            backend.fetch(bad)
        assert backend.fetch(good) == 10.0
        late = backend.call(total, at)
    with pytest.raises(ClusterError, match="was not sent"):
        backend.fetch(late)
