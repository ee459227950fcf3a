"""Nearest centers: fast products propose, a fixed-order float64 kernel decides.

The *canonical* squared distance of a row and a center is the sum over features, in
order, of ``((x - c) * scale)**2`` in float64. A row's label is the center of least
canonical distance, the lowest index winning a tie. Nothing else can influence it: not
SIMD width, tile size, thread count, partitioning or backend.

Speed comes from not computing it. Rows, seen through a `Frame`, are multiplied with all
centers in the data's own precision (`distclust.kernels.tile`), giving
``|c|**2 / 2 - x.c``. Each value is within a rigorous rounding bound of the truth
(N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1), so
only centers within twice that bound of the least can be the nearest. Where that leaves
one, it is the label; where it leaves more, their canonical distances decide.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.fetching import fetch_next
from distclust.kernels.scaling import Frame
from distclust.kernels.tile import TILE_ROWS, Panels, new_tile, score_tile

__all__ = [
    "CenterTable",
    "assign",
    "assign_tile",
    "canonical",
    "center_table",
    "nearest_labels",
    "own_sq_distances",
    "sq_distances",
]

F64 = npt.NDArray[np.float64]

_DISTANCE_TILE = 240  # rows of float64 features that stay in L1 or L2


class CenterTable(NamedTuple):
    """Centers prepared for `assign`."""

    exact: F64  # (k, d): the centers, unscaled
    seen: npt.NDArray[Any]  # (k, d), the data's dtype: centers seen through the frame
    half_norms: npt.NDArray[Any]  # (k,), the data's dtype
    panels: Panels  # both again, arranged
    offset: F64  # (d,)
    scale: float
    per_norm: float  # bound on the gap that rounding can hide is
    constant: float  # per_norm * |x| + per_sq_norm * |x|**2 + constant
    per_sq_norm: float


def center_table(centers: npt.NDArray[Any], frame: Frame) -> CenterTable:
    """Prepare centers of shape (k, d), of the data's dtype, for `assign`."""
    exact = np.ascontiguousarray(centers, dtype=np.float64)
    seen = (exact - frame.offset) * frame.scale
    d = centers.shape[1]
    unit = float(np.finfo(centers.dtype).eps) / 2
    unit64 = float(np.finfo(np.float64).eps) / 2
    sq_norms = (seen * seen).sum(axis=1)
    reach = float(np.sqrt(sq_norms.max())) * (1 + 1e-6)
    # Twice (two centers are compared) the error of a score, with a little to spare; the
    # last part of each is the canonical distance's own error, halved like the score.
    spare = 2.02
    with np.errstate(over="ignore"):  # an infinite score leaves the decision to the exact kernel
        product = seen.astype(centers.dtype)
        half_norms = (sq_norms / 2).astype(centers.dtype)
    return CenterTable(
        exact,
        product,
        half_norms,
        Panels.of(product, half_norms),
        frame.offset,
        frame.scale,
        spare * (d + 6) * unit * reach,
        spare * ((3 * unit + (d + 4) * unit64) * reach**2 + d * float(np.finfo(np.float32).tiny)),
        spare * (d + 4) * unit64,
    )


def assign(X: npt.NDArray[Any], table: CenterTable) -> tuple[npt.NDArray[np.int32], F64]:
    """Label rows and measure their distance to the nearest center.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64, C order
    table : CenterTable
        Of the same dtype.

    Returns
    -------
    labels : ndarray of shape (n,), int32
    sq_dist : ndarray of shape (n,), float64
        Canonical squared distances as seen through the frame: ``scale**2`` times the data's.
    """
    labels = nearest_labels(X, table)
    return labels, own_sq_distances(X, table, labels)


def nearest_labels(X: npt.NDArray[Any], table: CenterTable) -> npt.NDArray[np.int32]:
    """Label rows: what `assign` does first."""
    labels = np.empty(X.shape[0], dtype=np.int32)
    _nearest_labels(X, table, labels)
    return labels


def own_sq_distances(X: npt.NDArray[Any], table: CenterTable, labels: npt.NDArray[np.int32]) -> F64:
    """Return each row's canonical squared distance to the center of its label, (n,).

    As seen through the frame.
    """
    out = np.empty(X.shape[0], dtype=np.float64)
    _own_sq_distances(X, table, labels, out)
    return out


def sq_distances(X: npt.NDArray[Any], centers: F64, scale: float = 1.0) -> F64:
    """Return canonical squared distances of every row to every center, (n, k), float64.

    They are ``scale**2`` times the data's.
    """
    out = np.zeros((centers.shape[0], X.shape[0]), dtype=np.float64)
    _sq_distances(X, np.ascontiguousarray(centers), scale, out)
    return out.T


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sq_distances(X, centers, scale, out):  # type: ignore[no-untyped-def]
    """Accumulate into out (k, n) feature by feature: SIMD over rows keeps the order."""
    n, d = X.shape
    columns = np.empty((d, _DISTANCE_TILE), dtype=np.float64)
    for start in range(0, n, _DISTANCE_TILE):
        rows = min(_DISTANCE_TILE, n - start)
        for i in range(rows):
            row = X[start + i]
            for j in range(d):
                columns[j, i] = row[j]
        for c in range(centers.shape[0]):
            line = out[c, start : start + rows]
            for j in range(d):
                column, center = columns[j], centers[c, j]
                for i in range(rows):
                    diff = (column[i] - center) * scale
                    line[i] += diff * diff


@numba.njit(nogil=True, cache=True, error_model="numpy")
def canonical(row, center, scale):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(row.shape[0]):
        diff = (np.float64(row[j]) - center[j]) * scale
        total += diff * diff
    return total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def assign_tile(X, count, table, tile):  # type: ignore[no-untyped-def]
    """Find the labels of the first `count` rows in tile.row_ids, and how clear they are.

    Writes tile.labels. Scores of a row's label are at most tile.least, and of all other
    centers at least tile.second, give or take tile.margins.
    """
    score_tile(X, count, table, tile)
    _decide_tile(X, count, table, tile)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _decide_tile(X, count, table, tile):  # type: ignore[no-untyped-def]
    """Find out how clear the labels are; those that are not, are decided canonically."""
    if _doubtful(tile, count, table) == 0:
        return
    for i in range(count):
        limit = tile.least[i] + tile.margins[i]
        if not tile.second[i] > limit:
            tile.labels[i] = _decide(X[tile.row_ids[i]], table, tile, limit)
            tile.second[i] = tile.least[i]
            tile.least[i] = limit


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _decide(row, table, tile, limit):  # type: ignore[no-untyped-def]
    """Return the nearest of the centers whose score does not exceed limit, canonically."""
    best, label = np.inf, np.int32(0)
    x = (row - tile.offset) * tile.scale[0]
    for c in range(table.exact.shape[0]):
        # "not >" also keeps every center where scores are not finite
        if not table.half_norms[c] - _product(x, table.seen[c]) > limit:
            dist = canonical(row, table.exact[c], table.scale)
            if dist < best:
                best, label = dist, np.int32(c)
    return label


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _product(x, center):  # type: ignore[no-untyped-def]
    """Sum in whatever order is fastest: a score's bound holds for each."""
    total = x.dtype.type(0)
    for j in range(x.shape[0]):
        total += x[j] * center[j]
    return total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _doubtful(tile, n, table):  # type: ignore[no-untyped-def]
    """Write tile.margins; count the rows whose two nearest centers they cannot tell apart."""
    sq_norms, margins, least, second = tile.sq_norms, tile.margins, tile.least, tile.second
    dtype = sq_norms.dtype
    spare = dtype.type(1.001)
    constant, per_norm = dtype.type(table.constant), dtype.type(table.per_norm)
    per_sq_norm = dtype.type(table.per_sq_norm)
    count = 0
    for i in range(n):
        sq_norm = spare * sq_norms[i]
        margins[i] = spare * (constant + per_norm * np.sqrt(sq_norm) + per_sq_norm * sq_norm)
        count += not second[i] > least[i] + margins[i]
    return count


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _nearest_labels(X, table, labels):  # type: ignore[no-untyped-def]
    n = X.shape[0]
    tile = new_tile(X, table)
    for start in range(0, n, TILE_ROWS):
        count = min(TILE_ROWS, n - start)
        for i in range(count):
            tile.row_ids[i] = start + i
        assign_tile(X, count, table, tile)
        labels[start : start + count] = tile.labels[:count]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _own_sq_distances(X, table, labels, out):  # type: ignore[no-untyped-def]
    """Take four rows at a time: each keeps its order, and the sums do not wait for each other."""
    n, d = X.shape
    centers, scale = table.exact, table.scale
    fours = n - n % 4
    for i in range(0, fours, 4):
        c0, c1, c2, c3 = labels[i], labels[i + 1], labels[i + 2], labels[i + 3]
        fetch_next(X, i, 4)
        t0 = t1 = t2 = t3 = 0.0
        for j in range(d):
            d0 = (np.float64(X[i, j]) - centers[c0, j]) * scale
            d1 = (np.float64(X[i + 1, j]) - centers[c1, j]) * scale
            d2 = (np.float64(X[i + 2, j]) - centers[c2, j]) * scale
            d3 = (np.float64(X[i + 3, j]) - centers[c3, j]) * scale
            t0 += d0 * d0
            t1 += d1 * d1
            t2 += d2 * d2
            t3 += d3 * d3
        out[i] = t0
        out[i + 1] = t1
        out[i + 2] = t2
        out[i + 3] = t3
    for i in range(fours, n):
        out[i] = canonical(X[i], centers[labels[i]], scale)
