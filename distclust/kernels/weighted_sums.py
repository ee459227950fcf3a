"""Exact sums of columns whose rows have weights: one pass, any order, no rounding at all.

The accumulators are those of `distclust.kernels.column_sums`: a weight is an integer times
2**-1074, a weighted value one times 2**-2148, a weighted square one times 2**-3222.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.column_sums import carry, integers

__all__ = ["WeightedSums", "merge_weighted_sums", "weighted_sums"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_WEIGHT_DIGITS = 67  # 32-bit digits that span every double, and two for carries
_DIGITS = 133  # the same of products of two
_SQUARE_DIGITS = 200  # and of three
_LIMBS = 6  # 32-bit ones that hold a product of three mantissas


class WeightedSums(NamedTuple):
    """What is known of columns; made by `weighted_sums`."""

    weights: I64  # (d, 67): digits of the weights of values that are not missing
    plain: I64  # (d, 133): digits of the sums
    squares: I64  # (d, 200): digits of the sums of squares

    def integers(self) -> tuple[list[int], list[int], list[int]]:
        """Return all sums, in units of 2**-1074, 2**-2148 and 2**-3222."""
        return integers(self.weights), integers(self.plain), integers(self.squares)


def weighted_sums(X: npt.NDArray[np.floating], weights: F64) -> WeightedSums:
    """Sum the columns of one block, and their squares.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        Finite, or NaN where a value is missing; n at most 2**28.
    weights : ndarray of shape (n,), float64
        Finite, none negative.

    Examples
    --------
    >>> found = weighted_sums(np.array([[4.0], [np.nan]]), np.array([0.5, 2.0]))
    >>> [totals[0] >> 1074 * (i + 1) for i, totals in enumerate(found.integers())]
    [0, 2, 8]
    """
    d = X.shape[1]
    found = WeightedSums(
        np.zeros((d, _WEIGHT_DIGITS), dtype=np.int64),
        np.zeros((d, _DIGITS), dtype=np.int64),
        np.zeros((d, _SQUARE_DIGITS), dtype=np.int64),
    )
    wide = np.empty(d + 1)
    _add_rows(X, weights, wide, wide.view(np.int64), np.empty((3, _LIMBS), np.uint64), *found)
    for digits in found:
        carry(digits)
    return found


def merge_weighted_sums(a: WeightedSums, b: WeightedSums) -> WeightedSums:
    """Sum of both; exact, so associative."""
    return WeightedSums(a.weights + b.weights, a.plain + b.plain, a.squares + b.squares)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_rows(X, row_weights, wide, bits, limbs, weights, plain, squares):  # type: ignore[no-untyped-def]
    """Add rows to digits (INOUT); wide and limbs are scratch, bits a view of wide."""
    n, d = X.shape
    weight, product, square = limbs[0], limbs[1], limbs[2]
    for i in range(n):
        if row_weights[i] == 0:
            continue
        wide[d] = row_weights[i]
        wide[:d] = X[i]
        weight[0], weight[1], power = _parts(bits[d])
        for j in range(d):
            if wide[j] != wide[j]:
                continue
            low, high, exponent = _parts(bits[j])
            _add(weights[j], weight, 2, power, False)
            _multiply(weight, 2, low, high, product)
            _add(plain[j], product, 4, power + exponent, bits[j] < 0)
            _multiply(product, 4, low, high, square)
            _add(squares[j], square, 6, power + 2 * exponent, False)


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _parts(pattern):  # type: ignore[no-untyped-def]
    """Return the limbs of a double's mantissa, and their exponent above 2**-1074."""
    exponent = (pattern >> np.int64(52)) & np.int64(0x7FF)
    mantissa = np.uint64(pattern & np.int64(0xFFFFFFFFFFFFF))
    if exponent > 0:
        mantissa |= np.uint64(1) << np.uint64(52)
        exponent -= 1
    return mantissa & np.uint64(0xFFFFFFFF), mantissa >> np.uint64(32), exponent


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _multiply(limbs, n, low, high, out):  # type: ignore[no-untyped-def]
    """Multiply `n` limbs by two; OUT, (n + 2,)."""
    low32, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for i in range(n + 1):
        out[i] = 0
    for shift in range(2):
        factor = high if shift else low
        over = np.uint64(0)
        for i in range(n):
            total = limbs[i] * factor + out[i + shift] + over
            out[i + shift] = total & low32
            over = total >> half
        out[n + shift] = over


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _add(digits, limbs, n, exponent, negative):  # type: ignore[no-untyped-def]
    """Add ``+-limbs * 2**exponent`` to digits (INOUT)."""
    low32, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    first, shift = exponent >> 5, np.uint64(exponent & 31)
    sign = np.int64(-1) if negative else np.int64(1)
    for i in range(n):
        limb = limbs[i] << shift
        digits[first + i] += sign * np.int64(limb & low32)
        digits[first + i + 1] += sign * np.int64(limb >> half)
