"""Choosing a backend by name, by address, or by what the input already is.

The modules of this package are imported only when their backend is asked for, so
neither ray nor dask is needed, or loaded, otherwise. What a backend does is
`distclust.engine.protocol.Backend`; this module owns only which one to use.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from typing import Any, Protocol, Self, cast

from distclust.engine import protocol
from distclust.errors import BackendNotInstalled, ConfigError, UnknownBackend

__all__ = ["Backend", "connect", "home_of", "native", "resolve", "worker_environment"]

BACKENDS = {
    "local": ("distclust.backends.local", "LocalBackend", "concurrent.futures"),
    "ray": ("distclust.backends.ray", "RayBackend", "ray"),
    "dask": ("distclust.backends.dask", "DaskBackend", "distributed"),
}
"""Name → (module, class, library that the extra of that name brings)."""

VERBS = ("place", "put", "call", "combine", "wait", "fetch", "close")


class Backend(protocol.Backend, Protocol):
    """What `connect` returns: a backend that a ``with`` statement closes."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


def connect(
    name: str = "local",
    *,
    address: str | None = None,
    client: Any = None,
    workers: int | None = None,
    threads_per_worker: int | None = None,
    memory_limit: int | str | None = None,
    scratch_dir: str | None = None,
    **options: Any,
) -> Backend:
    """Connect to a cluster, or start one on this machine.

    Parameters
    ----------
    name : {"local", "ray", "dask"}, default="local"
    address : str, optional
        Cluster to connect to, for instance ``"auto"`` or ``"10.0.0.1:6379"`` for Ray and
        ``"tls://10.0.0.1:8786"`` for Dask. Without one, the cluster this process is
        already connected to is used; if there is none, one is started and, in the end,
        stopped.
    client : distributed.Client, optional
        Dask client to use; it is not closed.
    workers : int, optional
        Processes (threads for ``"local"``) to use; all that there are unless given.
    threads_per_worker : int, optional
        Kernel threads inside each of them, 1 unless given.
    memory_limit : int or str, optional
        Bytes, or a size such as ``"2GiB"``, that each worker process should stay within.
        Rows of Parquet files that exceed it are decoded once into memory-mapped scratch
        files; results are the same bits. Unless given: ``$DISTCLUST_MEMORY_LIMIT``, else
        the worker's share of four fifths of its machine's memory.
    scratch_dir : str, optional
        Directory for those files on the workers' own disks, best a fast one. Unless given:
        ``$DISTCLUST_SCRATCH_DIR``, else the workers' ``$TMPDIR``, else ``/var/tmp``.
    **options
        Further parameters of the backend's class.

    Returns
    -------
    Backend
        A context manager that closes what it started.

    Raises
    ------
    UnknownBackend, BackendNotInstalled, ConfigError
        No such name, its library is missing, or an option it does not have.
    ClusterTimeout
        The cluster did not answer, or has no room for the workers, in time.

    Examples
    --------
    >>> with connect("local", workers=2) as backend:
    ...     backend.slots
    2
    """
    if name not in BACKENDS:
        raise UnknownBackend(f"no backend is called {name!r}{_nearest(name, BACKENDS)}")
    module, cls_name, library = BACKENDS[name]
    if importlib.util.find_spec(library) is None:
        raise BackendNotInstalled(
            f"backend {name!r} needs the package {library!r}, which is not installed: "
            f'pip install "distclust-engine[{name}]"'
        )
    cls = getattr(importlib.import_module(module), cls_name)
    given = {
        "address": address,
        "client": client,
        "workers": workers,
        "threads_per_worker": threads_per_worker,
        "memory_limit": memory_limit,
        "scratch_dir": scratch_dir,
    }
    options |= {option: value for option, value in given.items() if value is not None}
    accepted = inspect.signature(cls).parameters
    for option in options:
        if option not in accepted:
            raise ConfigError(
                f"backend {name!r} has no option {option!r}{_nearest(option, accepted)}"
            )
    return cast(Backend, cls(**options))


def resolve(backend: Any, X: Any = None) -> tuple[protocol.Backend, bool]:
    """Return the backend an estimator's ``backend=`` means, and whether to close it.

    Parameters
    ----------
    backend : {"auto", "local", "ray", "dask"} or Backend
        ``"auto"`` goes to the cluster that holds `X`: Dask for a Dask collection, Ray for
        a Ray Dataset, the connected one if `X` names files, else this process.
    X : object, optional
        The input.

    Returns
    -------
    backend : Backend
    owned : bool
        Whether it was made here, so that the caller has to close it.
    """
    if isinstance(backend, str):
        name = _name_for(X) if backend == "auto" else backend
        if name == home_of(X) and name not in _connected():
            raise ConfigError(
                f"X is a {name} collection, and its labels will be one: connect to a cluster that "
                f"outlives this call, for instance with backend=distclust.connect({name!r})"
            )
        return connect(name), True
    if isinstance(backend, type) or not all(hasattr(backend, verb) for verb in VERBS):
        raise ConfigError(
            f"backend={backend!r} is neither 'auto', one of {sorted(BACKENDS)}, nor what "
            "distclust.connect() returns"
        )
    return cast(protocol.Backend, backend), False


def native(arg: Any) -> Any:
    """Return what a cluster library takes as an argument: a `Ref` stands for its content."""
    return arg.where if isinstance(arg, protocol.Ref) else arg


def worker_environment() -> dict[str, str]:
    """Environment of worker processes, to be set before they import numpy or numba.

    Kernels bring their own threads, so BLAS gets one.
    """
    single = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    kept = {name: os.environ[name] for name in ("NUMBA_CACHE_DIR",) if name in os.environ}
    return {**kept, **dict.fromkeys(single, "1")}


def home_of(X: Any) -> str:
    """Say where rows are: ``"dask"``, ``"ray"``, ``"files"`` or, else, ``"memory"``.

    Told from the type of `X`, without importing any library; a source may say so itself.
    """
    told = getattr(X, "home", None)
    if isinstance(told, str) and hasattr(X, "n_features"):
        return told
    modules = [cls.__module__ for cls in type(X).__mro__]
    if any(module.split(".")[0] == "dask" for module in modules):
        return "dask"
    if any(module.startswith("ray.data") for module in modules):
        return "ray"
    if isinstance(X, list | tuple):
        named = bool(X) and all(isinstance(path, str | os.PathLike) for path in X)
    else:
        named = isinstance(X, str | os.PathLike) or modules[0] == "pyarrow._dataset"
    return "files" if named else "memory"


def _name_for(X: Any) -> str:
    """Name of the backend that ``"auto"`` means."""
    home = home_of(X)
    if home == "files":
        return next(_connected(), "local")
    return "local" if home == "memory" else home


def _connected() -> Iterator[str]:
    """Clusters this process is connected to already."""
    ray, distributed = sys.modules.get("ray"), sys.modules.get("distributed")
    if ray is not None and ray.is_initialized():
        yield "ray"
    if distributed is not None:
        try:
            distributed.default_client()
        except ValueError:
            return
        yield "dask"


def _nearest(word: str, known: Any) -> str:
    """A suggestion to end an error message with."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {sorted(known)}"
