"""What would be left of the potential, against the same in plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from distclust.kernels.potential import remaining_potentials

GRID = 2.0**30


def _data(n: int, d: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    sq_dist, weights = rng.uniform(0, 2 * d, n), rng.integers(0, 4, n).astype(float)
    return X, X[:: max(1, n // 5)].copy(), sq_dist, weights


@pytest.mark.parametrize("n", [1, 239, 240, 1001])
@pytest.mark.parametrize("d", [1, 3, 4, 9])
def test_remaining_potentials(n: int, d: int) -> None:
    X, trials, sq_dist, weights = _data(n, d)
    found = remaining_potentials(X, trials, 0.5, sq_dist, weights, GRID)
    reach = (((X[:, np.newaxis] - trials) * 0.5) ** 2).sum(axis=2).T
    expected = (np.minimum(reach, sq_dist) * weights).sum(axis=1)
    np.testing.assert_allclose(found / GRID, expected, rtol=1e-8, atol=1e-6)


def test_blocks_add_up_to_the_whole() -> None:
    X, trials, sq_dist, weights = _data(1000, 7)
    whole = remaining_potentials(X, trials, 1.0, sq_dist, weights, GRID)
    parts = [slice(0, 77), slice(77, 600), slice(600, 1000)]
    sums = [remaining_potentials(X[p], trials, 1.0, sq_dist[p], weights[p], GRID) for p in parts]
    np.testing.assert_array_equal(sum(sums), whole)
