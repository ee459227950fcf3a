"""Projections and PCA have the same bits on any backend, partitioning and number of threads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp
from sklearn.base import clone

import distclust
from distclust.backends.local import LocalBackend
from distclust.data.arrays import ArraySource
from distclust.engine.shards import Session
from distclust.preprocessing.pca import PCA
from distclust.preprocessing.random_steps import RandomStep
from distclust.random_projection import (
    GaussianRandomProjection,
    HadamardRandomProjection,
    SparseRandomProjection,
)
from tests.cluster.helpers import sha

N, D = 3000, 37
TRANSFORMERS = {
    "gaussian": GaussianRandomProjection(n_components=9, random_state=1),
    "li": SparseRandomProjection(n_components=9, random_state=1),
    "achlioptas": SparseRandomProjection(n_components=9, density=1 / 3, random_state=1),
    "hadamard": HadamardRandomProjection(n_components=9, random_state=1),
    "pca": PCA(n_components=9),
}


@cache
def rows(dtype: str) -> np.ndarray:
    rng = np.random.default_rng(4)
    X = rng.standard_normal((N, D)) @ rng.standard_normal((D, D)) * 10.0 ** rng.integers(-2, 3, D)
    X[rng.random(X.shape) < 0.1] = 0
    X = (X + 100).astype(dtype)
    X.flags.writeable = False
    return X


def digest(transformer: Any, X: Any) -> str:
    """What has to be the same: all that was learnt, and what becomes of rows."""
    learnt = [getattr(transformer, name) for name in transformer._fitted_names]
    components = transformer.components_
    return sha(*learnt, components.toarray() if sp.issparse(components) else components, X)


def fit_digest(name: str, dtype: str, backend: Any, n_partitions: int) -> str:
    transformer = clone(TRANSFORMERS[name]).set_params(backend=backend, n_partitions=n_partitions)
    return digest(transformer, transformer.fit_transform(rows(dtype)))


@cache
def expected(name: str, dtype: str) -> str:
    """The digest of one partition on one thread."""
    with LocalBackend(workers=1) as backend:
        return fit_digest(name, dtype, backend, 1)


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
def test_on_threads(n_partitions: int, threads: int, dtype: str, name: str) -> None:
    with LocalBackend(workers=2, threads_per_worker=threads) as backend:
        assert fit_digest(name, dtype, backend, n_partitions) == expected(name, dtype)


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.thorough
def test_files(name: str, tmp_path: Path) -> None:
    X = rows("float64")
    for i, part in enumerate(np.array_split(X, [100, 1500])):
        table = pa.table({f"f{j}": part[:, j] for j in range(D)})
        pq.write_table(table, tmp_path / f"{i}.parquet", row_group_size=400)
    transformer = clone(TRANSFORMERS[name]).fit(tmp_path)
    source = transformer.transform(tmp_path)
    assert source.feature_names == tuple(transformer.get_feature_names_out())
    with LocalBackend(workers=1) as backend:
        partitions = Session(backend).shard(source, 2).gather(blocks_of)
    made = dict(block for blocks in partitions for block in blocks)
    in_order = np.concatenate([made[row] for row in sorted(made)])
    assert digest(transformer, in_order) == expected(name, "float64")


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_matrix_is_the_same_after_saving(name: str, tmp_path: Path) -> None:
    X = rows("float32")
    clone(TRANSFORMERS[name]).fit(X).save(tmp_path)
    loaded = distclust.load(tmp_path)
    assert digest(loaded, loaded.transform(X)) == expected(name, "float32")


# Real clusters ---------------------------------------------------------------------------


@pytest.fixture(params=["ray", "dask"], scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A backend of two worker processes."""
    address = request.getfixturevalue(f"{request.param}_cluster")
    with distclust.connect(request.param, address=address) as backend:
        yield backend


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n_partitions", [1, 2, 7, 64])
@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.thorough
def test_on_a_cluster(cluster: Any, n_partitions: int, threads: int, dtype: str, name: str) -> None:
    before, cluster.threads_per_worker = cluster.threads_per_worker, threads
    try:
        assert fit_digest(name, dtype, cluster, n_partitions) == expected(name, dtype)
    finally:
        cluster.threads_per_worker = before


@pytest.mark.parametrize("name", [name for name in TRANSFORMERS if name != "pca"])
@pytest.mark.thorough
def test_every_worker_makes_the_same_matrix(cluster: Any, name: str) -> None:
    projection = clone(TRANSFORMERS[name]).fit(rows("float64"))
    shards = Session(cluster).shard(ArraySource(rows("float64")), 4)
    found = shards.gather(matrix_digest, projection.row_step())
    components = projection.components_
    own = sha(components.toarray() if sp.issparse(components) else components)
    assert {value for _, value in found} == {own}
    assert os.getpid() not in {pid for pid, _ in found}
    assert len({pid for pid, _ in found}) == 2


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.thorough
def test_dask_arrays(dask_cluster: str, name: str) -> None:
    array = pytest.importorskip("dask.array")
    distributed = pytest.importorskip("distributed")
    with distributed.Client(dask_cluster):
        X = array.from_array(rows("float64"), chunks=((1, 1200, 0, 1799), (20, 17)))
        transformer = clone(TRANSFORMERS[name]).fit(X)
        made = transformer.transform(X)
        assert made.chunks == ((1, 1200, 0, 1799), (9,))
        assert digest(transformer, made.compute()) == expected(name, "float64")


def blocks_of(partition: Any) -> list[tuple[int, np.ndarray]]:
    return [(block.row_start, np.asarray(block.X)) for block in partition.blocks]


def matrix_digest(_partition: Any, step: RandomStep) -> tuple[int, str]:
    matrix = step.matrix()
    return os.getpid(), sha(matrix.toarray() if sp.issparse(matrix) else matrix)
