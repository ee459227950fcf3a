"""Metrics, as places to put the points in and a monotone function of distance there.

Trees and searches know three distances between vectors (`distclust.kernels.kdtree`). A
metric maps the rows to such vectors (cosine and haversine: to the unit sphere), and the
*reduced* distance there to the metric's own: one function, so ties stay ties.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.kdtree import CHEBYSHEV, EUCLIDEAN, MANHATTAN

__all__ = ["METRICS", "Metric"]

F64 = npt.NDArray[np.float64]

LARGEST_EXPONENT = 1023  # of float64; the smallest numbers would need more


@dataclass(frozen=True)
class Metric:
    """How distances are measured.

    Attributes
    ----------
    kernel : int
        The distance in the space of vectors.
    vectors : callable
        ``(X, exponent)`` of shape (n, d) and any float dtype to float64 vectors.
    distance : callable
        Reduced distances to the metric's.
    reduced : callable
        And back.
    scalable : bool
        Whether vectors are rows times a power of two, and distances with them.
    """

    kernel: int
    vectors: Callable[[npt.NDArray[Any]], F64]
    distance: Callable[[F64], F64]
    reduced: Callable[[F64], F64]
    scalable: bool = True

    def scale(self, largest: float) -> float:
        """Return the power of two that keeps squares of vectors from overflowing or vanishing.

        Parameters
        ----------
        largest : float
            Absolute value among the vectors.
        """
        if not self.scalable or largest == 0:
            return 1.0
        return math.ldexp(1.0, min(-math.frexp(largest)[1], LARGEST_EXPONENT))


def _as_they_are(X: npt.NDArray[Any]) -> F64:
    return np.ascontiguousarray(X, dtype=np.float64)


def _on_unit_sphere(X: npt.NDArray[Any]) -> F64:
    vectors = np.array(X, dtype=np.float64, order="C")
    _normalise(vectors)
    return vectors


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _normalise(X):  # type: ignore[no-untyped-def]
    """Divide rows by their lengths, features in order (INOUT)."""
    n, d = X.shape
    for i in range(n):
        largest, total = 0.0, 0.0
        for j in range(d):
            largest = max(largest, abs(X[i, j]))
        for j in range(d):
            X[i, j] /= largest
            total += X[i, j] * X[i, j]
        length = math.sqrt(total)
        for j in range(d):
            X[i, j] /= length


def _on_globe(X: npt.NDArray[Any]) -> F64:
    vectors = np.empty((len(X), 3))
    _from_angles(np.asarray(X, dtype=np.float64), vectors)
    return vectors


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _from_angles(X, vectors):  # type: ignore[no-untyped-def]
    """Place (latitude, longitude) in radians on the unit sphere (vectors: OUT)."""
    for i in range(X.shape[0]):
        latitude, longitude = X[i, 0], X[i, 1]
        vectors[i, 0] = math.cos(latitude) * math.cos(longitude)
        vectors[i, 1] = math.cos(latitude) * math.sin(longitude)
        vectors[i, 2] = math.sin(latitude)


def _great_circle(sq_chord: F64) -> F64:
    """Return angles; beyond the longest chord they go on linearly, so as to stay monotone."""
    angle: F64 = 2 * np.arcsin(np.sqrt(np.minimum(sq_chord, 4.0)) / 2)
    return angle + np.maximum(sq_chord - 4.0, 0.0)


def _sq_chord(angle: F64) -> F64:
    chord: F64 = 2 * np.sin(np.minimum(angle, np.pi) / 2)
    return chord * chord + np.maximum(angle - np.pi, 0.0)


def _same(distance: F64) -> F64:
    return distance


METRICS = {
    "euclidean": Metric(EUCLIDEAN, _as_they_are, np.sqrt, np.square),
    "manhattan": Metric(MANHATTAN, _as_they_are, _same, _same),
    "chebyshev": Metric(CHEBYSHEV, _as_they_are, _same, _same),
    # 1 - cos is half the squared chord between unit vectors
    "cosine": Metric(EUCLIDEAN, _on_unit_sphere, lambda r: r / 2, lambda r: r * 2, scalable=False),
    "haversine": Metric(EUCLIDEAN, _on_globe, _great_circle, _sq_chord, scalable=False),
}
"""By name, as `HDBSCAN` takes them. Haversine: (latitude, longitude) and distances in radians,
good to 1e-16 radians."""
