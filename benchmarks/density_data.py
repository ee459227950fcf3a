"""Seeded rows for density-based clustering: groups of very different density, and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["GRID", "Size", "make"]

SEED = 20_240_607
GROUPS = 50
NOISE = 0.1  # of the rows
SIDE = 100.0  # of the cube that holds centers and noise
SPREADS = (0.2, 3.0)  # standard deviations of the densest and the thinnest group


class Size(NamedTuple):
    """Rows and features of a case."""

    n_rows: int
    n_features: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read what the command line says.

        Examples
        --------
        >>> Size.parse("200000x5")
        Size(n_rows=200000, n_features=5)
        """
        rows, _, features = text.partition("x")
        return cls(int(rows), int(features))

    def __str__(self) -> str:
        return f"{self.n_rows:,} x {self.n_features}"


GRID = [
    Size(rows * 1000, features)
    for rows in (50, 100, 200, 500, 1000, 2000, 5000, 10_000)
    for features in (2, 3, 5, 10, 32)
]


def make(size: Size) -> np.ndarray:
    """Make normal groups, as many rows in each on average, and uniform noise, in any order.

    Returns
    -------
    ndarray of shape (n_rows, n_features), float64, C order
    """
    rng = np.random.default_rng(SEED)
    centers = rng.uniform(0, SIDE, (GROUPS, size.n_features))
    spreads = np.geomspace(*SPREADS, GROUPS)
    group = rng.integers(GROUPS, size=size.n_rows)
    X = rng.standard_normal(size)
    X *= spreads[group, None]
    X += centers[group]
    noise = rng.random(size.n_rows) < NOISE
    X[noise] = rng.uniform(0, SIDE, (np.count_nonzero(noise), size.n_features))
    return X
