"""Starting on a sample: what it gains, and what it must not lose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from distclust import KMeans
from distclust.backends.local import LocalBackend
from distclust.cluster.seeding import SEEDINGS
from distclust.cluster.statistics import describe
from distclust.data.arrays import ArraySource
from distclust.engine.shards import Session
from tests.cluster.helpers import blobs, row_weights

N = 40_000


@pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("k", [6, 15])
def test_all_rows_start_nearer_to_where_they_end(k: int, weighted: bool) -> None:
    weights = row_weights(N) if weighted else None
    sampled, parallel = (
        [KMeans(k, init=init, random_state=s).fit(blobs(N), sample_weight=weights) for s in (0, 1)]
        for init in ("sampled", "k-means||")
    )
    starts = [[m.inertia_history_[0] for m in models] for models in (sampled, parallel)]
    assert max(starts[0]) < min(starts[1])
    assert sum(m.inertia_ for m in sampled) < 1.005 * sum(m.inertia_ for m in parallel)


def test_rows_far_away_are_not_missed() -> None:
    """Ten rows of forty thousand are nearly all of the inertia."""
    X = np.array(blobs(N))
    X[1234:1244] += 1e4
    for seed in range(5):
        model = KMeans(5, random_state=seed).fit(X)
        assert len(set(model.labels_[1234:1244])) == 1
        assert model.cluster_sizes_[model.labels_[1234]] == 10


@pytest.mark.parametrize("init", ["k-means++", "k-means||"])
def test_an_outlier_far_away_does_not_hide_the_others(init: str) -> None:
    """Seeds are drawn by distances as they are, not by rows relative to a mean far away."""
    X = np.random.default_rng(0).normal(size=(400, 3))
    X[7] = 1e20
    with LocalBackend(workers=1) as backend:
        shards = Session(backend).shard(ArraySource(X))
        data = describe(shards, X.dtype, weighted=False)
        centers = SEEDINGS[init](shards, 12, data, 0)
    assert len(np.unique(centers, axis=0)) == 12


def test_a_row_of_most_of_the_weight() -> None:
    """Whoever draws by weight meets hardly any other row."""
    weights = np.ones(N)
    weights[77] = 1e9
    model = KMeans(6, random_state=0).fit(blobs(N), sample_weight=weights)
    assert (model.cluster_sizes_ > 0).all()
    plain = KMeans(6, random_state=0, init="k-means||").fit(blobs(N), sample_weight=weights)
    assert model.inertia_ < 1.1 * plain.inertia_


def test_few_distinct_rows_among_many() -> None:
    X = np.zeros((N, 2))
    X[::8000, 0] = np.arange(1, 6)
    model = KMeans(6, random_state=0).fit(X)
    assert model.inertia_ == 0
    assert sorted(model.cluster_sizes_) == [1, 1, 1, 1, 1, N - 5]


def test_sparse_rows_start_where_dense_ones_do() -> None:
    X = np.where(np.abs(blobs(N)) > 5, blobs(N), 0.0)
    dense, csr = (KMeans(6, random_state=0).fit(rows) for rows in (X, sparse.csr_matrix(X)))
    np.testing.assert_array_equal(dense.cluster_centers_, csr.cluster_centers_)
    np.testing.assert_array_equal(dense.inertia_history_, csr.inertia_history_)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_start_is_a_fixed_point_of_a_part_of_the_rows(metric: Any) -> None:
    sampled, random = (
        KMeans(6, init=init, metric=metric, n_init=1, random_state=0).fit(blobs(N))
        for init in ("sampled", "random")
    )
    assert sampled.inertia_history_[0] < 1.01 * sampled.inertia_
    assert sampled.inertia_history_[0] < random.inertia_history_[0]
