"""Whatever is kept of each row between iterations, and wherever: labels and sums are the same bits.

Every kernel is reached: panels of centers and bounds of each kind, rows as they are and as
integers, rows too short for the transposing one, rows in memory and in memory-mapped files.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from distclust import KMeans
from distclust.backends.local import LocalBackend
from distclust.cluster import lloyd
from distclust.cluster.steps import Bounds, Run, lloyd_stats
from distclust.data.blocks import Block, Partition
from distclust.data.storage import ROOMY, Room
from distclust.engine.threads import worker_threads
from distclust.kernels.scaling import FixedPoint, Frame, extremes
from tests.cluster.helpers import blobs, digest, row_weights

pytestmark = pytest.mark.usefixtures("few_rows_are_shared_out_too")

N = 3000
NO_ROOM = Room(memory_limit=1)  # for any row: all are on disk


class Kernel(NamedTuple):
    """Numbers of features and clusters, and what is kept of each row."""

    d: int
    k: int
    bounds: Bounds
    coded: bool = False
    mapped: bool = False

    @property
    def name(self) -> str:
        ways = " coded" * self.coded + " mapped" * self.mapped
        return f"{self.d}x{self.k} {self.bounds.name}{ways}"


KERNELS = [
    *(Kernel(3, 6, bounds) for bounds in Bounds if bounds is not Bounds.GROUPS),
    *(
        Kernel(24, k, bounds, coded)
        for k in (8, 130)
        for bounds in Bounds
        for coded in (False, True)
    ),
    Kernel(3, 6, Bounds.ONE, mapped=True),
    Kernel(24, 8, Bounds.ONE, coded=True, mapped=True),
    Kernel(24, 130, Bounds.GROUPS, coded=True, mapped=True),
]
NAMES = [kernel.name for kernel in KERNELS]
every_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)


def fitted(backend: Any, kernel: Kernel, dtype: str, weighted: bool, n_partitions: int) -> str:
    """Fit with the bounds of a kernel, and return a digest."""
    X = blobs(N, kernel.d, dtype)
    model = KMeans(
        kernel.k, init=X[: kernel.k], max_iter=10, backend=backend, n_partitions=n_partitions
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lloyd, "Run", partial(Run, bounds=kernel.bounds, coded=kernel.coded))
        patch.setattr(backend, "room", NO_ROOM if kernel.mapped else ROOMY)
        return digest(model.fit(X, sample_weight=row_weights(N) if weighted else None))


@cache
def expected(d: int, k: int, dtype: str, weighted: bool) -> str:
    """One partition on one thread, every row looked at."""
    with LocalBackend(workers=1) as backend:
        return fitted(backend, Kernel(d, k, Bounds.NONE), dtype, weighted, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", KERNELS[:-3], ids=NAMES[:-3])
def test_statistics(kernel: Kernel, dtype: str) -> None:
    """With bounds, known and new, they are those of looking at every row."""
    X = blobs(N, kernel.d, dtype)
    rounding = FixedPoint.around(np.zeros(kernel.d), extremes(X, None), weighted=False)
    frame, centers = Frame.around(np.zeros(kernel.d), 512.0), X[: kernel.k].copy()
    known = Partition([Block(X[:1001], 0, None), Block(X[1001:], 1001, None)])
    for _ in range(8):
        with worker_threads(2):
            (found,) = lloyd_stats(
                known, [Run(0, centers, kernel.bounds, kernel.coded)], frame, rounding
            )
        fresh = Partition([Block(X, 0, None)])
        (plain,) = lloyd_stats(fresh, [Run(0, centers, Bounds.NONE, coded=False)], frame, rounding)
        np.testing.assert_array_equal(found.sums, plain.sums)
        np.testing.assert_array_equal(found.weights, plain.weights)
        assert not fresh.cache["lloyd-0"].memory.has_bounds
        progress = known.cache["lloyd-0"]
        if kernel.bounds is not Bounds.CHOSEN:
            assert progress.memory.has_bounds == (kernel.bounds is not Bounds.NONE)
            grouped = kernel.bounds is Bounds.GROUPS and kernel.coded
            assert (progress.groups is not None) == grouped
            assert (progress.memory.lower.shape[1] > 1) == grouped
        assert ("codes" in known.cache) == progress.coded == kernel.coded
        means = rounding.sums(found.sums) / np.maximum(found.weights, 1)[:, np.newaxis]
        centers = (centers + 0.5 * (means - centers)).astype(dtype)


@pytest.mark.thorough
@every_kernel
def test_fit(kernel: Kernel) -> None:
    with LocalBackend(workers=2, threads_per_worker=2) as backend:
        for dtype, weighted in (("float32", True), ("float64", False)):
            found = fitted(backend, kernel, dtype, weighted, 7)
            assert found == expected(kernel.d, kernel.k, dtype, weighted)


# The whole grid ---------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
@every_kernel
def test_everywhere(
    anywhere: Any,
    kernel: Kernel,
    n_partitions: int,
    threads: int,
    dtype: str,
    weighted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(anywhere, "threads_per_worker", threads)
    found = fitted(anywhere, kernel, dtype, weighted, n_partitions)
    assert found == expected(kernel.d, kernel.k, dtype, weighted)
