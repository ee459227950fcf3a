"""Which backend is meant: names, options, and what the input already is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distclust.backends import connect, resolve
from distclust.backends.local import LocalBackend
from distclust.errors import BackendNotInstalled, ConfigError, UnknownBackend


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownBackend, match=r"no backend is called 'dsk'; did you mean 'dask'\?"):
        connect("dsk")
    with pytest.raises(UnknownBackend, match="known are"):
        resolve("spark")


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ray" else find_spec(name)
    )
    with pytest.raises(BackendNotInstalled, match=r'pip install "distclust-engine\[ray\]"'):
        connect("ray")


@pytest.mark.parametrize(
    ("options", "nearest"),
    [({"adress": "auto"}, "known are"), ({"worker": 2}, "did you mean 'workers'")],
)
def test_unknown_option(options: dict[str, Any], nearest: str) -> None:
    with pytest.raises(ConfigError, match=nearest):
        connect("local", **options)


@pytest.mark.parametrize("backend", [3, None, LocalBackend, object()])
def test_what_is_no_backend(backend: Any) -> None:
    with pytest.raises(ConfigError, match=r"neither 'auto'.*distclust\.connect"):
        resolve(backend)


def test_a_backend_stays_its_owners() -> None:
    with connect("local", workers=1) as backend:
        assert resolve(backend, np.ones((2, 2))) == (backend, False)


@pytest.mark.parametrize("X", [None, np.ones((2, 2)), [[1.0], [2.0]]])
def test_auto_keeps_what_is_here_here(X: Any) -> None:
    backend, owned = resolve("auto", X)
    assert (backend.name, owned) == ("local", True)
    backend.close()


@pytest.mark.parametrize("X", ["a/*.parquet", Path("a"), [Path("a"), "b"]], ids=str)
def test_auto_reads_files_here_without_a_cluster(X: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("ray", "distributed"):
        monkeypatch.delitem(sys.modules, library, raising=False)
    with resolve("auto", X)[0] as backend:
        assert backend.name == "local"


def test_auto_follows_a_dask_collection_and_the_current_client(dask_cluster: str) -> None:
    distributed = pytest.importorskip("distributed")
    da = pytest.importorskip("dask.array")
    with distributed.Client(dask_cluster) as client:
        for X in [da.ones((4, 2)), da.ones((4, 2)).to_dask_dataframe(columns=["a", "b"])]:
            backend, owned = resolve("auto", X)
            assert (backend.name, owned) == ("dask", True)
            backend.close()
            assert client.status == "running"


def test_auto_follows_a_ray_dataset_and_reads_files_where_it_is_connected(
    ray_cluster: str,
) -> None:
    data = pytest.importorskip("ray.data")
    for X in [data.from_numpy(np.ones((4, 2))), "data/*.parquet"]:
        backend, owned = resolve("auto", X)
        assert (backend.name, owned) == ("ray", True)
        backend.close()


def test_choosing_local_loads_no_cluster_library() -> None:
    script = (
        "import sys; from distclust.backends import resolve; resolve('auto', 'x.parquet');"
        "assert not {'ray', 'dask', 'distributed'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
