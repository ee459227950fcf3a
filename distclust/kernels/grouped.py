"""Many centers: one Lloyd step with a bound on each group of them.

Centers near each other form a group, some panels of `distclust.kernels.tile`. Of each row a
lower bound on its distance to each group is kept, and only groups that may hold its
nearest center are looked at (Y. Ding et al., "Yinyang K-means: a drop-in replacement of
the classic K-means with consistent speedup", 2015). Rows of the same label fail the bounds
of much the same groups, so rows that may change are taken label by label: a vector of them
shares the groups it looks at, and these are multiplied at full speed. The first is that of
their own center, which commonly has not gone as far from them as it has travelled: with
what it shows, fewer others have to be looked at.

Bounds on groups are 16-bit integers, in a unit of which the greatest is several times what
distances commonly are: half the memory that passes by. A row that is farther from its
center is always looked at.

`distclust.kernels.lloyd` says how bounds are kept, and owns what else a step does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.assign import CenterTable, canonical
from distclust.kernels.coded import (
    CodedCenters,
    coded_words,
    find_doubtful,
    new_coded_tile,
    see_words,
    write_margins,
)
from distclust.kernels.fetching import fetch_next, fetch_row
from distclust.kernels.intrinsics import lanes_within, loosen
from distclust.kernels.llvm import VECTOR_BYTES
from distclust.kernels.moving import (
    DOWN,
    UP,
    bound_above,
    bound_below,
    doubt_about_square,
    move_rows,
    renew_upper,
)
from distclust.kernels.pairs import GROUP, LANES, nearest_coded_group

__all__ = [
    "MOST_UNITS",
    "Arranged",
    "Groups",
    "group_centers",
    "grouped_step",
    "groups_of_row",
    "loosen_groups",
]

LEAST_CENTERS, LEAST_CELLS = 64, 1 << 14  # k, and k times d: fewer are sooner multiplied
LARGEST_SHARE = 4  # bytes of bounds for each of a row's own
BOUNDS = VECTOR_BYTES // 2  # lower bounds of a row come in multiples of this
MOST_UNITS = 2**16 - 1  # of a bound
COMMON = 8  # the greatest bound, in norms of rows

I32 = npt.NDArray[np.int32]


class Groups(NamedTuple):
    """Which centers are looked at together."""

    order: I32  # (n_groups * GROUP,): the center at each place; -1 at the end is none
    group_of: I32  # (k,): where each center is
    per_unit: float  # how many units of bounds are 1, as seen through the frame

    @property
    def n_groups(self) -> int:
        return len(self.order) // GROUP

    @property
    def width(self) -> int:
        """How many lower bounds are kept of each row."""
        return -(-self.n_groups // BOUNDS) * BOUNDS

    def arranged(self, table: CenterTable, error: float) -> Arranged:
        """Code the centers in their places, for rows so far from their codes."""
        centers = CodedCenters.of(table, error, self.order)
        return Arranged(self.order, self.group_of, self.per_unit, centers)

    def farthest(self, moved: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
        """Return the greatest of what the centers of each group moved, in units, rounded up.

        Parameters
        ----------
        moved : ndarray of shape (steps, k)

        Returns
        -------
        farthest : ndarray of shape (steps, width)
        """
        farthest = np.zeros((len(moved), self.width), dtype=np.uint16)
        _farthest(moved, self.order, self.per_unit, farthest)
        return farthest


class Arranged(NamedTuple):
    """Centers in groups, as the kernel reads them: some panels each."""

    order: I32  # of `Groups`
    group_of: I32
    per_unit: float
    centers: CodedCenters


def groups_of_row(k: int, d: int, itemsize: int) -> int:
    """Return how many lower bounds on groups are worth keeping of each row; 0 is none.

    Examples
    --------
    >>> groups_of_row(1000, 128, 4), groups_of_row(256, 64, 4), groups_of_row(100, 50, 4)
    (64, 32, 0)
    """
    bounds = -(-k // (GROUP * BOUNDS)) * BOUNDS
    worth = k >= LEAST_CENTERS and k * d >= LEAST_CELLS and coded_words(d) > 0
    return bounds if worth and 2 * bounds <= LARGEST_SHARE * itemsize * d else 0


def group_centers(centers: npt.NDArray[Any], sq_norm: float) -> Groups:
    """Halve the centers, (k, d), along where they spread most, until a group is left.

    How they are grouped decides what is looked at, never what is found. So does the unit of
    bounds, which is chosen by the squared norm that rows commonly have.
    """
    order = np.full(-(-len(centers) // GROUP) * GROUP, -1, dtype=np.int32)
    with np.errstate(over="ignore", invalid="ignore"):  # out of range, any order will do
        order[: len(centers)] = _halved(centers.astype(np.float64), np.arange(len(centers)))
    group_of = np.empty(len(centers), dtype=np.int32)
    group_of[order[: len(centers)]] = np.arange(len(centers)) // GROUP
    usable = sq_norm if 0 < sq_norm < np.finfo(np.float32).max else 1.0
    return Groups(order, group_of, MOST_UNITS / (COMMON * float(np.sqrt(usable))))


def _halved(centers: npt.NDArray[np.float64], which: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if len(which) <= GROUP:
        return which
    rows = centers[which] - centers[which].mean(axis=0)
    direction = rows[(rows * rows).sum(axis=1).argmax()]
    for _ in range(4):  # power iterations: about the first principal axis
        direction = rows.T @ (rows @ direction)
        direction = direction / max(float(np.abs(direction).max()), np.finfo(np.float64).tiny)
    sides = which[np.argsort(rows @ direction, kind="stable")]
    half = -(-len(which) // GROUP) // 2 * GROUP
    return np.concatenate([_halved(centers, sides[:half]), _halved(centers, sides[half:])])


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _units_above(distance, per_unit):  # type: ignore[no-untyped-def]
    """Return no fewer units than make a distance, or the most there are."""
    units = distance * np.float32(per_unit) * UP + np.float32(1)
    return np.uint16(units if units < MOST_UNITS else np.float32(MOST_UNITS))


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _units_below(distance, per_unit):  # type: ignore[no-untyped-def]
    """Return no more units than make a distance."""
    units = distance * np.float32(per_unit) * DOWN
    at_least = units if units > 0 else np.float32(0)
    return np.uint16(at_least if at_least < MOST_UNITS else np.float32(MOST_UNITS))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _farthest(moved, order, per_unit, farthest):  # type: ignore[no-untyped-def]
    for step in range(moved.shape[0]):
        for group in range(len(order) // GROUP):
            greatest = np.float32(0)
            for center in order[group * GROUP : (group + 1) * GROUP]:
                if center >= 0 and moved[step, center] > greatest:
                    greatest = moved[step, center]
            if greatest > 0:
                farthest[step, group] = _units_above(greatest, per_unit)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def grouped_step(  # type: ignore[no-untyped-def]
    X, weights, table, grid, words, groups, travelled, memory, stats
):
    """Do what `distclust.kernels.lloyd.lloyd_step` does, with bounds on groups."""
    tile, n_groups = new_coded_tile(words), len(groups.order) // GROUP
    least, second = np.empty((n_groups, LANES), np.float32), np.empty((n_groups, LANES), np.float32)
    places, looked = np.empty((n_groups, LANES), np.int32), np.empty(n_groups, np.int64)
    near, found = np.empty(LANES, np.float32), (least, second, places)
    bounds = np.empty((n_groups, LANES), np.uint16)
    active, seen = _active_rows(memory, travelled, groups.per_unit, table.exact.shape[0])
    slack, moved, doubtful = np.float32((X.shape[1] + 8) * np.finfo(np.float32).eps), 0, 0
    for start in range(0, seen, LANES):
        count = min(LANES, seen - start)
        tile.row_ids[:LANES] = active[start : start + LANES]
        after = min(start + LANES, len(active) - LANES)
        for place in range(after, after + LANES):
            fetch_row(memory.lower, active[place])
            fetch_row(words, active[place])
        _see(words, active, start, tile)
        write_margins(tile, LANES, groups.centers)
        n_own = _own_groups(tile, groups, memory.labels, looked)
        _look(tile, groups, looked, 0, n_own, found)
        _bound_nearest(tile, slack, travelled.own, memory, near)
        n_looked = _groups_to_look_at(
            tile, near, groups.per_unit, travelled.others, memory, looked, n_own
        )
        _look(tile, groups, looked, n_own, n_looked, found)
        for i in range(count):
            tile.labels[i] = groups.order[tile.labels[i]]
        in_doubt = find_doubtful(tile, count)
        for place in tile.doubtful[:in_doubt]:
            _decide(X, table, tile, place, groups, looked[:n_looked], found)
        doubtful += in_doubt
        loosen_groups(tile.row_ids[:count], travelled.others, memory)
        renew_upper(tile, count, slack, travelled.step, memory)
        _bound_groups(tile, count, groups, looked[:n_looked], found, bounds, memory.lower)
        moved += move_rows(
            X, tile.row_ids[:count], tile.labels, weights, grid, memory.labels, stats
        )
    return seen, moved, doubtful


@numba.njit(nogil=True, cache=True, error_model="numpy")
def loosen_groups(rows, others, memory):  # type: ignore[no-untyped-def]
    """Make bounds on all groups of some rows those of this step."""
    at, pitch = memory.lower.ctypes.data, memory.lower.strides[0]
    others_at, others_pitch = others.ctypes.data, others.strides[0]
    for row in rows:
        way = others_at + memory.since[row] * others_pitch
        for shift in range(0, pitch, VECTOR_BYTES):
            loosen(at + row * pitch + shift, way + shift)


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _place(looked, group):  # type: ignore[no-untyped-def]
    """Return where a group is among those that were looked at: commonly the first."""
    for q in range(len(looked)):
        if looked[q] == group:
            return q
    return 0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _bound_groups(tile, count, groups, looked, found, bounds, lower):  # type: ignore[no-untyped-def]
    """Write lower bounds on the distances to the groups that were looked at.

    They are computed a vector of rows at a time.
    """
    least, second, places = found
    for i in range(count):
        label = tile.labels[i]
        q = _place(looked, groups.group_of[label])
        if groups.order[places[q, i]] == label:
            least[q, i] = second[q, i]
    sq_norms, margins = tile.sq_norms[:LANES], tile.margins[:LANES]
    for q in range(len(looked)):
        scores, units = least[q], bounds[q]
        for i in range(LANES):
            far = bound_below(scores[i], sq_norms[i], margins[i])
            units[i] = _units_below(far, groups.per_unit)
    for i in range(count):
        row = tile.row_ids[i]
        for q in range(len(looked)):
            lower[row, looked[q]] = bounds[q, i]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _decide(X, table, tile, place, groups, looked, found):  # type: ignore[no-untyped-def]
    """Label a row canonically, from the centers whose scores leave it in doubt."""
    least, second, places = found
    limit, best, label = tile.least[place] + tile.margins[place], np.inf, np.int32(0)
    row = X[tile.row_ids[place]]
    for q in range(len(looked)):
        if least[q, place] > limit:
            continue
        first, last = looked[q] * GROUP, (looked[q] + 1) * GROUP
        if second[q, place] > limit:  # of this group, only one
            first, last = np.int64(places[q, place]), np.int64(places[q, place]) + 1
        for center in groups.order[first:last]:
            if center >= 0:
                dist = canonical(row, table.exact[center], table.scale)
                if dist < best or (dist == best and center < label):
                    best, label = dist, center
    tile.labels[place] = label
    tile.second[place] = tile.least[place]
    tile.least[place] = limit


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _active_rows(memory, travelled, per_unit, k):  # type: ignore[no-untyped-def]
    """Return the rows that may change, label by label, and how many they are.

    The last vector of them is filled up.
    """
    labels, upper, lower, since = memory
    _, own, others = travelled
    n, at, pitch = len(labels), lower.ctypes.data, lower.strides[0]
    others_at, others_pitch = others.ctypes.data, others.strides[0]
    starts, may_change = np.zeros(k + 2, np.int64), np.empty(n, np.bool_)
    for row in range(n):  # without branches: a processor would often guess wrong
        fetch_next(lower, row, 1)
        label, step = np.uint64(max(labels[row], 0)), np.uint64(since[row])
        near = _units_above((upper[row] + own[step, label]) * UP, per_unit)
        way, within = others_at + since[row] * others_pitch, np.int64(0)
        for shift in range(0, pitch, VECTOR_BYTES):
            within |= lanes_within(at + row * pitch + shift, way + shift, near)
        may_change[row] = within != 0
        starts[labels[row] + 2] += within != 0
    starts = np.cumsum(starts)
    seen = starts[-1]
    active = np.empty(-(-seen // LANES) * LANES, np.int64)
    for row in range(n):
        if may_change[row]:
            place = labels[row] + 1
            active[starts[place]] = row
            starts[place] += 1
    if seen > 0:
        active[seen:] = active[seen - 1]
    return active, seen


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _see(words, rows, start, tile):  # type: ignore[no-untyped-def]
    """Take a vector of rows into the tile; nothing is known of their centers yet."""
    n_words = words.shape[1]
    at, pitch, words_at = words.ctypes.data, words.strides[0], tile.words.ctypes.data
    see_words(at, pitch, rows, start, n_words, words_at)
    tile.least[:LANES], tile.second[:LANES] = np.inf, np.inf
    tile.sq_norms[:LANES] = tile.words[n_words - 1].view(np.float32)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _own_groups(tile, groups, labels, looked):  # type: ignore[no-untyped-def]
    """List the groups of the centers that the rows of the tile have, if any."""
    count = 0
    for i in range(LANES):
        label = labels[tile.row_ids[i]]
        if label >= 0 and groups.group_of[label] not in looked[:count]:
            looked[count] = groups.group_of[label]
            count += 1
    return count


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _bound_nearest(tile, slack, own, memory, near):  # type: ignore[no-untyped-def]
    """Bound the distance of each row to its nearest center, by those that were looked at."""
    for i in range(LANES):
        row = tile.row_ids[i]
        label = memory.labels[row]
        near[i] = np.inf
        if label >= 0:
            near[i] = (memory.upper[row] + own[memory.since[row], label]) * UP
        doubt = doubt_about_square(tile.margins[i], tile.sq_norms[i], slack)
        seen = bound_above(tile.least[i], tile.sq_norms[i], doubt)
        if seen < near[i] < np.inf:  # of a row without bounds, those on groups say nothing either
            near[i] = seen


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _groups_to_look_at(tile, near, per_unit, others, memory, looked, n_own):  # type: ignore[no-untyped-def]
    """List, after those of its own, the groups that may hold a nearer center of a row."""
    at, pitch = memory.lower.ctypes.data, memory.lower.strides[0]
    others_at, others_pitch = others.ctypes.data, others.strides[0]
    n_groups, count = len(looked), n_own
    for first in range(0, n_groups, BOUNDS):
        within, shift = np.int64(0), 2 * first
        for i in range(LANES):
            row = tile.row_ids[i]
            way = others_at + memory.since[row] * others_pitch
            units = _units_above(near[i], per_unit)
            within |= lanes_within(at + row * pitch + shift, way + shift, units)
        for group in range(first, min(first + BOUNDS, n_groups)):
            if (within >> (group - first)) & 1 and group not in looked[:n_own]:
                looked[count] = group
                count += 1
    return count


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _look(tile, groups, looked, first, last, found):  # type: ignore[no-untyped-def]
    """Find the two least scores of a vector of rows in each of some groups, and in all so far."""
    n_words, centers = tile.words.shape[0], groups.centers
    least, second, places = found
    values_at = centers.panels.values.ctypes.data
    norms_at, units_at = centers.panels.half_norms.ctypes.data, centers.units.ctypes.data
    so_far = tile.least.ctypes.data, tile.second.ctypes.data, tile.labels.ctypes.data
    words_at = tile.words.ctypes.data
    for q in range(first, last):
        out = (
            so_far[0],
            so_far[1],
            so_far[2],
            least.ctypes.data + q * VECTOR_BYTES,
            second.ctypes.data + q * VECTOR_BYTES,
            places.ctypes.data + q * VECTOR_BYTES,
        )
        nearest_coded_group(words_at, n_words - 2, values_at, norms_at, units_at, looked[q], out)
