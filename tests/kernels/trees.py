"""Spanning trees to condense: a dense oracle of the geometry, and odd shapes."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.spatial.distance import cdist
from sklearn import datasets

from distclust.kernels.edges import SpanningTree


def dense_tree(X: np.ndarray, min_samples: int, metric: str = "euclidean") -> SpanningTree:
    """Kruskal's tree over all pairs, in the total order of edges."""
    distances = cdist(X, X, metric)
    neighbors = max(1, min(min_samples, len(X) - 1))
    core = np.partition(distances, neighbors, axis=1)[:, neighbors]
    u, v = np.triu_indices(len(X), 1)
    weights = np.maximum(distances, np.maximum.outer(core, core))[u, v]
    above = list(range(len(X)))

    def find(x: int) -> int:
        while above[x] != x:
            above[x] = above[above[x]]
            x = above[x]
        return x

    kept = []
    for edge in np.lexsort((v, u, weights)):
        a, b = find(u[edge]), find(v[edge])
        if a != b:
            above[a] = b
            kept.append(edge)
    return SpanningTree(u[kept].astype(np.int64), v[kept].astype(np.int64), weights[kept])


def chain(n_rows: int) -> SpanningTree:
    """Rows on a line, one apart."""
    first = np.arange(n_rows - 1)
    return SpanningTree(first, first + 1, np.ones(n_rows - 1))


def identical(n_rows: int) -> SpanningTree:
    """Rows that are all equal."""
    others = np.arange(1, n_rows)
    return SpanningTree(np.zeros_like(others), others, np.zeros(n_rows - 1))


def caterpillar(n_pairs: int) -> SpanningTree:
    """Pairs that join one after another: a cluster tree as deep as it has pairs."""
    pair = np.arange(n_pairs)
    u = np.concatenate([2 * pair, 2 * pair[:-1]])
    v = np.concatenate([2 * pair + 1, 2 * pair[1:]])
    return SpanningTree(u, v, np.concatenate([np.ones(n_pairs), 2.0 + pair[:-1]]))


@cache
def small_sets() -> dict[str, np.ndarray]:
    """Data of many kinds, small enough for the dense oracle."""
    rng = np.random.default_rng(0)
    side = np.arange(15.0)
    clumps = datasets.make_blobs(200, centers=4, random_state=2, cluster_std=0.4)[0]
    return {
        "blobs": datasets.make_blobs(300, centers=5, random_state=1)[0],
        "moons": datasets.make_moons(250, noise=0.1, random_state=0)[0],
        "iris": datasets.load_iris().data,
        "wine": datasets.load_wine().data,
        "uniform": rng.random((200, 2)),
        "noise": np.vstack([clumps, rng.uniform(-10, 10, (120, 2))]),
        "10 features": datasets.make_blobs(200, 10, centers=4, random_state=3)[0],
        "grid": np.array([(a, b) for a in side for b in side]),
        "line": np.arange(200.0)[:, None],
        "duplicates": np.repeat(rng.random((30, 2)), 9, axis=0),
        "all equal": np.ones((50, 2)),
        "outlier": np.vstack([rng.random((100, 2)), [[1e6, 1e6]]]),
        "two rows": rng.random((2, 2)),
        "three rows": rng.random((3, 2)),
    }
