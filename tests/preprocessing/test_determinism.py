"""The same bits from every transformer on any backend, partitioning and number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone

import distclust
from distclust.backends.local import LocalBackend
from tests.cluster.helpers import row_weights, sha
from tests.preprocessing.helpers import TRANSFORMERS, fitted_digest, rows, takes_missing

NAMES = [*TRANSFORMERS, WEIGHTED := "standard, weighted"]


def digest(name: str, dtype: str, **params: Any) -> str:
    """Of what is learned, and of the rows as they are transformed."""
    weighted = name == WEIGHTED
    transformer = "standard" if weighted else name
    X = rows(dtype, missing=takes_missing(transformer))
    given = {"sample_weight": row_weights(len(X))} if weighted else {}
    model = clone(TRANSFORMERS[transformer]).set_params(**params).fit(X, **given)
    return sha(fitted_digest(model), model.transform(X))


@cache
def expected(name: str, dtype: str) -> str:
    """The digest of one partition on one thread."""
    with LocalBackend(workers=1) as backend:
        return digest(name, dtype, backend=backend, n_partitions=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
@pytest.mark.parametrize("name", NAMES)
def test_local(name: str, n_partitions: int, threads: int, dtype: str) -> None:
    with LocalBackend(workers=2, threads_per_worker=threads) as backend:
        found = digest(name, dtype, backend=backend, n_partitions=n_partitions)
    assert found == expected(name, dtype)


@pytest.fixture(params=["ray", "dask"], scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A backend of two worker processes."""
    address = request.getfixturevalue(f"{request.param}_cluster")
    with distclust.connect(request.param, address=address) as backend:
        yield backend


@pytest.mark.parametrize(
    ("n_partitions", "threads", "dtype"),
    [(1, 2, "float32"), (2, 1, "float64"), (7, 2, "float64"), (64, 1, "float32")],
)
@pytest.mark.parametrize("name", ["standard", "robust", "normalizer", "imputer, most frequent"])
def test_on_a_cluster(cluster: Any, name: str, n_partitions: int, threads: int, dtype: str) -> None:
    assert on_cluster(cluster, name, n_partitions, threads, dtype) == expected(name, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.thorough
def test_the_whole_grid(
    cluster: Any, name: str, n_partitions: int, threads: int, dtype: str
) -> None:
    assert on_cluster(cluster, name, n_partitions, threads, dtype) == expected(name, dtype)


def on_cluster(cluster: Any, name: str, n_partitions: int, threads: int, dtype: str) -> str:
    before, cluster.threads_per_worker = cluster.threads_per_worker, threads
    try:
        return digest(name, dtype, backend=cluster, n_partitions=n_partitions)
    finally:
        cluster.threads_per_worker = before


def test_the_order_of_rows_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(3000)
    for name in TRANSFORMERS:
        X = rows(missing=takes_missing(name))
        one, other = clone(TRANSFORMERS[name]).fit(X), clone(TRANSFORMERS[name]).fit(X[order])
        assert fitted_digest(one) == fitted_digest(other)
        np.testing.assert_array_equal(one.transform(X)[order], other.transform(X[order]))
