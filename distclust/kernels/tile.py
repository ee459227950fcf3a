"""Tiles: some rows of a block, and how near their two nearest centers are.

Rows are looked at a vector at a time: as many as fit a register of `VECTOR_BYTES` are
transposed into a corner of the first-level cache, and all centers pass by. Nothing of
the size of rows times centers is ever written.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.intrinsics import (
    ROWS,
    VECTOR_BYTES,
    WIDTHS,
    nearest_block,
    transpose_block,
)

__all__ = ["TILE_ROWS", "Panels", "Tile", "new_tile", "score_tile"]

TILE_ROWS = 512  # a multiple of every vector's length


class Tile(NamedTuple):
    """A tile of rows and what is known of each; made by `new_tile`."""

    row_ids: npt.NDArray[np.int64]  # (TILE_ROWS,): IN: which rows of the block
    least: npt.NDArray[Any]  # (TILE_ROWS,): |c|**2 / 2 - x.c of the nearest center
    second: npt.NDArray[Any]  # (TILE_ROWS,): of the second nearest
    sq_norms: npt.NDArray[Any]  # (TILE_ROWS,): of rows seen through the frame
    margins: npt.NDArray[Any]  # (TILE_ROWS,): what rounding can hide between two scores
    labels: npt.NDArray[np.int32]  # (TILE_ROWS,)
    seen: npt.NDArray[Any]  # (d, vector): rows seen through the frame, transposed
    offset: npt.NDArray[Any]  # (d,): the frame's, in the data's dtype
    scale: npt.NDArray[Any]  # (1,)


class Panels(NamedTuple):
    """Centers as `score_tile` reads them: in panels of so many at a time, feature by feature."""

    counts: tuple[int, ...]  # of panels of each of WIDTHS
    values: npt.NDArray[Any]  # panels of (d, width), one after another
    half_norms: npt.NDArray[Any]  # a center each

    @classmethod
    def of(cls, centers: npt.NDArray[Any], half_norms: npt.NDArray[Any]) -> Panels:
        """Arrange centers of shape (k, d); what only fills the last panel is infinitely far."""
        k, d = centers.shape
        filled = k + k % WIDTHS[-1]
        rows = np.zeros((filled, d), dtype=centers.dtype)
        norms = np.full(filled, np.inf, dtype=centers.dtype)
        rows[:k], norms[:k] = centers, half_norms
        counts, parts, first = [], [], 0
        for width in WIDTHS:
            counts.append((filled - first) // width)
            last = first + counts[-1] * width
            parts.append(rows[first:last].reshape(-1, width, d).transpose(0, 2, 1).ravel())
            first = last
        return cls(tuple(counts), np.concatenate(parts), norms)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def new_tile(X, table):  # type: ignore[no-untyped-def]
    """Allocate a tile for rows of X."""
    dtype = X.dtype
    return Tile(
        np.zeros(TILE_ROWS, np.int64),
        np.zeros(TILE_ROWS, dtype),
        np.zeros(TILE_ROWS, dtype),
        np.zeros(TILE_ROWS, dtype),
        np.zeros(TILE_ROWS, dtype),
        np.zeros(TILE_ROWS, np.int32),
        np.zeros((X.shape[1], VECTOR_BYTES // X.itemsize), dtype),
        table.offset.astype(dtype),
        np.full(1, table.scale).astype(dtype),
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def score_tile(X, count, table, tile):  # type: ignore[no-untyped-def]
    """Find the two least scores of the first `count` rows in tile.row_ids, and where."""
    size, d = X.itemsize, X.shape[1]
    lanes = VECTOR_BYTES // size
    least, second = tile.least.ctypes.data, tile.second.ctypes.data
    sq_norms, labels = tile.sq_norms.ctypes.data, tile.labels.ctypes.data
    panels = table.panels
    filled = -(-count // lanes) * lanes
    tile.row_ids[count:filled] = tile.row_ids[count - 1]  # a vector is always full
    for i in range(0, filled, lanes):
        if d < ROWS:
            _see_few_features(X, tile, i)
        else:
            for part in range(0, lanes, ROWS):
                _see_rows(X, tile, i, part)
        nearest_block(
            tile.seen.ctypes.data,
            d,
            panels.values.ctypes.data,
            panels.half_norms.ctypes.data,
            panels.counts,
            tile.scale[0],
            (least + i * size, second + i * size, sq_norms + i * size, labels + i * 4),
        )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _see_few_features(X, tile, i):  # type: ignore[no-untyped-def]
    """See a vector of rows through the frame, too narrow to be transposed by blocks."""
    seen, scale = tile.seen, tile.scale[0]
    index = tile.row_ids[i : i + seen.shape[1]]
    for j in range(X.shape[1]):
        line, offset = seen[j], tile.offset[j]
        for lane in range(seen.shape[1]):
            line[lane] = (X[index[lane], j] - offset) * scale


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _see_rows(X, tile, i, part):  # type: ignore[no-untyped-def]
    """See `ROWS` rows through the frame, block by block; the last may overlap the one before."""
    d, size, at, pitch = X.shape[1], X.itemsize, X.ctypes.data, X.strides[0]
    index = tile.row_ids[i + part : i + part + ROWS]
    to = tile.seen.ctypes.data + part * size
    r0, r1, r2, r3 = index[0] * pitch, index[1] * pitch, index[2] * pitch, index[3] * pitch
    r4, r5, r6, r7 = index[4] * pitch, index[5] * pitch, index[6] * pitch, index[7] * pitch
    for block in range(0, d, ROWS):
        column = min(block, d - ROWS)
        a = at + column * size
        transpose_block(
            (a + r0, a + r1, a + r2, a + r3, a + r4, a + r5, a + r6, a + r7),
            tile.offset.ctypes.data + column * size,
            tile.scale[0],
            to + column * VECTOR_BYTES,
        )
