"""The one definition of inertia that every contender's centers are measured with."""

from __future__ import annotations

import numpy as np

__all__ = ["inertia"]

BLOCK = 10_000  # rows at a time


def inertia(X: np.ndarray, centers: np.ndarray) -> float:
    """Sum over rows of the squared distance to the nearest center, in float64.

    The nearest center is found by the expanded formula, on data shifted to its mean; the
    distance is then taken by definition, so nothing cancels in what is summed.

    Examples
    --------
    >>> X = np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]])
    >>> inertia(X, np.array([[1.0, 0.0], [9.0, 8.0]]))
    3.0
    """
    offset = X.mean(axis=0, dtype=np.float64)
    shifted = np.asarray(centers, dtype=np.float64) - offset
    sq_norms = np.einsum("kd,kd->k", shifted, shifted)
    total = 0.0
    for start in range(0, len(X), BLOCK):
        block = X[start : start + BLOCK] - offset
        nearest = (sq_norms - 2.0 * (block @ shifted.T)).argmin(axis=1)
        difference = block - shifted[nearest]
        total += float(np.einsum("nd,nd->", difference, difference))
    return total
