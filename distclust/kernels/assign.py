"""Nearest centers: a fast matrix product proposes, a fixed-order float64 kernel decides.

The *canonical* squared distance of a row and a center is the sum over features, in
order, of ``((x - c) * scale)**2`` in float64. A row's label is the center of least
canonical distance, the lowest index winning a tie. Nothing else can influence it: not
BLAS, tile size, thread count, partitioning or backend.

Speed comes from not computing it. A tile of rows, seen through a `Frame`, is multiplied
with all centers in the data's own precision, giving ``|c|**2 / 2 - x.c``. Each value is
within a rigorous rounding bound of the truth (N. J. Higham, "Accuracy and Stability of
Numerical Algorithms", 2002, section 3.1), so only centers within twice that bound of the
least can be the nearest. Where that leaves one, it is the label; where it leaves more,
their canonical distances decide.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.scaling import Frame

__all__ = [
    "CenterTable",
    "assign",
    "assign_tile",
    "center_table",
    "sq_distances",
    "tile_buffers",
    "tile_rows",
]

F64 = npt.NDArray[np.float64]

_TILE_SCORES = 1 << 18  # rows times centers in a tile: 1 MiB of float32 stays near L2
_MIN_TILE, _MAX_TILE = 128, 512


class CenterTable(NamedTuple):
    """Centers prepared for `assign`."""

    exact: F64  # (k, d): the centers, unscaled
    product: npt.NDArray[Any]  # (k, d), the data's dtype: centers seen through the frame
    half_norms: npt.NDArray[Any]  # (k,), the data's dtype
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
    return CenterTable(
        exact,
        seen.astype(centers.dtype),
        (sq_norms / 2).astype(centers.dtype),
        frame.offset,
        frame.scale,
        spare * (d + 6) * unit * reach,
        spare * ((3 * unit + (d + 4) * unit64) * reach**2 + d * float(np.finfo(np.float32).tiny)),
        spare * (d + 4) * unit64,
    )


def tile_rows(n_clusters: int) -> int:
    """Rows a tile holds: a multiple of the SIMD width, but no power of two.

    Columns of a power-of-two stride would compete for the same few cache sets.
    """
    rows = max(_MIN_TILE, min(_MAX_TILE, _TILE_SCORES // n_clusters))
    return rows - rows % 32 + 16


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
        Canonical squared distances in the data's units.
    """
    labels = np.empty(X.shape[0], dtype=np.int32)
    sq_dist = np.empty(X.shape[0], dtype=np.float64)
    _assign(X, table, tile_rows(table.exact.shape[0]), labels, sq_dist)
    return labels, sq_dist


def sq_distances(X: npt.NDArray[Any], centers: F64, scale: float = 1.0) -> F64:
    """Return canonical squared distances of every row to every center, (n, k), float64."""
    out = np.zeros((X.shape[0], centers.shape[0]), dtype=np.float64)
    _sq_distances(X, np.ascontiguousarray(centers.T), scale, out)
    return out * (1.0 / scale / scale)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sq_distances(X, centers_t, scale, out):  # type: ignore[no-untyped-def]
    """Accumulate feature by feature, so that SIMD over centers keeps the canonical order."""
    n, d = X.shape
    k = centers_t.shape[1]
    for i in range(n):
        line = out[i]
        for j in range(d):
            x = np.float64(X[i, j])
            column = centers_t[j]
            for c in range(k):
                diff = (x - column[c]) * scale
                line[c] += diff * diff


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _canonical(row, center, scale):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(row.shape[0]):
        diff = (np.float64(row[j]) - center[j]) * scale
        total += diff * diff
    return total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _see_through_frame(X, start, stop, offset, scale, tile, sq_norms):  # type: ignore[no-untyped-def]
    """Write (x - offset) * scale to the columns of tile (OUT, (d, rows)).

    sq_norms (OUT, (rows,)) receives a bound on each column's squared norm.
    """
    n, d = stop - start, X.shape[1]
    for i in range(n):
        row = X[start + i]
        for j in range(d):
            tile[j, i] = (row[j] - offset[j]) * scale
    sq_norms[:] = 0
    for j in range(d):
        line = tile[j]
        for i in range(n):
            sq_norms[i] += line[i] * line[i]
    for i in range(n):
        sq_norms[i] *= tile.dtype.type(1.001)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _two_least(scores, half_norms, least, second, labels):  # type: ignore[no-untyped-def]
    """Find each column's two least values of half_norms - scores, and where the least is.

    scores (IN, (k, rows)); least, second, labels (OUT, (rows,)). SIMD runs over rows, so
    it is as fast for few centers as for many; four centers at a time spare loads.
    """
    k, n = scores.shape
    least[:] = np.inf
    second[:] = np.inf
    labels[:] = 0
    quads = k - k % 4
    for c in range(0, quads, 4):
        line0, line1, line2, line3 = scores[c], scores[c + 1], scores[c + 2], scores[c + 3]
        h0, h1, h2, h3 = half_norms[c], half_norms[c + 1], half_norms[c + 2], half_norms[c + 3]
        c0, c1, c2, c3 = np.int32(c), np.int32(c + 1), np.int32(c + 2), np.int32(c + 3)
        for i in range(n):
            a, b, label = least[i], second[i], labels[i]
            a, b, label = _insert(h0 - line0[i], c0, a, b, label)
            a, b, label = _insert(h1 - line1[i], c1, a, b, label)
            a, b, label = _insert(h2 - line2[i], c2, a, b, label)
            least[i], second[i], labels[i] = _insert(h3 - line3[i], c3, a, b, label)
    for c in range(quads, k):
        line, h = scores[c], half_norms[c]
        for i in range(n):
            least[i], second[i], labels[i] = _insert(
                h - line[i], np.int32(c), least[i], second[i], labels[i]
            )


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _insert(value, center, least, second, label):  # type: ignore[no-untyped-def]
    """Insert a value into the two least; written as selects, so that it vectorises."""
    loser = least if least > value else value
    return (
        value if value < least else least,
        loser if loser < second else second,
        center if value < least else label,
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _decide(row, scores, column, table, limit):  # type: ignore[no-untyped-def]
    """Return the nearest of the centers whose score does not exceed limit, canonically."""
    best, label = np.inf, np.int32(0)
    for c in range(table.half_norms.shape[0]):
        # "not >" also keeps every center where scores are not finite
        if not table.half_norms[c] - scores[c, column] > limit:
            dist = _canonical(row, table.exact[c], table.scale)
            if dist < best:
                best, label = dist, np.int32(c)
    return label


@numba.njit(nogil=True, cache=True, error_model="numpy")
def tile_buffers(X, table, rows):  # type: ignore[no-untyped-def]
    """Allocate what `assign_tile` works in, for tiles of at most that many rows."""
    one = X.dtype.type(1)
    tile = np.zeros((X.shape[1], rows), dtype=X.dtype)
    scores = np.zeros((table.exact.shape[0], rows), dtype=X.dtype)
    lines = np.zeros((3, rows), dtype=X.dtype)
    labels = np.zeros(rows, dtype=np.int32)
    return (
        tile,
        scores,
        lines,
        labels,
        table.offset.astype(X.dtype),
        one * X.dtype.type(table.scale),
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def assign_tile(X, start, stop, table, buffers):  # type: ignore[no-untyped-def]
    """Return labels of rows start to stop of X, in a buffer the next tile overwrites."""
    tile, scores, lines, labels, offset, scale = buffers
    least, second, sq_norms = lines[0], lines[1], lines[2]
    _see_through_frame(X, start, stop, offset, scale, tile, sq_norms)
    np.dot(table.product, tile, scores)
    _two_least(scores, table.half_norms, least, second, labels)
    for i in range(stop - start):
        margin = (
            table.constant + table.per_norm * np.sqrt(sq_norms[i]) + table.per_sq_norm * sq_norms[i]
        )
        limit = least[i] + margin
        if not second[i] > limit:
            labels[i] = _decide(X[start + i], scores, i, table, limit)
    return labels[: stop - start]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _assign(X, table, rows, labels, sq_dist):  # type: ignore[no-untyped-def]
    n = X.shape[0]
    buffers = tile_buffers(X, table, rows)
    unscale = 1.0 / table.scale
    for start in range(0, n, rows):
        stop = min(start + rows, n)
        found = assign_tile(X, start, stop, table, buffers)
        for i in range(start, stop):
            labels[i] = found[i - start]
            dist = _canonical(X[i], table.exact[labels[i]], table.scale)
            sq_dist[i] = dist * unscale * unscale
