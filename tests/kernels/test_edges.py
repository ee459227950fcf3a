"""The total order of edges, by parts that are sorted one by one."""

from __future__ import annotations

import numpy as np
import pytest

from distclust.kernels.edges import in_total_order, total_order
from tests.kernels.tiles import in_turn

MANY = 150_000  # several parts


def weights_of(kind: str, n: int) -> np.ndarray:
    weights = np.random.default_rng(1).gamma(2.0, size=n)
    if kind == "ties":
        return np.round(weights, 2)
    if kind == "equal":
        return np.full(n, 0.1)
    if kind == "ends":
        weights[: n // 3] = np.inf
        weights[n // 2 :] = 0.0
        weights[-n // 8 :] = np.nextafter(0, 1)
    return weights


@pytest.mark.parametrize("n", [0, 1, 2, 500, MANY])
@pytest.mark.parametrize("kind", ["distinct", "ties", "equal", "ends"])
def test_order(kind: str, n: int):
    weights = weights_of(kind, n)
    a, b = np.random.default_rng(2).integers(0, max(2, n // 9), size=(2, n))
    low, high = np.minimum(a, b), np.maximum(a, b)
    expected = np.lexsort((high, low, weights))
    tree = in_total_order(a, b, weights, in_turn)
    for found, field in zip(tree, (low, high, weights), strict=True):
        np.testing.assert_array_equal(found, field[expected])
    np.testing.assert_array_equal(np.sort(total_order(a, b, weights, in_turn)), np.arange(n))
