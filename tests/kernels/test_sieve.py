"""Products rule out pairs, and change nothing."""

from __future__ import annotations

import numpy as np
import pytest

from distclust import HDBSCAN
from distclust.kernels import kdtree
from distclust.kernels.boruvka import minimum_edges
from distclust.kernels.kdtree import EUCLIDEAN, LEAF, UNBOUNDED, build, leaf_distances, searching
from distclust.kernels.neighbors import neighbors, neighbors_within
from distclust.kernels.outgoing import edges_between, start_search
from distclust.kernels.sieve import empty_room, sift
from tests.kernels.tiles import in_turn

ALL = np.uint32(0xFFFFFFFF)


def rows(kind: str, d: int, n: int = 500, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread = np.geomspace(0.01, 3, 5)[rng.integers(5, size=n), None]
    X = rng.normal(size=(n, d)) * spread + rng.integers(4, size=(n, d))
    if kind == "ties":
        return np.rint(X)
    if kind == "copies":
        return X[rng.integers(n // 4, size=n)]
    if kind == "offset":
        return X + 1e6
    if kind == "outlier":
        X[7] = 1e12
    if kind == "magnitudes":
        return X * np.geomspace(1e-25, 1, d)
    if kind == "tiny":
        return X * 1e-22
    if kind == "huge":
        return X * 1e120
    return X


KINDS = ("plain", "ties", "copies", "offset", "outlier", "magnitudes", "tiny", "huge")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [16, 33, 64])
def test_no_pair_is_ruled_out_at_its_own_distance(kind: str, d: int) -> None:
    """Nor is one at any other limit, then: what passes grows with it."""
    X = rows(kind, d, 6 * LEAF)
    tree = build(X, EUCLIDEAN, in_turn)
    room, dist = empty_room(), np.empty(LEAF)
    for leaf in range(tree.n_leaves):
        for other in range(tree.n_leaves):
            exact = np.empty((LEAF, LEAF))
            for q in range(LEAF):
                leaf_distances(tree, leaf, q, tree, other, dist)
                exact[q] = dist
            for i in range(0, LEAF, 5):
                passed = sift(tree.sieve, leaf, tree.sieve, other, ALL, exact[:, i].copy(), room)
                assert ((room.lanes >> np.uint32(i)) & 1).all()
                assert passed == ALL


@pytest.mark.parametrize("kind", ["plain", "offset", "ties"])
def test_most_pairs_that_are_too_far_are_ruled_out(kind: str) -> None:
    tree = build(rows(kind, 32, 6 * LEAF), EUCLIDEAN, in_turn)
    room, dist = empty_room(), np.empty(LEAF)
    passing = near = 0
    for other in range(tree.n_leaves):
        exact = np.empty((LEAF, LEAF))
        for q in range(LEAF):
            leaf_distances(tree, 0, q, tree, other, dist)
            exact[q] = dist
        limits = np.full(LEAF, 50.0)
        sift(tree.sieve, 0, tree.sieve, other, ALL, limits, room)
        passing += sum(int(lanes).bit_count() for lanes in room.lanes)
        near += int((exact <= 50.0).sum())
    assert near <= passing <= near + 5


def test_only_the_queries_that_ask_are_answered() -> None:
    tree = build(rows("plain", 16, 2 * LEAF), EUCLIDEAN, in_turn)
    room = empty_room()
    room.lanes[:] = 77
    asked = np.uint32(0b10010110001)
    passed = sift(tree.sieve, 0, tree.sieve, 1, asked, np.full(LEAF, UNBOUNDED), room)
    assert passed == asked
    assert [q for q in range(LEAF) if room.lanes[q] != 77] == [0, 4, 5, 7, 10]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [5, 16, 32, 64])
def test_what_is_found_does_not_change(kind: str, d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X, asking = rows(kind, d), rows(kind, d, 200, seed=1)
    found = searched(X, asking)
    monkeypatch.setattr(kdtree, "SIEVED", 1000)
    for with_products, without in zip(found, searched(X, asking), strict=True):
        np.testing.assert_array_equal(with_products, without)


def searched(X: np.ndarray, asking: np.ndarray) -> list[np.ndarray]:
    """All searches: neighbours, the spanning tree, and neighbours and edges between trees."""
    k, ids = 6, np.random.default_rng(2).permutation(len(X))
    tree, queries = build(X, EUCLIDEAN, in_turn), build(asking, EUCLIDEAN, in_turn)
    near = neighbors(tree, k, in_turn)
    core = near.dist[:, k - 1].copy()
    edges = minimum_edges(tree, core, ids, near, in_turn)
    order = np.lexsort((edges.b, edges.a, edges.weights))
    radius = np.where(np.arange(len(asking)) % 2, UNBOUNDED, np.median(core))
    others = neighbors_within(queries, radius, tree, k, in_turn)
    group = np.arange(len(asking), dtype=np.int32) % 3
    mine = start_search(
        queries, np.zeros(len(asking)), np.arange(len(asking)) + len(X), group, in_turn
    )
    theirs = start_search(tree, core, ids, np.full(len(X), 3, np.int32), in_turn)
    between = edges_between(queries, mine, tree, theirs, np.full(4, UNBOUNDED), in_turn)
    least = [between.weights[group[between.a] == i].min() for i in range(3)]
    return [
        *(np.asarray(values)[order] for values in edges),
        *near[:2],
        *others[:2],
        np.array(least),
    ]


def test_queries_take_the_center_of_the_tree_that_they_search() -> None:
    tree, queries = (build(rows("plain", 16, seed=seed), EUCLIDEAN, in_turn) for seed in (0, 1))
    assert not np.array_equal(queries.sieve.center, tree.sieve.center)
    np.testing.assert_array_equal(searching(queries, tree, in_turn).sieve.center, tree.sieve.center)


@pytest.mark.parametrize("n_partitions", [1, 4])
def test_clusters_and_predictions_do_not_change(
    n_partitions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, new = rows("offset", 20, 900), rows("offset", 20, 300, seed=3)
    fits = []
    for features in (16, 1000):
        monkeypatch.setattr(kdtree, "SIEVED", features)
        model = HDBSCAN(min_samples=4, n_partitions=n_partitions).fit(X)
        fits.append([*model._edges, model.core_distances_, model.predict(new)])
    for with_products, without in zip(*fits, strict=True):
        np.testing.assert_array_equal(with_products, without)
