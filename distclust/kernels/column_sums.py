"""Exact sums and sums of squares of columns: one pass, any order, no rounding at all.

A double is an integer times 2**-1074, its square one times 2**-2148. Both are added, in
32-bit digits, to cells of 64 bits: the accumulator of `distclust.kernels.exact_sum`, one a
column, and one of twice the range for squares. Partial sums merge by addition; means, and
variances likewise, are quotients of integers, rounded once, so nothing cancels however far
from zero the values are.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["ColumnSums", "carry", "column_sums", "integers", "merge_column_sums", "ratio"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_SMALLEST = 1074  # doubles are multiples of 2**-1074
_DIGITS = 67  # 32-bit digits that span every double, and two for carries
_SQUARE_DIGITS = 133  # the same of squares


class ColumnSums(NamedTuple):
    """What is known of columns; made by `column_sums`."""

    counts: I64  # (d,): values that are not missing
    plain: I64  # (d, 67): digits of the sums
    squares: I64  # (d, 133): digits of the sums of squares

    def means(self) -> F64:
        """Return the mean of each column, correctly rounded; NaN where all is missing."""
        return np.array(
            [
                ratio(total, n << _SMALLEST)
                for n, total in zip(self.counts.tolist(), integers(self.plain), strict=True)
            ]
        )


def ratio(above: int, below: int) -> float:
    """Return a quotient of integers, correctly rounded; infinity when out of range."""
    if below == 0:
        return float("nan")
    try:
        return above / below
    except OverflowError:
        return float("inf") if above > 0 else float("-inf")


def integers(digits: I64) -> list[int]:
    """Return the number that each row of 32-bit digits, (d, n), is; the lowest come first."""
    totals = []
    for row in digits.tolist():
        total = 0
        for digit in reversed(row):
            total = (total << 32) + digit
        totals.append(total)
    return totals


def column_sums(
    X: npt.NDArray[np.floating], missing: float = np.nan, *, squares: bool = True
) -> ColumnSums:
    """Sum the columns of one block, and their squares.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        Finite, but for what is missing; n at most 2**28.
    missing : float
        Besides NaN, the value that counts as missing.
    squares : bool
        Whether squares are summed as well.

    Examples
    --------
    >>> found = column_sums(np.array([[1e8 + 1], [1e8 + 2], [np.nan], [1e8 + 3]]))
    >>> found.counts, found.means()
    (array([3]), array([1.00000002e+08]))
    """
    d = X.shape[1]
    counts = np.zeros(d, dtype=np.int64)
    plain = np.zeros((d, _DIGITS), dtype=np.int64)
    squared = np.zeros((d, _SQUARE_DIGITS), dtype=np.int64)
    wide = np.empty(d)
    _add_rows(X, missing, squares, wide, wide.view(np.int64), counts, plain, squared)
    carry(plain)
    carry(squared)
    return ColumnSums(counts, plain, squared)


def merge_column_sums(a: ColumnSums, b: ColumnSums) -> ColumnSums:
    """Sum of both; exact, so associative."""
    return ColumnSums(a.counts + b.counts, a.plain + b.plain, a.squares + b.squares)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_rows(X, missing, squares, wide, bits, counts, plain, squared):  # type: ignore[no-untyped-def]
    """Add rows to counts (INOUT, (d,)) and digits (INOUT); wide is scratch, bits its view."""
    for i in range(X.shape[0]):
        wide[:] = X[i]
        for j in range(X.shape[1]):
            if wide[j] != wide[j] or wide[j] == missing:
                continue
            counts[j] += 1
            pattern = bits[j]
            exponent = (pattern >> np.int64(52)) & np.int64(0x7FF)
            mantissa = np.uint64(pattern & np.int64(0xFFFFFFFFFFFFF))
            if exponent > 0:
                mantissa |= np.uint64(1) << np.uint64(52)
                exponent -= 1
            _add(plain[j], mantissa, exponent, pattern < 0)
            if squares:
                _add_square(squared[j], mantissa, np.int64(2) * exponent)


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _add(digits, mantissa, exponent, negative):  # type: ignore[no-untyped-def]
    """Add ``+-mantissa * 2**exponent`` to digits (INOUT)."""
    low32 = np.uint64(0xFFFFFFFF)
    first, shift = exponent >> 5, np.uint64(exponent & 31)
    low = (mantissa & low32) << shift
    high = (mantissa >> np.uint64(32)) << shift
    sign = np.int64(-1) if negative else np.int64(1)
    digits[first] += sign * np.int64(low & low32)
    digits[first + 1] += sign * np.int64((low >> np.uint64(32)) + (high & low32))
    digits[first + 2] += sign * np.int64(high >> np.uint64(32))


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _add_square(digits, mantissa, exponent):  # type: ignore[no-untyped-def]
    """Add ``mantissa**2 * 2**exponent`` to digits (INOUT): 106 bits, in 32-bit limbs."""
    low32, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    low, high = mantissa & low32, mantissa >> half
    lowest = low * low
    mixed = np.uint64(2) * low * high
    highest = high * high
    first, shift = exponent >> 5, np.uint64(exponent & 31)
    limb = (lowest & low32) << shift
    digits[first] += np.int64(limb & low32)
    carried = limb >> half
    limb = ((lowest >> half) + (mixed & low32)) & low32
    over = ((lowest >> half) + (mixed & low32)) >> half
    limb = limb << shift
    digits[first + 1] += np.int64((limb & low32) + carried)
    carried = limb >> half
    third = over + (mixed >> half) + (highest & low32)
    limb = (third & low32) << shift
    digits[first + 2] += np.int64((limb & low32) + carried)
    carried = limb >> half
    limb = ((third >> half) + (highest >> half)) << shift
    digits[first + 3] += np.int64((limb & low32) + carried)
    digits[first + 4] += np.int64(limb >> half)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def carry(digits):  # type: ignore[no-untyped-def]
    """Bring all digits (INOUT, (d, n)) but the last into [0, 2**32): sums of them fit again."""
    for j in range(digits.shape[0]):
        row = digits[j]
        for k in range(row.shape[0] - 1):
            over = row[k] >> np.int64(32)
            row[k] -= over << np.int64(32)
            row[k + 1] += over
