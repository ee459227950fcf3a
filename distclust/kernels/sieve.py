"""Rules out pairs of points that are too far apart, by products in float32.

In many features the boxes of a kd-tree rule out little, and nearly all pairs would have
to be measured. Products are several times cheaper than exact distances: with norms they
give ``|a - b|**2 = |a|**2 + |b|**2 - 2 ab`` (points relative to a center, so that norms are
small) up to an error that is bounded here. A pair that could be near enough for all that
this error allows is then measured as always; so what is found does not change by a bit.

With u = 2**-24, norms A and B of the vectors and d features, half of the squared distance is
off by at most ``u (d / 2 + 2.5) (A + B)**2``: 3 u AB for the rounding of coordinates and of
products, u d (AB + B**2 / 2) for that of the sums, u times the half norms and the limit,
which is at most ``(A + B)**2`` where it matters. `_SLACK` covers float64's share as well,
`_TINY` what underflows.

Source of the bound of the sums: N. J. Higham, "Accuracy and Stability of Numerical
Algorithms", 2002, section 3.1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from distclust.kernels.lanes import LANES, lowest
from distclust.kernels.llvm import add_product, splat, variable

__all__ = ["Room", "Sieve", "empty_room", "fill_sieve", "make_sieve", "sift"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_U = 2.0**-24
_SLACK = 4.0
_TINY = 2.0**-140  # for each feature
_LONGEST = 2.0**60  # norms beyond are not looked at: such points are never ruled out
_TOGETHER = 4  # queries whose sums are kept in registers together


class Sieve(NamedTuple):
    """Points of a tree as products see them: relative to a center. Empty if not wanted."""

    near: F32  # (leaves, d, LANES)
    half: F32  # (leaves, LANES): half squared norms, infinite beyond the last point
    sq_norm: F64  # (leaves * LANES,)
    norm: F64  # (leaves * LANES,)
    longest: F64  # (leaves,): norm
    center: F64  # (d,)


class Room(NamedTuple):
    """What `sift` works in, and its answer."""

    asked: npt.NDArray[np.int64]  # (LANES,): queries
    least: F32  # (LANES,): what a product has to reach, for each query
    lanes: npt.NDArray[np.uint32]  # (LANES,): which points may be near enough to each query


def make_sieve(leaves: int, center: F64) -> Sieve:
    """Make room for the points of a tree, for `fill_sieve` to fill."""
    return Sieve(
        np.empty((leaves, len(center), LANES), np.float32),
        np.empty((leaves, LANES), np.float32),
        np.empty(leaves * LANES),
        np.empty(leaves * LANES),
        np.empty(leaves),
        center,
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fill_sieve(blocks, n, sieve, first, last):  # type: ignore[no-untyped-def]
    """Write some leaves of a tree of `n` points (sieve: OUT)."""
    d = blocks.shape[1]
    for leaf in range(first, last):
        block, near, half = blocks[leaf], sieve.near[leaf], sieve.half[leaf]
        near[:], half[:] = 0.0, np.inf
        longest = 0.0
        for i in range(min(LANES, n - leaf * LANES)):
            p = leaf * LANES + i
            total = 0.0
            for j in range(d):
                x = block[j, i] - sieve.center[j]
                total += x * x
            norm = np.sqrt(total)
            if norm <= _LONGEST:
                for j in range(d):
                    near[j, i] = block[j, i] - sieve.center[j]
                half[i] = 0.5 * total
            else:
                total, norm, half[i] = 0.0, np.inf, -np.inf
            sieve.sq_norm[p], sieve.norm[p] = total, norm
            longest = max(longest, norm)
        sieve.longest[leaf] = longest


@numba.njit(nogil=True, cache=True)
def empty_room():  # type: ignore[no-untyped-def]
    """Make room for `sift`."""
    return Room(np.empty(LANES, np.int64), np.empty(LANES, np.float32), np.empty(LANES, np.uint32))


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def sift(mine, leaf, theirs, other, active, limits, room):  # type: ignore[no-untyped-def]
    """Find which queries may be near enough to any point of another leaf.

    Parameters
    ----------
    mine : Sieve
        Of the queries.
    leaf : int
    theirs : Sieve
        Of the other points, with the same center.
    other : int
    active : uint32
        Queries that are asked about, as a set of lanes.
    limits : ndarray of shape (LANES,)
        Squared distances that count as near enough, for each query.
    room : Room
        OUT: `lanes` of the active queries.

    Returns
    -------
    uint32
        The queries with any lanes.
    """
    d, longest = mine.near.shape[1], theirs.longest[other]
    start = leaf * LANES
    norm, sq_norm = mine.norm[start : start + LANES], mine.sq_norm[start : start + LANES]
    share, rest, least = _U * (0.5 * d + _SLACK), _TINY * d, room.least
    for q in range(LANES):  # of all queries, which is sooner done than of the active ones
        reach = norm[q] + longest
        least[q] = 0.5 * (sq_norm[q] - limits[q]) - (share * reach * reach + rest)
    count = 0
    lanes = active
    while lanes != 0:
        room.asked[count] = lowest(lanes)
        lanes &= lanes - np.uint32(1)
        count += 1
    for i in range(count, -(-count // _TOGETHER) * _TOGETHER):
        room.asked[i] = room.asked[count - 1]
    passed = np.uint32(0)
    for at in range(0, count, _TOGETHER):
        block = room.asked, room.least, room.lanes, at
        passed |= _products(mine.near, leaf, theirs.near, other, theirs.half, *block)
    return passed


@intrinsic
def _products(
    typing_context: Any,
    mine: Any,
    leaf: Any,
    theirs: Any,
    other: Any,
    half: Any,
    asked: Any,
    least: Any,
    lanes: Any,
    at: Any,
) -> Any:
    """Set `lanes` of the queries ``asked[at : at + _TOGETHER]``: ``ab - |b|**2 / 2 >= least``.

    Returns the set of those that have any.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def array(kind: Any, value: Any) -> Any:
            return cgutils.create_struct_proxy(kind)(context, builder, value)

        def element(pointer: Any, *steps: Any) -> Any:
            return builder.gep(pointer, list(steps))

        def load(pointer: Any) -> Any:
            return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)

        vector = ir.VectorType(ir.FloatType(), LANES)
        index, word = ir.IntType(64), ir.IntType(32)
        blocks, others = array(mine, args[0]), array(theirs, args[2])
        d = cgutils.unpack_tuple(builder, blocks.shape)[1]
        width = ir.Constant(index, LANES)
        size = builder.mul(d, width)
        from_lines = element(blocks.data, builder.mul(args[1], size))
        to_lines = element(others.data, builder.mul(args[3], size))
        halves = load(element(array(half, args[4]).data, builder.mul(args[3], width)))
        first = element(array(asked, args[5]).data, args[8])
        names = [builder.load(element(first, ir.Constant(index, i))) for i in range(_TOGETHER)]
        sums = [variable(builder, builder.fneg(halves)) for _ in names]
        with cgutils.for_range(builder, d) as loop:
            line = builder.mul(loop.index, width)
            b = load(element(to_lines, line))
            for name, total in zip(names, sums, strict=True):
                a = builder.load(element(from_lines, builder.add(line, name)))
                add_product(builder, total, splat(builder, a, LANES), b)
        passed = ir.Constant(word, 0)
        for name, total in zip(names, sums, strict=True):
            bound = builder.load(element(array(least, args[6]).data, name))
            far = builder.fcmp_ordered(">=", builder.load(total), splat(builder, bound, LANES))
            near = builder.bitcast(far, word)
            builder.store(near, element(array(lanes, args[7]).data, name))
            some = builder.zext(builder.icmp_unsigned("!=", near, ir.Constant(word, 0)), word)
            passed = builder.or_(passed, builder.shl(some, builder.trunc(name, word)))
        return passed

    leaves = mine, types.int64, theirs, types.int64, half
    return types.uint32(*leaves, asked, least, lanes, types.int64), generate
