"""How data is centred, scaled and rounded so that sums are exact and nothing overflows.

Two passes look at the data. The first finds each feature's extremes, which need no
arithmetic. The second sums rows and squares in fixed point: with the extremes known, a
power-of-two scale makes every term an integer small enough that ``n_rows`` of them fit
an int64, and integer addition is associative. The same idea carries the cluster sums
of every iteration (`FixedPoint`). Resolution is ``max|x - offset| * 2**-51`` or, for
many rows, ``2**-(61 - log2(n_rows))``.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.fetching import fetch_next

__all__ = [
    "Extremes",
    "FixedPoint",
    "Frame",
    "MomentScale",
    "Moments",
    "extremes",
    "merge_extremes",
    "merge_moments",
    "moments",
]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

MAGIC = 1.5 * 2.0**52  # added to |v| < 2**51, it leaves rint(v) in the low bits
MAGIC_BITS = int(np.float64(MAGIC).view(np.int64))
SIDE_BY_SIDE = 256  # values of rows that are added as one long row
_ROUNDED_BITS = 51
_SUM_BITS = 62
_MAX_EXPONENT = 1000  # keeps products of a scale, and its inverse, normal doubles
_MAX_TERM_EXPONENT = 1022  # the same for a scale by itself


class Extremes(NamedTuple):
    """Extremes of the data, and its number of rows."""

    low: F64  # (n_features,)
    high: F64  # (n_features,)
    max_weight: float  # 1.0 without weights
    n_rows: int


def extremes(X: npt.NDArray[np.floating], weights: F64 | None) -> Extremes:
    """Find the extremes of one block."""
    low, high = X[0].copy(), X[0].copy()
    _extremes(X, low, high)
    greatest = 1.0 if weights is None else float(weights.max())
    return Extremes(low.astype(np.float64), high.astype(np.float64), greatest, X.shape[0])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _extremes(X, low, high):  # type: ignore[no-untyped-def]
    """Widen low and high (INOUT, (d,)) to all rows."""
    for i in range(X.shape[0]):
        row = X[i]
        for j in range(X.shape[1]):
            low[j] = row[j] if row[j] < low[j] else low[j]
            high[j] = row[j] if row[j] > high[j] else high[j]


def merge_extremes(a: Extremes, b: Extremes) -> Extremes:
    """Extremes of both."""
    return Extremes(
        np.minimum(a.low, b.low),
        np.maximum(a.high, b.high),
        max(a.max_weight, b.max_weight),
        a.n_rows + b.n_rows,
    )


class FixedPoint(NamedTuple):
    """Rounds ``w * (x - offset)`` and ``w`` to integers whose sums cannot overflow."""

    offset: F64  # (n_features,)
    exponents: I64  # (n_features,): terms are multiples of 2**-exponent
    weight_exponent: int  # weights are multiples of 2**-weight_exponent
    weight_shift: int  # 2**weight_shift brings the greatest weight into [1/2, 1)

    @classmethod
    def around(cls, offset: F64, found: Extremes, *, weighted: bool) -> FixedPoint:
        """Choose the finest exponents that no sum over `found.n_rows` rows overflows."""
        bits = min(_ROUNDED_BITS, _SUM_BITS - int(found.n_rows).bit_length())
        reach = np.maximum(found.high - offset, offset - found.low)
        row_exponents = np.minimum(bits - np.frexp(reach)[1], _MAX_TERM_EXPONENT).astype(np.int64)
        if not weighted:
            return cls(offset, row_exponents, 0, 0)
        shift = min(-int(np.frexp(found.max_weight)[1]), _MAX_TERM_EXPONENT)
        return cls(offset, row_exponents + shift, bits + shift, shift)

    @property
    def grid(self) -> tuple[F64, F64, float, float]:
        """Return what kernels compute with: offset, row scale, weight unit, weight scale.

        With ``v = w * unit``, a term is ``rint((x - offset) * row_scale * v)`` and a weight
        ``rint(v * weight_scale)``; no intermediate leaves the range of doubles.
        """
        return (
            self.offset,
            np.ldexp(1.0, self.exponents - self.weight_shift),
            float(np.ldexp(1.0, self.weight_shift)),
            float(np.ldexp(1.0, self.weight_exponent - self.weight_shift)),
        )

    def sums(self, rounded: I64) -> F64:
        """Turn integer sums of shape (..., n_features) back into real ones."""
        return np.ldexp(rounded.astype(np.float64), -self.exponents)

    def weights(self, rounded: I64) -> F64:
        """Turn integer sums of weights back into real ones."""
        return np.ldexp(rounded.astype(np.float64), -self.weight_exponent)


class Moments(NamedTuple):
    """Integer sums over rows, made by `moments` and read with its `MomentScale`."""

    plain: I64  # (2, n_features): sums of z and z*z
    weighted: I64  # (2, n_features): sums of w*z and w*z*z
    weight: int  # sum of w


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Sum of both; exact, so associative."""
    return Moments(a.plain + b.plain, a.weighted + b.weighted, a.weight + b.weight)


class MomentScale(NamedTuple):
    """How `moments` rounds: ``z = (x - middle) * unit`` and ``w * weight_unit`` are at most 1."""

    middle: F64  # (n_features,)
    unit: F64  # (n_features,), powers of two
    weight_unit: float  # a power of two
    one: float  # terms are multiples of 1 / one

    @classmethod
    def of(cls, found: Extremes) -> MomentScale:
        """Choose the finest scale that no sum over `found.n_rows` rows overflows."""
        bits = min(_ROUNDED_BITS - 1, _SUM_BITS - int(found.n_rows).bit_length())
        middle = found.low / 2 + found.high / 2
        reach = np.maximum(found.high - middle, middle - found.low)
        return cls(
            middle,
            _power_of_two_over(reach, lowest=-1024),
            float(_power_of_two_over(np.float64(found.max_weight))),
            2.0**bits,
        )


def _power_of_two_over(reach: F64 | np.float64, lowest: int = -_MAX_EXPONENT) -> F64:
    """Return the power of two that brings `reach` into [1/2, 1), kept a normal double."""
    exponent = np.clip(-np.frexp(reach)[1], lowest, _MAX_EXPONENT)
    return np.asarray(np.ldexp(1.0, exponent), dtype=np.float64)


class Frame(NamedTuple):
    """Where kernels see the data from: ``(x - offset) * scale`` is of order one.

    `offset` is near the mean, so that expanded distances keep their digits far from
    the origin; `scale` is a power of two, so that squares neither overflow nor vanish.
    Neither changes a label: labels are decided canonically (`distclust.kernels.assign`).
    """

    offset: F64  # (n_features,), representable in the data's dtype
    scale: float

    @classmethod
    def around(cls, offset: F64, reach: float) -> Frame:
        """Scale so that distances up to `reach` from `offset` become at most one."""
        usable = np.float64(reach if np.isfinite(reach) and reach > 0 else 1.0)
        return cls(offset, float(_power_of_two_over(usable)))

    def in_data_units(self, sq_distance: float) -> float:
        """Turn a squared distance, or a sum of them, seen through the frame into the data's."""
        return sq_distance / self.scale / self.scale

    @classmethod
    def of_centers(cls, centers: npt.NDArray[np.floating]) -> Frame:
        """Look from the middle of the centers: where no statistics of the rows are at hand."""
        exact = centers.astype(np.float64)
        offset = (exact.min(axis=0) / 2 + exact.max(axis=0) / 2).astype(centers.dtype)
        spread = float(np.abs(exact - offset).max())
        return cls.around(offset.astype(np.float64), spread * 2 * float(np.sqrt(exact.shape[1])))


def moments(X: npt.NDArray[np.floating], weights: F64 | None, scale: MomentScale) -> Moments:
    """Sum the rows and squares of one block of shape (n, n_features) in fixed point."""
    plain = np.zeros((2, X.shape[1]), dtype=np.int64)
    _add_moments(X, np.empty(0), scale.middle, scale.unit, scale.one, plain)
    if weights is None:
        return Moments(plain, plain, X.shape[0])
    weighted = np.zeros_like(plain)
    scaled = weights * scale.weight_unit
    _add_moments(X, scaled, scale.middle, scale.unit, scale.one, weighted)
    return Moments(plain, weighted, int(np.rint(scaled * scale.one).astype(np.int64).sum()))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_moments(X, weights, middle, unit, one, out):  # type: ignore[no-untyped-def]
    """Add rounded ``w*z`` and ``w*z*z`` to out (INOUT, (2, d)); empty weights mean one.

    Terms are integers of at most `one`: so many of them as stay below 2**53 add exactly
    in float64, which SIMD does best; some rows are added side by side, as one long row, so
    that its vectors are full.
    """
    n, d = X.shape
    values, together = X.ravel(), max(1, SIDE_BY_SIDE // d)
    length, step = together * d, max(1, int(2.0**52 / one))
    middles, units, factors = np.empty(length), np.empty(length), np.full(length, one)
    for j in range(length):
        middles[j], units[j] = middle[j % d], unit[j % d]
    first, second = np.zeros(length), np.zeros(length)
    added = 0
    for start in range(0, n, together):
        rows = min(together, n - start)
        if weights.shape[0] > 0:
            for i in range(rows):
                for j in range(i * d, (i + 1) * d):
                    factors[j] = one * weights[start + i]
        fetch_next(X, start, rows)
        at = values[start * d : (start + rows) * d]
        for j in range(rows * d):
            z = (np.float64(at[j]) - middles[j]) * units[j]
            first[j] += (z * factors[j] + MAGIC) - MAGIC
            second[j] += (z * z * factors[j] + MAGIC) - MAGIC
        added += 1
        if added == step:
            _flush(first, second, out)
            added = 0
    _flush(first, second, out)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _flush(first, second, out):  # type: ignore[no-untyped-def]
    """Add sums of rows side by side to out (INOUT, (2, d)), and begin anew."""
    d = out.shape[1]
    for j in range(first.shape[0]):
        out[0, j % d] += np.int64(first[j])
        out[1, j % d] += np.int64(second[j])
    first[:] = 0.0
    second[:] = 0.0
