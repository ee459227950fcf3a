"""The spanning tree of mutual reachability, against one found by looking at every pair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from distclust.backends.local import LocalBackend
from distclust.cluster.spanning_tree import MutualReachability, spanning_tree
from distclust.data.arrays import ArraySource
from distclust.data.blocks import Block, Partition
from distclust.engine.shards import Session
from distclust.errors import ConfigError, DataError
from distclust.kernels.edges import SpanningTree


def find(X: np.ndarray, **params: Any) -> MutualReachability:
    with LocalBackend(workers=2) as backend:
        return spanning_tree(Session(backend), ArraySource(X), **params)


def assert_same(found: MutualReachability, expected: MutualReachability) -> None:
    """To the last bit."""
    for name, column in found.tree._asdict().items():
        np.testing.assert_array_equal(column, getattr(expected.tree, name), err_msg=name)
    np.testing.assert_array_equal(found.core_distances, expected.core_distances)
    assert found.certified == expected.certified == 1.0


def kruskal(
    X: np.ndarray, *, min_samples: int, metric: str = "euclidean", alpha: float = 1.0
) -> tuple[SpanningTree, np.ndarray]:
    """All pairs in the total order, and core distances."""
    dist = cdist(X, X, {"manhattan": "cityblock"}.get(metric, metric))
    core = np.sort(dist, axis=1)[:, min(min_samples, len(X) - 1)]
    u, v = np.triu_indices(len(X), 1)
    weights = np.maximum(np.maximum(core[u], core[v]), dist[u, v] / alpha)
    parent = list(range(len(X)))

    def root(a: int) -> int:
        while parent[a] != a:
            parent[a] = a = parent[parent[a]]
        return a

    kept = []
    for edge in np.lexsort((v, u, weights)):
        a, b = root(u[edge]), root(v[edge])
        if a != b:
            parent[a] = b
            kept.append(edge)
    return SpanningTree(u[kept], v[kept], weights[kept]), core


def groups_with_noise(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Groups of very different density in uniform noise."""
    rng = np.random.default_rng(seed)
    centers, sizes = rng.uniform(-10, 10, (6, d)), 10 ** rng.uniform(-2, 0.3, 6)
    labels = rng.integers(0, 6, n - n // 8)
    groups = centers[labels] + rng.normal(size=(len(labels), d)) * sizes[labels, np.newaxis]
    return rng.permutation(np.concatenate([groups, rng.uniform(-13, 13, (n // 8, d))]))


def shapes() -> dict[str, tuple[np.ndarray, int]]:
    """Data sets whose squared distances are exact, and a min_samples for each."""
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), -1).reshape(-1, 2)
    return {
        "grid": (rng.permutation(grid), 4),
        "grid, many neighbours": (grid, 30),
        "integers": (rng.integers(0, 9, (600, 2)).astype(float), 3),
        "mostly copies": (rng.integers(0, 3, (500, 3)).astype(float), 5),
        "all equal": (np.full((200, 2), 7.0), 5),
        "half equal": (np.r_[np.zeros((200, 2)), rng.integers(0, 40, (200, 2))], 4),
        "line": (rng.permutation(np.arange(300.0))[:, np.newaxis], 2),
        "growing gaps": (np.cumsum(np.arange(200.0))[:, np.newaxis], 1),
        "one far": (np.r_[rng.integers(0, 9, (100, 2)).astype(float), [[1e6, 1e6]]], 5),
        "min_samples above n": (rng.integers(0, 99, (40, 2)).astype(float), 100),
        "two rows": (np.array([[1.0, 2.0], [4.0, 6.0]]), 1),
    }


@pytest.mark.parametrize("name", shapes())
def test_ties_go_by_row_id(name: str) -> None:
    X, min_samples = shapes()[name]
    found = find(X, min_samples=min_samples)
    tree, core = kruskal(X, min_samples=min_samples)
    np.testing.assert_array_equal(found.core_distances, core)
    np.testing.assert_array_equal(found.tree, tree)
    assert found.certified == 1.0


@pytest.mark.parametrize("n_partitions", [2, 3, 16])
@pytest.mark.parametrize("name", shapes())
def test_ties_do_not_depend_on_partitions(name: str, n_partitions: int) -> None:
    X, min_samples = shapes()[name]
    found = find(X, min_samples=min_samples, n_partitions=n_partitions)
    assert_same(found, find(X, min_samples=min_samples))


@pytest.mark.parametrize("n_partitions", [3, 16])
@pytest.mark.parametrize("d", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("min_samples", [1, 10, 200])
def test_partitions(min_samples: int, d: int, n_partitions: int) -> None:
    """With the most neighbours, they are more than there are rows in a cell."""
    X = groups_with_noise(1500, d)
    found = find(X, min_samples=min_samples, n_partitions=n_partitions)
    assert_same(found, find(X, min_samples=min_samples))


@pytest.mark.parametrize("metric", ["manhattan", "chebyshev", "cosine", "haversine"])
def test_metrics_in_partitions(metric: str) -> None:
    X = groups_with_noise(900, 2) / 10
    params: dict[str, Any] = {"min_samples": 6, "metric": metric, "alpha": 1.25}
    assert_same(find(X, n_partitions=5, **params), find(X, **params))


def test_cells_far_apart() -> None:
    """Each cell is one fragment, of which no edge outwards is known at first."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(800, 2)) + np.repeat(
        np.eye(4, 2) * 1e4 + np.arange(4)[:, None] * 1e3, 200, 0
    )
    assert_same(find(X, min_samples=4, n_partitions=4), find(X, min_samples=4))


def test_rows_may_come_in_any_partition() -> None:
    """The same ids in shuffled blocks: a source as a cluster might hold it."""
    X = groups_with_noise(1200, 2)
    with LocalBackend(workers=2) as backend:
        found = spanning_tree(Session(backend), Shuffled(X), min_samples=5, n_partitions=4)
    assert_same(found, find(X, min_samples=5))


class Shuffled(ArraySource):
    """Blocks of 25 rows, dealt at random to partitions."""

    def plan(self, n_partitions: int) -> Any:
        blocks = [Block(self.X[start : start + 25], start) for start in range(0, self.n_rows, 25)]
        order = np.random.default_rng(0).permutation(len(blocks))
        return [([blocks[i] for i in part],) for part in np.array_split(order, n_partitions)]

    @staticmethod
    def load(blocks: Any) -> Partition:
        return Partition(blocks)


@pytest.mark.parametrize("n_partitions", [1, 16])
def test_approximate(n_partitions: int) -> None:
    """A tree of true edges, hardly heavier, that says how much of it is certain."""
    X = groups_with_noise(3000, 3)
    exact = find(X, min_samples=5)
    found = find(X, min_samples=5, mode="approximate", n_partitions=n_partitions)
    np.testing.assert_array_equal(found.core_distances, exact.core_distances)
    core, tree = found.core_distances, found.tree
    dist = np.sqrt(((X[tree.u] - X[tree.v]) ** 2).sum(axis=1))
    reach = np.maximum(np.maximum(core[tree.u], core[tree.v]), dist)
    np.testing.assert_allclose(tree.weights, reach, rtol=1e-12)
    assert connected_components(coo_array((reach, (tree.u, tree.v)), (3000, 3000)))[0] == 1
    shared = set(zip(tree.u, tree.v, strict=True)) & set(zip(*exact.tree[:2], strict=True))
    assert found.certified <= len(shared) / 2999
    assert (found.certified == 1.0) == (n_partitions == 1)
    assert found.certified > 0.9
    assert tree.weights.sum() < 1.01 * exact.tree.weights.sum()


@pytest.mark.parametrize("d", [1, 2, 3, 5, 8, 16, 64])
@pytest.mark.parametrize("min_samples", [1, 10])
def test_dimensions(d: int, min_samples: int) -> None:
    X = groups_with_noise(700, d)
    found = find(X, min_samples=min_samples)
    tree, core = kruskal(X, min_samples=min_samples)
    np.testing.assert_allclose(found.core_distances, core, rtol=1e-12)
    np.testing.assert_allclose(found.tree.weights, tree.weights, rtol=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 0.7, 1.5])
@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "chebyshev", "cosine"])
def test_metrics(metric: str, alpha: float) -> None:
    X = groups_with_noise(500, 4)
    params: dict[str, Any] = {"min_samples": 6, "metric": metric, "alpha": alpha}
    found = find(X, **params)
    tree, core = kruskal(X, **params)
    np.testing.assert_allclose(found.core_distances, core, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.tree.weights, tree.weights, rtol=1e-12, atol=1e-15)


def test_a_quarter_of_the_way_round_the_globe() -> None:
    places = np.radians([[0.0, 0.0], [0.0, 90.0], [90.0, 12.0], [0.0, 180.0]])
    found = find(places, min_samples=1, metric="haversine")
    np.testing.assert_allclose(found.tree.weights, np.pi / 2, rtol=1e-15)
    np.testing.assert_allclose(found.core_distances, np.pi / 2, rtol=1e-15)


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_any_magnitude(unit: float) -> None:
    X = np.random.default_rng(3).integers(0, 30, (300, 2)).astype(float)
    plain = find(X, min_samples=5)
    found = find(X * unit, min_samples=5)
    np.testing.assert_allclose(found.tree.weights, plain.tree.weights * unit, rtol=1e-12)


def test_numbers_of_few_bits() -> None:
    unit = 5e-324
    X = np.random.default_rng(3).integers(0, 30, (300, 2)).astype(float)
    plain, found = find(X, min_samples=5), find(X * unit, min_samples=5)
    np.testing.assert_array_equal(found.tree.weights, np.rint(plain.tree.weights) * unit)


def test_one_row() -> None:
    found = find(np.ones((1, 2)), min_samples=5)
    assert len(found.tree.u) == len(found.tree.weights) == 0
    np.testing.assert_array_equal(found.core_distances, [0.0])


def test_what_a_metric_cannot_measure() -> None:
    with pytest.raises(ConfigError, match="latitude and longitude, the rows have 3"):
        find(np.ones((4, 3)), min_samples=1, metric="haversine")
    with pytest.raises(DataError, match=r"row 1 is all zeros.*drop such rows"):
        find(np.array([[1.0, 1.0], [0.0, 0.0]]), min_samples=1, metric="cosine")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["equal", "chain"])
def test_a_million_in_a_heap_or_in_a_row(name: str) -> None:
    n = 1_000_000
    X = np.zeros((n, 2)) if name == "equal" else np.arange(float(n))[:, np.newaxis]
    found = find(X, min_samples=5)
    if name == "equal":
        np.testing.assert_array_equal(found.tree.v, np.arange(1, n))
        assert not found.tree.u.any()
        assert not found.tree.weights.any()
    else:  # three to each side, but for the rows at the ends
        weights, counts = np.unique(found.tree.weights, return_counts=True)
        np.testing.assert_array_equal(weights, [3.0, 4.0, 5.0])
        np.testing.assert_array_equal(counts, [n - 5, 2, 2])


@pytest.mark.parametrize("alpha", [1 + 2**-52, 1 + 1e-12])
@pytest.mark.parametrize("seed", [25, 57])
def test_core_distances_that_rounding_would_lower(alpha: float, seed: int) -> None:
    """Near antipodes an angle's sine does not lead back to the chord it came from."""
    rng = np.random.default_rng(seed)
    near, far = rng.normal(0, 1e-7, (2, 8, 2))
    X = np.concatenate([near, far + np.array([0, np.pi])])
    whole, parts = (
        find(X, min_samples=500, alpha=alpha, metric="haversine", n_partitions=n) for n in (1, 3)
    )
    assert_same(parts, whole)
