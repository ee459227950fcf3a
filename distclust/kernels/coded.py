"""Rows as 16-bit integers: half the memory, and three times the products.

Each row, seen through a `Frame`, is written once as integers times a unit of its own, such
that its norm is just below 2**15; so are the centers of each step. Products of those are
exact, no sum of them overflows, and what rounding to units can hide between two scores has
a rigorous bound (Cauchy-Schwarz) by how far rows and centers are from their codes, which
is known: with d features, about ``sqrt(d / 3) * 2**-15 * |x| * |c|``.

Rows whose nearest center stays open within that bound, commonly one in hundreds, are
looked at again as they are (`distclust.kernels.assign`), so labels are the same bits with
and without codes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.assign import CenterTable
from distclust.kernels.fetching import fetch_next, fetch_row
from distclust.kernels.intrinsics import fetch_soon
from distclust.kernels.llvm import ROWS, VECTOR_BYTES
from distclust.kernels.moving import (
    move_rows,
    renew_lower,
    renew_upper,
    rows_that_may_move,
    see_tile,
)
from distclust.kernels.pairs import LANES, group_panel, nearest_coded, transpose_words
from distclust.kernels.scaling import Frame
from distclust.kernels.tile import Panels, new_tile, row_addresses

__all__ = [
    "CodedCenters",
    "CodedTile",
    "Codes",
    "coded_step",
    "coded_words",
    "encode",
    "find_doubtful",
    "new_coded_tile",
    "see_words",
    "write_margins",
]

GREATEST = 32700.0  # of a norm in units: no integer beyond 2**15, no sum beyond 2**31
ROUNDING = 0.01  # units: of float32 arithmetic, in each feature
LEAST_UNIT = np.float32(1e-30)
TILE_ROWS = 2048
AHEAD = 64  # rows further on, whose words are fetched from memory meanwhile
IN_DOUBT = 512  # rows that wait to be looked at again: together, they fill vectors
SOME_ROWS = 4096  # of which the median norm is taken
FARTHEST = 1e18  # whose square is a float32

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]


def coded_words(n_features: int) -> int:
    """Return how many words of 4 bytes a row is coded in; 0 where that would gain nothing.

    Examples
    --------
    >>> coded_words(50), coded_words(8)
    (27, 0)
    """
    pairs = -(-n_features // 2)
    return pairs + 2 if n_features >= LANES else 0


class Codes(NamedTuple):
    """Rows in units of their own."""

    frame: Frame
    words: I32  # (n, pairs + 2): two 16-bit integers each; then, float32, unit and squared norm
    error: float  # units: no row is farther from its code

    def through(self, frame: Frame) -> bool:
        """Whether these are rows as seen through a frame."""
        own = self.frame
        return own.scale == frame.scale and np.array_equal(own.offset, frame.offset)

    @property
    def common_sq_norm(self) -> float:
        """The median of some rows, as seen through the frame; may not be finite."""
        sq_norms = self.words.view(np.float32)[:: len(self.words) // SOME_ROWS + 1, -1]
        return float(np.median(sq_norms)) if len(sq_norms) else 0.0


class CodedCenters(NamedTuple):
    """Centers in units of their own."""

    panels: Panels  # of pairs
    units: F32  # of as many centers as `panels` has
    per_norm: float  # bound on the gap that rounding can hide is
    constant: float  # per_norm * |x| + per_sq_norm * |x|**2 + constant
    per_sq_norm: float

    @classmethod
    def of(cls, table: CenterTable, error: float, order: I32 | None = None) -> CodedCenters:
        """Code the centers of a table, for rows so far from their codes.

        They can be given an order, in which -1 is at no center's place: that is far.
        """
        k, d = table.exact.shape
        places = np.arange(k, dtype=np.int32) if order is None else order
        codes = np.zeros((len(places), d + d % 2), dtype=np.int16)
        units = np.zeros(len(places), dtype=np.float32)
        half_norms = np.full(len(places), np.inf, dtype=np.float32)
        widest = None if order is None else group_panel()
        norm, away = _encode_centers(
            table.exact, table.offset, table.scale, places, codes, units, half_norms
        )
        panels = Panels.of(codes.view(np.int32), half_norms, widest)
        filled = np.zeros(len(panels.half_norms), dtype=np.float32)
        filled[: len(units)] = units
        reach = norm * (1 + 1e-6)
        unit, rounding = float(np.finfo(np.float32).eps) / 2, error / GREATEST
        spare = 2.02  # two centers are compared, with a little to spare
        per_norm = spare * (
            (rounding + 8 * unit) * reach + (1 + rounding) * away + d * float(LEAST_UNIT)
        )
        constant = spare * (3 * unit * reach**2 + d * float(LEAST_UNIT) * (1 + reach))
        beyond = constant if reach < FARTHEST else np.inf
        return cls(panels, filled, per_norm, beyond, table.per_sq_norm)


class CodedTile(NamedTuple):
    """A tile of rows and what is known of each, as in `distclust.kernels.tile.Tile`."""

    row_ids: npt.NDArray[np.int64]  # (TILE_ROWS,): IN
    least: F32
    second: F32
    sq_norms: F32
    margins: F32
    labels: I32
    words: I32  # (pairs + 2, LANES): of a vector of rows, transposed
    doubtful: npt.NDArray[np.int64]  # (TILE_ROWS,): places of rows that are looked at again


def encode(X: npt.NDArray[Any], frame: Frame, words: I32) -> float:
    """Code rows of shape (n, d), float32 or float64, into `Codes.words` of theirs (OUT).

    Returns `Codes.error` of these rows.
    """
    offset = frame.offset.astype(X.dtype)
    with np.errstate(over="ignore"):  # then norms are no numbers, and leave all rows in doubt
        scale = X.dtype.type(frame.scale)
    sq_error = _encode(X, offset, scale, words.view(np.int16), words.view(np.float32))
    return float(np.sqrt(sq_error)) * 1.001 + ROUNDING * float(np.sqrt(X.shape[1]))


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _encode(X, offset, scale, integers, floats):  # type: ignore[no-untyped-def]
    """Return the greatest squared distance of a row to its code, in units."""
    n, d = X.shape
    row, at, zero = np.empty(d, X.dtype), floats.shape[1] - 2, X.dtype.type(0)
    share, greatest = X.dtype.type((1 + 1e-6) / GREATEST), zero
    for i in range(n):
        fetch_next(X, i, 1)
        sq_norm = zero
        for j in range(d):
            value = (X[i, j] - offset[j]) * scale
            row[j] = value
            sq_norm += value * value
        unit = max(np.float32(np.sqrt(sq_norm) * share), LEAST_UNIT)
        factor = X.dtype.type(1) / X.dtype.type(unit)
        integers[i, 2 * at - 1] = 0  # of the last pair, if d is odd
        sq_error = zero
        for j in range(d):
            value = row[j] * factor
            nearest = np.rint(value)
            integers[i, j] = np.int16(nearest)
            sq_error += (value - nearest) * (value - nearest)
        greatest = max(greatest, sq_error)
        floats[i, at] = unit
        floats[i, at + 1] = sq_norm
    return greatest


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _encode_centers(exact, offset, scale, places, codes, units, half_norms):  # type: ignore[no-untyped-def]
    """Code the center at each place; return the greatest norm, and distance to a code."""
    row, norm, sq_away = np.empty(exact.shape[1]), 0.0, 0.0
    for place in range(len(places)):
        center, sq_norm, sq_error = places[place], 0.0, 0.0
        if center < 0:
            continue
        for j in range(len(row)):
            row[j] = (exact[center, j] - offset[j]) * scale
            sq_norm += row[j] * row[j]
        usable = min(np.sqrt(sq_norm), FARTHEST)
        unit = max(np.float32(usable / GREATEST), LEAST_UNIT)
        for j in range(len(row)):
            code = min(max(np.rint(row[j] / unit), -GREATEST), GREATEST)
            codes[place, j] = np.int16(code)
            sq_error += (row[j] - code * unit) ** 2
        units[place], half_norms[place] = unit, sq_norm / 2
        norm, sq_away = max(norm, np.sqrt(sq_norm)), max(sq_away, sq_error)
    return norm, np.sqrt(sq_away)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def coded_step(  # type: ignore[no-untyped-def]
    X, weights, table, grid, words, centers, travelled, memory, stats
):
    """Do what `distclust.kernels.lloyd.lloyd_step` does, with coded rows and centers."""
    n, d = X.shape
    tile, coded = new_tile(X, table), new_coded_tile(words)
    slack = (d + 8) * np.finfo(np.float32).eps
    labels, bounded = memory.labels, len(memory.upper) > 0
    in_doubt, doubtful = np.empty(IN_DOUBT + TILE_ROWS, np.int64), 0
    row, seen, moved, waiting = 0, 0, 0, 0
    while row < n:
        row, count = rows_that_may_move(row, memory, travelled, coded.row_ids)
        if count == 0:
            break
        _score_tile(words, count, centers, labels, coded)
        write_margins(coded, count, centers)
        for place in coded.doubtful[: find_doubtful(coded, count)]:
            in_doubt[waiting] = coded.row_ids[place]
            coded.labels[place] = labels[in_doubt[waiting]]  # until it is looked at again
            waiting += 1
            doubtful += 1
        if bounded:
            renew_upper(coded, count, slack, travelled.step, memory)
            renew_lower(coded, count, memory)
        moved += move_rows(X, coded.row_ids[:count], coded.labels, weights, grid, labels, stats)
        seen += count
        if waiting >= IN_DOUBT:
            rows, waiting = in_doubt[:waiting], 0
            moved += _see_rows(X, weights, table, grid, tile, rows, slack, travelled, memory, stats)
    rows = in_doubt[:waiting]
    moved += _see_rows(X, weights, table, grid, tile, rows, slack, travelled, memory, stats)
    return seen, moved, doubtful


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _see_rows(X, weights, table, grid, tile, rows, slack, travelled, memory, stats):  # type: ignore[no-untyped-def]
    """Look at rows as they are; return how many moved."""
    moved = 0
    for start in range(0, len(rows), len(tile.row_ids)):
        part = rows[start : start + len(tile.row_ids)]
        tile.row_ids[: len(part)] = part
        moved += see_tile(X, weights, table, grid, tile, len(part), slack, travelled, memory, stats)
    return moved


@numba.njit(nogil=True, cache=True, error_model="numpy")
def new_coded_tile(words):  # type: ignore[no-untyped-def]
    """Allocate a tile for coded rows."""
    return CodedTile(
        np.zeros(TILE_ROWS, np.int64),
        np.zeros(TILE_ROWS, np.float32),
        np.zeros(TILE_ROWS, np.float32),
        np.zeros(TILE_ROWS, np.float32),
        np.zeros(TILE_ROWS, np.float32),
        np.zeros(TILE_ROWS, np.int32),
        np.zeros((words.shape[1], LANES), np.int32),
        np.zeros(TILE_ROWS, np.int64),
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def write_margins(coded, count, centers):  # type: ignore[no-untyped-def]
    """Write coded.margins: what rounding can hide between two scores of a row."""
    spare = np.float32(1.001)
    constant, per_norm = np.float32(centers.constant), np.float32(centers.per_norm)
    per_sq_norm = np.float32(centers.per_sq_norm)
    for i in range(count):
        sq_norm = spare * coded.sq_norms[i]
        coded.margins[i] = spare * (constant + per_norm * np.sqrt(sq_norm) + per_sq_norm * sq_norm)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def find_doubtful(coded, count):  # type: ignore[no-untyped-def]
    """List the rows whose two nearest centers their margins cannot tell apart."""
    least, second, margins = coded.least, coded.second, coded.margins
    doubtful = 0
    for i in range(count):
        doubtful += not second[i] > least[i] + margins[i]
    if doubtful == 0:
        return 0
    doubtful = 0
    for i in range(count):
        if not second[i] > least[i] + margins[i]:
            coded.doubtful[doubtful] = i
            doubtful += 1
    return doubtful


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _score_tile(words, count, centers, labels, coded):  # type: ignore[no-untyped-def]
    """Find the two least scores of the first `count` rows in coded.row_ids, and where.

    Meanwhile the labels they have are fetched.
    """
    n_words, row_ids, panels = words.shape[1], coded.row_ids, centers.panels
    at, pitch, words_at = words.ctypes.data, words.strides[0], coded.words.ctypes.data
    values_at, norms_at = panels.values.ctypes.data, panels.half_norms.ctypes.data
    units_at = centers.units.ctypes.data
    least, second = coded.least.ctypes.data, coded.second.ctypes.data
    sq_norms, found = coded.sq_norms.ctypes.data, coded.labels.ctypes.data
    labels_at = labels.ctypes.data
    filled = -(-count // LANES) * LANES
    row_ids[count:filled] = row_ids[count - 1]  # a vector is always full
    for i in range(0, filled, LANES):
        if row_ids[i + LANES - 1] - row_ids[i] == LANES - 1:  # side by side, as those after them
            ahead = np.int64(at) + (row_ids[i] + AHEAD) * pitch
            for pair in range(n_words - 2, n_words):
                fetch_soon(ahead + pair * VECTOR_BYTES)
        else:
            ahead, after = np.int64(words_at), min(i + AHEAD, filled - LANES)
            for place in range(after, after + LANES):
                fetch_row(words, row_ids[place])
        fetch_soon(labels_at + 4 * row_ids[i])
        see_words(at, pitch, row_ids, i, n_words, words_at)
        shift = 4 * i
        nearest_coded(
            words_at,
            n_words - 2,
            values_at,
            norms_at,
            units_at,
            panels.counts,
            ahead,
            (least + shift, second + shift, sq_norms + shift, found + shift),
        )


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def see_words(at, pitch, row_ids, i, n_words, words_at):  # type: ignore[no-untyped-def]
    """Transpose the words of a vector of rows, block by block; the last may overlap the others."""
    r0, r1, r2, r3, r4, r5, r6, r7 = row_addresses(at, pitch, row_ids, i)
    s0, s1, s2, s3, s4, s5, s6, s7 = row_addresses(at, pitch, row_ids, i + ROWS)
    for block in range(0, n_words, ROWS):
        column = min(block, n_words - ROWS)
        j = 4 * column
        transpose_words(
            (r0 + j, r1 + j, r2 + j, r3 + j, r4 + j, r5 + j, r6 + j, r7 + j),
            (s0 + j, s1 + j, s2 + j, s3 + j, s4 + j, s5 + j, s6 + j, s7 + j),
            words_at + column * VECTOR_BYTES,
        )
