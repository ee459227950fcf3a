"""Where new rows reach a fitted tree: as by looking at all its rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from distclust.kernels.joining import reach
from distclust.kernels.kdtree import CHEBYSHEV, EUCLIDEAN, MANHATTAN, build
from tests.kernels.tiles import in_turn

F64 = npt.NDArray[np.float64]


def reduced(X: F64, y: F64, metric: int) -> F64:
    """Reduced distances of the rows of X to y, added up feature by feature."""
    apart = np.abs(X - y)
    total = np.zeros(len(X))
    for column in apart.T:
        if metric == CHEBYSHEV:
            total = np.maximum(total, column)
        else:
            total = total + (column * column if metric == EUCLIDEAN else column)
    return total


def rows_of(kind: str, d: int, n: int) -> tuple[F64, F64]:
    """Fitted rows, and new ones."""
    rng = np.random.default_rng(d)
    if kind in ("grid", "tiny"):  # most distances tie; those of tiny rows are subnormal
        unit = 1.0 if kind == "grid" else 1e-160
        return rng.integers(0, 4, (n, d)) * unit, rng.integers(0, 4, (90, d)) * unit
    if kind == "edge":  # few thin rows around each new one, and beyond them many dense ones
        middles = np.arange(30)[:, np.newaxis, np.newaxis] * 1000.0
        thin = rng.normal(size=(30, 14, d))
        thin *= rng.uniform(1, 2.9, (30, 14, 1)) / np.linalg.norm(thin, axis=2, keepdims=True)
        dense = np.eye(d)[0] * 3.1 + rng.uniform(-0.1, 0.1, (30, 40, d))
        X = np.concatenate([thin + middles, dense + middles], axis=1).reshape(-1, d)
        return X, np.broadcast_to(middles, (30, 1, d)).reshape(-1, d).copy()
    if kind == "copies":
        return np.repeat(rng.normal(size=(3, d)), n // 3, axis=0), np.zeros((50, d))
    noise, spread = rng.uniform(-20, 20, (n // 5, d)), rng.lognormal(sigma=1.5, size=(n, 1))
    X = np.concatenate([noise, rng.normal(size=(n, d)) * spread])
    return X, np.concatenate([X[::7], rng.uniform(-25, 25, (60, d))])


@pytest.mark.parametrize("metric", [EUCLIDEAN, MANHATTAN, CHEBYSHEV])
@pytest.mark.parametrize("min_samples", [1, 2, 10, 40])
@pytest.mark.parametrize(
    ("kind", "d"),
    [("spread", 2), ("spread", 10), ("edge", 5), ("grid", 3), ("tiny", 5), ("copies", 2)],
)
def test_reaches_what_a_look_at_all_rows_finds(
    kind: str, d: int, min_samples: int, metric: int
) -> None:
    X, new = rows_of(kind, d, 300)
    tree, queries = build(X, metric, in_turn), build(new, metric, in_turn)
    fitted = X[tree.order]
    core = np.array([np.sort(reduced(fitted, row, metric))[min_samples] for row in fitted])
    found = reach(queries, tree, core, min_samples, in_turn)
    for at, row in enumerate(new[queries.order]):
        dist = reduced(fitted, row, metric)
        nearest = np.argsort(dist, kind="stable")[: max(2, 2 * min_samples)]
        own_core = dist[nearest[min_samples]]
        reached = np.maximum(np.maximum(dist, own_core), core)[nearest]
        first = np.lexsort((nearest, dist[nearest], reached))[0]
        assert (found.dist[at], found.place[at]) == (reached[first], nearest[first])


def test_fewer_rows_than_neighbors() -> None:
    tree = build(np.array([[0.0], [1.0], [4.0]]), EUCLIDEAN, in_turn)
    queries = build(np.array([[3.0], [0.1]]), EUCLIDEAN, in_turn)
    found = reach(queries, tree, np.array([16.0, 16.0, 16.0])[tree.order], 5, in_turn)
    places = dict(zip(queries.order.tolist(), tree.order[found.place].tolist(), strict=True))
    assert places == {0: 2, 1: 0}
