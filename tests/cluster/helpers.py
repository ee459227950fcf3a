"""Data sets, digests, and a way to lose a worker at a chosen moment."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from sklearn import datasets

from distclust import KMeans
from distclust.data.arrays import ArraySource
from distclust.engine.events import Event, IterationDone, StageStarted
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session


@cache
def blobs(n: int = 3000, d: int = 5, dtype: str = "float64") -> np.ndarray:
    """Overlapping groups, read-only."""
    X = datasets.make_blobs(n, d, centers=6, cluster_std=3.0, random_state=7)[0].astype(dtype)
    X.flags.writeable = False
    return X


@cache
def row_weights(n: int = 3000) -> np.ndarray:
    """Weights of which some are zero, read-only."""
    weights = np.random.default_rng(8).uniform(0, 3, n)
    weights[::50] = 0
    weights.flags.writeable = False
    return weights


def sha(*arrays: Any) -> str:
    """SHA-256 of dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def digest(model: KMeans) -> str:
    """What has to be the same on every backend."""
    return sha(
        model.labels_,
        model.cluster_centers_,
        model.inertia_,
        model.n_iter_,
        model.cluster_sizes_,
        model.inertia_history_,
    )


def center_digest(model: KMeans) -> str:
    """The same without labels, which `fit_source` does not compute."""
    return sha(model.cluster_centers_, model.inertia_, model.n_iter_, model.cluster_sizes_)


def own_pid(_resident: Any) -> int:
    return os.getpid()


class Killer:
    """A listener that kills a worker process, once, at the first event of its choice."""

    def __init__(self, backend: Backend, when: Callable[[Event], bool]) -> None:
        self.backend, self.when = backend, when
        at = backend.place(int)
        self.victim: int = backend.fetch(backend.call(own_pid, at))
        self.killed = False
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if not self.killed and self.when(event):
            self.killed = True
            os.kill(self.victim, signal.SIGKILL)


def at_iteration(number: int) -> Callable[[Event], bool]:
    """Between two iterations, when nothing is in flight."""
    return lambda event: isinstance(event, IterationDone) and event.iteration == number


def at_stage(name: str) -> Callable[[Event], bool]:
    """When a stage begins."""
    return lambda event: isinstance(event, StageStarted) and event.stage == name


def fit_with(
    backend: Backend,
    listener: Any,
    X: np.ndarray,
    weights: np.ndarray | None,
    *,
    estimator: Any = KMeans,
    **params: Any,
) -> Any:
    """Fit while a listener hears what happens."""
    session = Session(backend, listeners=[listener])
    return estimator(backend=backend, **params).fit_source(session, ArraySource(X, weights))
