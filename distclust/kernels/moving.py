"""What Lloyd steps of any kind do with rows: which may move, and sums and bounds of those seen.

Sums are integers on a grid (`distclust.kernels.scaling.FixedPoint`), so moving a row from
one cluster to another never drifts. Bounds are float32, rounded outwards.
"""

from __future__ import annotations

import numba
import numpy as np

from distclust.kernels.assign import assign_tile
from distclust.kernels.fetching import fetch_row
from distclust.kernels.intrinsics import bits_of
from distclust.kernels.scaling import MAGIC, MAGIC_BITS

__all__ = [
    "DOWN",
    "TINY",
    "UP",
    "bound_above",
    "bound_below",
    "doubt_about_square",
    "loosen_others",
    "move_rows",
    "renew_lower",
    "renew_upper",
    "rows_that_may_move",
    "see_tile",
    "settle_upper",
]

BATCH = 64  # rows between looks at whether a tile is full
AHEAD = 8  # rows whose memory is fetched meanwhile
UP, DOWN = np.float32(1 + 2.0**-21), np.float32(1 - 2.0**-21)  # for a few roundings
TINY = np.float32(1e-37)  # and more than an underflow
FAR = np.float32(2.0**60)  # of lower bounds the greatest: infinity would never loosen


@numba.njit(nogil=True, cache=True, error_model="numpy")
def rows_that_may_move(row, memory, travelled, row_ids):  # type: ignore[no-untyped-def]
    """Fill a tile with rows whose bounds, if any, do not settle their label, from `row` on.

    Every row is written and only counted if it may move: a processor that has to guess
    guesses wrong often, and then throws away what it has begun of the rows after.

    Returns the row after those that were looked at, and how many are in the tile.
    """
    labels, upper, lower, since = memory
    n, size = labels.shape[0], row_ids.shape[0]
    if upper.shape[0] == 0:
        count = min(n - row, size)
        for i in range(count):
            row_ids[i] = row + i
        return row + count, count
    _, own, others = travelled
    count = 0
    while row < n and count <= size - BATCH:
        for i in range(row, min(n, row + BATCH)):
            label = np.uint64(max(labels[i], 0))  # never seen is -1, and its bound infinite
            step = np.uint64(since[i])
            row_ids[count] = i
            near, far = (upper[i] + own[step, label]) * UP, lower[i, 0] - others[step, label]
            count += not near < far
        row = min(n, row + BATCH)
    return row, count


@numba.njit(nogil=True, cache=True, error_model="numpy")
def see_tile(X, weights, table, grid, tile, count, slack, travelled, memory, stats):  # type: ignore[no-untyped-def]
    """Compute the labels of the rows in tile.row_ids; move, and count, those that changed."""
    assign_tile(X, count, table, tile)
    if len(memory.upper) > 0:
        renew_upper(tile, count, slack, travelled.step, memory)
        renew_lower(tile, count, memory)
    return move_rows(X, tile.row_ids[:count], tile.labels, weights, grid, memory.labels, stats)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def move_rows(X, index, found, weights, grid, labels, stats):  # type: ignore[no-untyped-def]
    """Move the rows whose label is not the one found: out of the old cluster, into the new.

    Returns how many those are.
    """
    offset, scale, weight_unit, weight_scale = grid
    sums, totals = stats
    d = X.shape[1]  # no slices of rows: threads would wait for each other's reference counts
    moving = np.empty(index.shape[0], np.int64)
    moved = 0
    for i in range(index.shape[0]):
        moving[moved] = i  # overwritten unless it does move: no branch to guess
        moved += found[i] != labels[index[i]]
    for i in range(min(AHEAD, moved)):
        fetch_row(X, index[moving[i]])
    for place in range(moved):
        if place + AHEAD < moved:
            fetch_row(X, index[moving[place + AHEAD]])
        row, new = index[moving[place]], found[moving[place]]
        old = labels[row]
        labels[row] = new
        factor, weight = 1.0, np.int64(1)
        if weights.shape[0] > 0:
            factor = weights[row] * weight_unit
            weight = np.int64(np.rint(factor * weight_scale))
        totals[new] += weight
        if old < 0:
            for j in range(d):
                sums[new, j] += _rounded(X[row, j], offset[j], scale[j], factor)
            continue
        totals[old] -= weight
        for j in range(d):
            term = _rounded(X[row, j], offset[j], scale[j], factor)
            sums[new, j] += term
            sums[old, j] -= term
    return moved


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _rounded(x, offset, scale, factor):  # type: ignore[no-untyped-def]
    """Round a term to the grid: the last bits of its sum with MAGIC."""
    return bits_of((np.float64(x) - offset) * scale * factor + MAGIC) - MAGIC_BITS


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def doubt_about_square(margin, sq_norm, slack):  # type: ignore[no-untyped-def]
    """Turn doubt about a score into doubt about the squared distance, rounding included.

    |x - c|**2 is twice the score plus |x|**2.
    """
    return type(margin)(2) * margin + type(margin)(slack) * sq_norm


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def bound_above(score, sq_norm, doubt):  # type: ignore[no-untyped-def]
    """Turn a score into an upper bound on the distance.

    What is not a number stays so: it keeps no row's label.
    """
    zero, two = type(score)(0), type(score)(2)
    near = two * score + sq_norm + doubt
    return np.float32(np.sqrt(zero if near < zero else near)) * UP + TINY


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def bound_below(score, sq_norm, doubt):  # type: ignore[no-untyped-def]
    """Turn a score into a lower bound on the distance.

    What is not a number bounds nothing; a score that overflowed is of a center beyond `FAR`.
    """
    zero, two = type(score)(0), type(score)(2)
    far = two * score + sq_norm - doubt
    far = np.float32(np.sqrt(far if far > zero else zero))
    return (far if far < FAR else FAR) * DOWN - TINY


@numba.njit(nogil=True, cache=True, error_model="numpy")
def renew_upper(tile, count, slack, step, memory):  # type: ignore[no-untyped-def]
    """Keep an upper bound on the distance to the row's center, as of this step.

    Writes to tile.margins the doubt about squared distances.
    """
    least, sq_norms, margins = tile.least, tile.sq_norms, tile.margins
    for i in range(count):
        margins[i] = doubt_about_square(margins[i], sq_norms[i], slack)
        least[i] = bound_above(least[i], sq_norms[i], margins[i])
    for i in range(count):
        row = tile.row_ids[i]
        memory.upper[row], memory.since[row] = least[i], step


@numba.njit(nogil=True, cache=True, error_model="numpy")
def renew_lower(tile, count, memory):  # type: ignore[no-untyped-def]
    """Keep a lower bound on the distance to all other centers, as of this step."""
    second, sq_norms, margins = tile.second, tile.sq_norms, tile.margins
    for i in range(count):
        memory.lower[tile.row_ids[i], 0] = bound_below(second[i], sq_norms[i], margins[i])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def loosen_others(others, memory):  # type: ignore[no-untyped-def]
    """Make the lower bounds of all rows, one each, those of this step."""
    labels, _, lower, since = memory
    for row in range(len(labels)):
        label, step = np.uint64(max(labels[row], 0)), np.uint64(since[row])
        lower[row, 0] = (lower[row, 0] - others[step, label]) * DOWN


@numba.njit(nogil=True, cache=True, error_model="numpy")
def settle_upper(own, memory):  # type: ignore[no-untyped-def]
    """Make the upper bounds of all rows those of this step, and that the first."""
    labels, upper, _, since = memory
    for row in range(len(labels)):
        label, step = np.uint64(max(labels[row], 0)), np.uint64(since[row])
        upper[row] = (upper[row] + own[step, label]) * UP
        since[row] = 0
