"""The tree, the searches in it, and the vector operations under them."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from distclust.kernels.kdtree import CHEBYSHEV, EUCLIDEAN, LEAF, MANHATTAN, UNBOUNDED, build
from distclust.kernels.lanes import lanes_below, lanes_up_to, lowest
from distclust.kernels.neighbors import neighbors, neighbors_within
from tests.kernels.tiles import in_turn

METRICS = {EUCLIDEAN: "sqeuclidean", MANHATTAN: "cityblock", CHEBYSHEV: "chebyshev"}


def points(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Integers, so that distances are exact and tie."""
    return np.random.default_rng(seed).integers(-20, 20, (n, d)).astype(float)


@pytest.mark.parametrize("d", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [1, 2, LEAF, LEAF + 1, 3 * LEAF, 1000, 4097])
def test_every_point_is_in_its_place_and_its_boxes(n: int, d: int) -> None:
    X = points(n, d)
    tree = build(X, EUCLIDEAN, in_turn)
    np.testing.assert_array_equal(np.sort(tree.order), np.arange(n))
    placed = tree.blocks.transpose(0, 2, 1).reshape(-1, d)
    np.testing.assert_array_equal(placed[:n], X[tree.order])
    assert np.isinf(placed[n:]).all()
    for place in range(n):
        node = len(tree.low) // 2 + place // LEAF
        while node:
            assert (tree.low[node] <= placed[place]).all()
            assert (placed[place] <= tree.high[node]).all()
            node //= 2
    np.testing.assert_array_equal(tree.low[1], X.min(axis=0))
    np.testing.assert_array_equal(tree.high[1], X.max(axis=0))


def test_boxes_of_random_points_hardly_overlap() -> None:
    X = np.random.default_rng(0).normal(size=(64 * LEAF, 2))
    tree = build(X, EUCLIDEAN, in_turn)
    low, high = tree.low[64:], tree.high[64:]
    apart = (low[:, np.newaxis] > high).any(axis=2)
    assert (apart | apart.T).sum() == 64 * 63


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "d", "k"), [(2, 1, 1), (200, 2, 5), (777, 3, 40), (300, 9, 299)])
def test_neighbours_are_the_nearest(n: int, d: int, k: int, metric: int) -> None:
    X = points(n, d)
    tree = build(X, metric, in_turn)
    found = neighbors(tree, k, in_turn)
    dist = cdist(X[tree.order], X[tree.order], METRICS[metric])
    np.testing.assert_array_equal(np.take_along_axis(dist, found.place, axis=1), found.dist)
    np.fill_diagonal(dist, np.inf)
    np.testing.assert_array_equal(found.dist, np.sort(dist, axis=1)[:, :k])
    assert not (found.place == np.arange(n)[:, np.newaxis]).any()
    assert all(len(set(row)) == k for row in found.place)
    farther = np.sort(np.c_[dist, np.full(n, np.inf)], axis=1)[:, k]
    tied = (farther == found.dist[:, -1]) & (found.dist[:, -1] > 0)
    assert found.tied[tied].all()


def test_ties_with_the_nearest_point_of_another_leaf_are_reported() -> None:
    """On a line of equal steps every inner point has one neighbour to each side."""
    tree = build(np.arange(200.0)[:, np.newaxis], EUCLIDEAN, in_turn)
    inner = (tree.order > 0) & (tree.order < 199)
    np.testing.assert_array_equal(neighbors(tree, 1, in_turn).tied, inner)


def test_without_ties_none_are_reported() -> None:
    X = np.random.default_rng(0).normal(size=(2000, 2))
    assert not neighbors(build(X, EUCLIDEAN, in_turn), 7, in_turn).tied.any()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 4, 60])
def test_neighbours_in_another_tree_within_a_radius(k: int, metric: int) -> None:
    asking, asked = points(150, 2, 1), points(400, 2, 2)
    radius = np.random.default_rng(3).choice([0.0, 3.0, 9.0, UNBOUNDED], 150)
    queries, tree = build(asking, metric, in_turn), build(asked, metric, in_turn)
    found = neighbors_within(queries, radius[queries.order], tree, k, in_turn)
    dist = np.sort(cdist(asking[queries.order], asked, METRICS[metric]), axis=1)[:, :k]
    dist[dist >= radius[queries.order][:, np.newaxis]] = UNBOUNDED
    np.testing.assert_array_equal(found.dist, dist)


@pytest.mark.parametrize("k", [3, 16, 17, 40])
def test_of_equally_near_ones_the_first_in_the_tree(k: int) -> None:
    """Whatever else is asked for: alone, each point finds what it finds among the others."""
    asking, asked = points(300, 2, 1) / 5, np.repeat(points(200, 2, 2) // 4, 3, axis=0)
    tree = build(asked, EUCLIDEAN, in_turn)
    dist = cdist(asking, asked[tree.order], "sqeuclidean")
    expected = np.argsort(dist, axis=1, kind="stable")[:, :k]
    for rows in np.split(np.arange(300), [1, 2, 40, 41, 250]):
        queries = build(asking[rows], EUCLIDEAN, in_turn)
        radius = np.full(len(rows), UNBOUNDED)
        found = neighbors_within(queries, radius, tree, k, in_turn)
        np.testing.assert_array_equal(found.place, expected[rows][queries.order])


def test_many_copies_are_searched_in_linear_time() -> None:
    """A search that looked at all copies would take hours."""
    X = np.zeros((1 << 20, 1))
    X[-50:] = 1.0
    tree = build(X, EUCLIDEAN, in_turn)
    found = neighbors(tree, 5, in_turn)
    assert not found.dist.any()
    asked = neighbors_within(tree, np.full(len(X), UNBOUNDED), tree, 5, in_turn)
    copies = tree.order < len(X) - 50
    np.testing.assert_array_equal(asked.place[copies], [np.flatnonzero(copies)[:5]] * copies.sum())


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.float64, LEAF, elements=st.floats(-5, 5)), st.floats(-5, 5))
def test_lanes_are_sets_as_bits(values: np.ndarray, bound: float) -> None:
    assert members(lanes_of(values, bound, True)) == np.flatnonzero(values < bound).tolist()
    assert members(lanes_of(values, bound, False)) == np.flatnonzero(values <= bound).tolist()


def members(lanes: int) -> list[int]:
    return [i for i in range(LEAF) if lanes >> i & 1]


@numba.njit
def lanes_of(values, bound, strict):  # type: ignore[no-untyped-def]
    return lanes_below(values, bound) if strict else lanes_up_to(values, bound)


@numba.njit
def lowest_of(values, bound):  # type: ignore[no-untyped-def]
    return lowest(lanes_below(values, bound))


def test_the_lowest_member() -> None:
    values = np.ones(LEAF)
    for i in reversed(range(LEAF)):
        values[i] = -1.0
        assert lowest_of(values, 0.0) == i
