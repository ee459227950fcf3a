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

from distclust.kernels.intrinsics import nearest_block, panel_widths, transpose_block
from distclust.kernels.llvm import ROWS, VECTOR_BYTES

__all__ = [
    "TILE_ROWS",
    "Panels",
    "Tile",
    "new_tile",
    "row_addresses",
    "score_tile",
    "see_rows",
]

TILE_ROWS = 512  # a multiple of every vector's length
AHEAD = 32  # rows further on, whose values are fetched from memory meanwhile


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

    counts: tuple[int, ...]  # of panels of each of panel_widths()
    values: npt.NDArray[Any]  # panels of (d, width), one after another
    half_norms: npt.NDArray[Any]  # a center each

    @classmethod
    def of(
        cls, centers: npt.NDArray[Any], half_norms: npt.NDArray[Any], widest: int | None = None
    ) -> Panels:
        """Arrange centers of shape (k, d) in as few panels as can be, of much the same width.

        What only fills the last of them is infinitely far.
        """
        k, d = centers.shape
        pairs = -(-k // 2)
        filled, n_panels = 2 * pairs, -(-2 * pairs // (widest or panel_widths()[0]))
        each, wider = divmod(pairs, n_panels)
        wanted = {2 * each + 2: wider, 2 * each: n_panels - wider}
        rows = np.zeros((filled, d), dtype=centers.dtype)
        norms = np.full(filled, np.inf, dtype=half_norms.dtype)
        rows[:k], norms[:k] = centers, half_norms
        counts, parts, first = [], [], 0
        for width in panel_widths():
            counts.append(wanted.get(width, 0))
            last = first + counts[-1] * width
            parts.append(rows[first:last].reshape(-1, width, d).transpose(0, 2, 1).ravel())
            first = last
        return cls(tuple(counts), np.concatenate(parts), norms)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def new_tile(X, table):  # type: ignore[no-untyped-def]
    """Allocate a tile for rows of X."""
    dtype, lanes = X.dtype, VECTOR_BYTES // X.itemsize
    return Tile(
        np.zeros(TILE_ROWS, np.int64),
        np.zeros(TILE_ROWS, dtype),
        np.zeros(TILE_ROWS, dtype),
        np.zeros(TILE_ROWS, dtype),
        np.zeros(TILE_ROWS, dtype),
        np.zeros(TILE_ROWS, np.int32),
        np.zeros((X.shape[1], lanes), dtype),
        table.offset.astype(dtype),
        np.full(1, table.scale).astype(dtype),
    )


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def row_addresses(at, pitch, row_ids, i):  # type: ignore[no-untyped-def]
    """Return where `ROWS` rows begin."""
    return (
        at + row_ids[i] * pitch,
        at + row_ids[i + 1] * pitch,
        at + row_ids[i + 2] * pitch,
        at + row_ids[i + 3] * pitch,
        at + row_ids[i + 4] * pitch,
        at + row_ids[i + 5] * pitch,
        at + row_ids[i + 6] * pitch,
        at + row_ids[i + 7] * pitch,
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def score_tile(X, count, table, tile):  # type: ignore[no-untyped-def]
    """Find the two least scores of the first `count` rows in tile.row_ids, and where.

    No array is sliced or handed on for each vector: that would count references, and
    threads that share `X` and `table` would wait for each other's counts.
    """
    size, d = X.itemsize, X.shape[1]
    lanes = VECTOR_BYTES // size
    row_ids, offset, scale = tile.row_ids, tile.offset, tile.scale[0]
    seen, at, pitch = tile.seen, X.ctypes.data, X.strides[0]
    seen_at, offset_at, panels = seen.ctypes.data, offset.ctypes.data, table.panels
    values_at, half_norms_at = panels.values.ctypes.data, panels.half_norms.ctypes.data
    least, second = tile.least.ctypes.data, tile.second.ctypes.data
    sq_norms, labels = tile.sq_norms.ctypes.data, tile.labels.ctypes.data
    filled = -(-count // lanes) * lanes
    row_ids[count:filled] = row_ids[count - 1]  # a vector is always full
    for i in range(0, filled, lanes):
        if d < ROWS:
            for j in range(d):
                for lane in range(lanes):
                    seen[j, lane] = (X[row_ids[i + lane], j] - offset[j]) * scale
        else:
            for part in range(0, lanes, ROWS):
                after = min(i + AHEAD, filled - lanes) + part
                see_rows(
                    at, pitch, row_ids, i + part, after, d, size, offset_at, scale, seen_at, part
                )
        nearest_block(
            seen_at,
            d,
            values_at,
            half_norms_at,
            panels.counts,
            scale,
            (least + i * size, second + i * size, sq_norms + i * size, labels + i * 4),
        )


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def see_rows(  # type: ignore[no-untyped-def]
    at, pitch, row_ids, i, after, d, size, offset_at, scale, seen_at, part
):
    """See `ROWS` rows through the frame, block by block; the last may overlap the one before.

    Meanwhile the rows that come `after` are fetched: a few lines at a time, since more at
    once would keep the processor waiting.
    """
    r0, r1, r2, r3, r4, r5, r6, r7 = row_addresses(at, pitch, row_ids, i)
    n0, n1, n2, n3, n4, n5, n6, n7 = row_addresses(at, pitch, row_ids, after)
    for block in range(0, d, ROWS):
        column = min(block, d - ROWS)
        j = column * size
        transpose_block(
            (r0 + j, r1 + j, r2 + j, r3 + j, r4 + j, r5 + j, r6 + j, r7 + j),
            offset_at + j,
            scale,
            (n0 + j, n1 + j, n2 + j, n3 + j, n4 + j, n5 + j, n6 + j, n7 + j),
            seen_at + part * size + column * VECTOR_BYTES,
        )
