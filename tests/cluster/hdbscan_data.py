"""Data sets on which HDBSCAN is held against the `hdbscan` package."""

from __future__ import annotations

from functools import cache

import numpy as np
from sklearn import datasets


def varying(n: int, d: int, seed: int) -> np.ndarray:
    """Clusters of very different densities, and a tenth of noise."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(-10, 10, (6, d))
    spread = np.geomspace(0.1, 1.5, 6)
    which = rng.integers(6, size=n)
    X = centers[which] + spread[which, None] * rng.standard_normal((n, d))
    X[: n // 10] = rng.uniform(-12, 12, (n // 10, d))
    return X[rng.permutation(n)]


@cache
def data_sets() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    side = np.arange(24.0)
    found = {
        "blobs": datasets.make_blobs(800, centers=6, random_state=1)[0],
        "moons": datasets.make_moons(800, noise=0.06, random_state=0)[0],
        "circles": datasets.make_circles(800, noise=0.05, factor=0.5, random_state=0)[0],
        "swiss roll": datasets.make_swiss_roll(700, noise=0.2, random_state=0)[0],
        "s curve": datasets.make_s_curve(700, noise=0.05, random_state=0)[0],
        "iris": datasets.load_iris().data,
        "wine": datasets.load_wine().data,
        "breast cancer": datasets.load_breast_cancer().data,
        "diabetes": datasets.load_diabetes().data,
        "digits": datasets.load_digits().data[:800],
        "uniform": rng.random((600, 2)),
        "uniform 3": rng.random((600, 3)),
        "anisotropic": datasets.make_blobs(700, random_state=4)[0]
        @ np.array([[0.6, -0.6], [-0.4, 0.8]]),
        "duplicates": np.repeat(rng.random((60, 2)), 12, axis=0)[rng.permutation(720)],
        "some duplicates": np.round(datasets.make_blobs(700, random_state=5)[0], 1),
        "grid": np.array([(a, b) for a in side for b in side]),
        "integers": rng.integers(0, 30, (600, 2)).astype(float),
        "line": np.arange(500.0)[:, None],
        "all equal": np.ones((300, 3)),
        "one outlier": np.vstack([datasets.make_blobs(500, random_state=6)[0], [[1e5, 1e5]]]),
        "fewer rows than a cluster": rng.random((7, 2)),
        "two rows": rng.random((2, 2)),
    }
    for d in (1, 2, 3, 5, 8, 16, 32):
        found[f"varying, {d} features"] = varying(2000 if d < 8 else 600, d, d)
    return found
