"""Greedy k-means++ among few weighted points."""

from __future__ import annotations

import numpy as np
import pytest

from distclust.kernels.keyed import keyed_uniform
from distclust.kernels.plusplus import Points, choose_greedily


def blobs(n: int = 300, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(n, d)) + 10 * rng.integers(0, 3, size=(n, d))
    return points, rng.gamma(1.0, size=n)


def uniforms(k: int, n_trials: int = 4, seed: int = 0) -> np.ndarray:
    return keyed_uniform(seed, 0, 0, k * n_trials).reshape(k, n_trials)


def potential_of(points: np.ndarray, weights: np.ndarray, chosen: np.ndarray) -> float:
    sq_dist = ((points[:, np.newaxis] - points[chosen]) ** 2).sum(axis=2).min(axis=1)
    return float(weights @ sq_dist)


def test_potential_is_that_of_the_chosen():
    points, weights = blobs()
    chosen, potential = choose_greedily(Points.of(points), weights, uniforms(12))
    assert len(np.unique(chosen)) == 12
    expected = potential_of(points, weights / weights.max(), chosen)
    assert potential == pytest.approx(expected, rel=1e-12)


def test_each_center_is_the_best_of_its_trials():
    """Against a plain search for the point in whose part of the costs each number falls."""
    points, weights = blobs()
    draws = uniforms(6)
    chosen, _ = choose_greedily(Points.of(points), weights, draws)
    costs = weights.copy()
    for c in range(6):
        upto = np.cumsum(costs)
        trials = np.searchsorted(upto, draws[c] * upto[-1], side="right")[: None if c else 1]
        left = [potential_of(points, weights, [*chosen[:c], trial]) for trial in trials]
        assert chosen[c] == trials[np.argmin(left)]
        sq_dist = ((points[:, np.newaxis] - points[chosen[: c + 1]]) ** 2).sum(axis=2).min(axis=1)
        costs = weights * sq_dist


def test_fewer_distinct_points_than_centers():
    points = np.repeat([[0.0, 0], [1, 1], [2, 5]], 7, axis=0)
    chosen, potential = choose_greedily(Points.of(points), np.ones(21), uniforms(8))
    assert sorted(map(tuple, points[chosen])) == [(0, 0), (1, 1), (2, 5)]
    assert potential == 0


def test_points_that_float32_cannot_tell_apart():
    points = np.array([[0.7], [0.7 + 1e-12], [0.2], [0.2 - 1e-13]])
    for seed in range(20):
        chosen, potential = choose_greedily(Points.of(points), np.ones(4), uniforms(5, seed=seed))
        assert sorted(chosen) == [0, 1, 2, 3]
        assert potential == 0


def test_points_without_weight_are_never_chosen():
    points, weights = blobs(40)
    weights[::2] = 0
    for seed in range(20):
        chosen, _ = choose_greedily(Points.of(points), weights, uniforms(20, seed=seed))
        assert (chosen % 2 == 1).all()


@pytest.mark.parametrize("factor", [1e-300, 1e300])
def test_only_relative_weights_count(factor: float):
    points, weights = blobs()
    expected, _ = choose_greedily(Points.of(points), weights, uniforms(9))
    chosen, _ = choose_greedily(Points.of(points), weights * factor, uniforms(9))
    np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("last", [1 - 2.0**-53, 2.0**-53])
def test_the_ends_of_the_sum(last: float):
    """Where rounding leads beyond the last point that costs anything, or before the first."""
    points = np.array([[0.0], [3], [5], [0]])
    chosen, _ = choose_greedily(Points.of(points), np.array([0.0, 1, 1, 0]), np.full((2, 3), last))
    assert sorted(chosen) == [1, 2]
