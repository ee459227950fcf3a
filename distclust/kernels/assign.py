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

from distclust.kernels.intrinsics import LANES, transpose_block
from distclust.kernels.scaling import Frame

__all__ = [
    "CenterTable",
    "Tile",
    "assign",
    "assign_tile",
    "center_table",
    "nearest_labels",
    "new_tile",
    "own_sq_distances",
    "sq_distances",
    "tile_rows",
]

F64 = npt.NDArray[np.float64]

_TILE_SCORES = 1 << 18  # rows times centers in a tile: 1 MiB of float32 stays near L2
_MIN_TILE, _MAX_TILE = 128, 512
_DISTANCE_TILE = 240  # rows of float64 features that stay in L1 or L2


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


class Tile(NamedTuple):
    """What a tile of rows is worked on in; columns are rows of the data."""

    seen: npt.NDArray[Any]  # (d, rows): through the frame
    scores: npt.NDArray[Any]  # (k, rows): x.c
    sq_norms: npt.NDArray[Any]  # (rows,): of what is seen
    margins: npt.NDArray[Any]  # (rows,): what rounding can hide between two scores
    least: npt.NDArray[Any]  # (rows,): |c|**2 / 2 - x.c of the nearest center
    second: npt.NDArray[Any]  # (rows,): of the second nearest
    labels: npt.NDArray[np.int32]  # (rows,)
    row_ids: npt.NDArray[np.int64]  # (rows,): which rows of the block
    offset: npt.NDArray[Any]  # (d,): the frame's, in the data's dtype
    scale: Any


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
        product, half_norms = seen.astype(centers.dtype), (sq_norms / 2).astype(centers.dtype)
    return CenterTable(
        exact,
        product,
        half_norms,
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
        Canonical squared distances as seen through the frame: ``scale**2`` times the data's.
    """
    labels = nearest_labels(X, table)
    return labels, own_sq_distances(X, table, labels)


def nearest_labels(X: npt.NDArray[Any], table: CenterTable) -> npt.NDArray[np.int32]:
    """Label rows: what `assign` does first."""
    labels = np.empty(X.shape[0], dtype=np.int32)
    _nearest_labels(X, table, tile_rows(len(table.exact)), labels)
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
def _canonical(row, center, scale):  # type: ignore[no-untyped-def]
    total = 0.0
    for j in range(row.shape[0]):
        diff = (np.float64(row[j]) - center[j]) * scale
        total += diff * diff
    return total


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _see_through_frame(X, index, tile):  # type: ignore[no-untyped-def]
    """Write rows (x - offset) * scale to the columns of tile.seen, and their squared norms."""
    n, d = index.shape[0], X.shape[1]
    seen, sq_norms = tile.seen, tile.sq_norms
    if min(n, d) < LANES:
        for j in range(d):
            line, offset = seen[j], tile.offset[j]
            for i in range(n):
                line[i] = (X[index[i], j] - offset) * tile.scale
    else:
        for i in range(0, n, LANES):
            _see_rows(X, index, min(i, n - LANES), tile)
    sq_norms[:] = 0
    for j in range(d):
        line = seen[j]
        for i in range(n):
            sq_norms[i] += line[i] * line[i]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _see_rows(X, index, i, tile):  # type: ignore[no-untyped-def]
    """Do so with `LANES` rows, block by block; the last block overlaps the one before."""
    d, size, at, pitch = X.shape[1], X.itemsize, X.ctypes.data, X.strides[0]
    to, stride = tile.seen.ctypes.data + i * size, tile.seen.strides[0]
    r0, r1 = at + index[i] * pitch, at + index[i + 1] * pitch
    r2, r3 = at + index[i + 2] * pitch, at + index[i + 3] * pitch
    r4, r5 = at + index[i + 4] * pitch, at + index[i + 5] * pitch
    r6, r7 = at + index[i + 6] * pitch, at + index[i + 7] * pitch
    for block in range(0, d, LANES):
        column = min(block, d - LANES)
        j = column * size
        transpose_block(
            (r0 + j, r1 + j, r2 + j, r3 + j, r4 + j, r5 + j, r6 + j, r7 + j),
            tile.offset.ctypes.data + j,
            X.dtype.type(tile.scale),
            to + column * stride,
            stride,
        )


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
def new_tile(X, table, rows):  # type: ignore[no-untyped-def]
    """Allocate a `Tile` of at most that many rows."""
    dtype = X.dtype
    return Tile(
        np.zeros((X.shape[1], rows), dtype),
        np.zeros((table.exact.shape[0], rows), dtype),
        np.zeros(rows, dtype),
        np.zeros(rows, dtype),
        np.zeros(rows, dtype),
        np.zeros(rows, dtype),
        np.zeros(rows, np.int32),
        np.zeros(rows, np.int64),
        table.offset.astype(dtype),
        dtype.type(table.scale),
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def assign_tile(X, index, table, tile):  # type: ignore[no-untyped-def]
    """Find the labels of some rows of X, and how near the two nearest centers are.

    Writes tile.labels. Scores of a row's label are at most tile.least, and of all other
    centers at least tile.second, give or take tile.margins.
    """
    _see_through_frame(X, index, tile)
    np.dot(table.product, tile.seen, tile.scores)
    _two_least(tile.scores, table.half_norms, tile.least, tile.second, tile.labels)
    if _doubtful(tile, index.shape[0], table) == 0:
        return
    for i in range(index.shape[0]):
        limit = tile.least[i] + tile.margins[i]
        if not tile.second[i] > limit:
            tile.labels[i] = _decide(X[index[i]], tile.scores, i, table, limit)
            tile.second[i] = tile.least[i]
            tile.least[i] = limit


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
def _nearest_labels(X, table, rows, labels):  # type: ignore[no-untyped-def]
    n = X.shape[0]
    tile = new_tile(X, table, rows)
    for start in range(0, n, rows):
        index = tile.row_ids[: min(rows, n - start)]
        for i in range(index.shape[0]):
            index[i] = start + i
        assign_tile(X, index, table, tile)
        labels[start : start + index.shape[0]] = tile.labels[: index.shape[0]]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _own_sq_distances(X, table, labels, out):  # type: ignore[no-untyped-def]
    """Take four rows at a time: each keeps its order, and the sums do not wait for each other."""
    n, d = X.shape
    centers, scale = table.exact, table.scale
    fours = n - n % 4
    for i in range(0, fours, 4):
        x0, x1, x2, x3 = X[i], X[i + 1], X[i + 2], X[i + 3]
        c0, c1 = centers[labels[i]], centers[labels[i + 1]]
        c2, c3 = centers[labels[i + 2]], centers[labels[i + 3]]
        t0 = t1 = t2 = t3 = 0.0
        for j in range(d):
            d0 = (np.float64(x0[j]) - c0[j]) * scale
            d1 = (np.float64(x1[j]) - c1[j]) * scale
            d2 = (np.float64(x2[j]) - c2[j]) * scale
            d3 = (np.float64(x3[j]) - c3[j]) * scale
            t0 += d0 * d0
            t1 += d1 * d1
            t2 += d2 * d2
            t3 += d3 * d3
        out[i] = t0
        out[i + 1] = t1
        out[i + 2] = t2
        out[i + 3] = t3
    for i in range(fours, n):
        out[i] = _canonical(X[i], centers[labels[i]], scale)
