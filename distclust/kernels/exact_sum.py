"""Exact sums of doubles: the same bits in any order, on any number of workers.

A double is an integer times 2**-1074. Its bits are added to an array of 32-bit digits
kept in 64-bit cells (the "small superaccumulator" of R. M. Neal, "Fast exact summation
using small and large superaccumulators", 2015), which becomes one Python integer.
Integers add exactly, so partial sums merge with ``+`` and nothing depends on order.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["exact_exponent", "exact_sum", "exact_value"]

_DIGITS = 67  # 32-bit digits that span every double, and two for carries
_SMALLEST = 1074  # doubles are multiples of 2**-1074


def exact_sum(values: npt.NDArray[np.float64]) -> int:
    """Return the exact sum of finite doubles, as an integer multiple of 2**-1074.

    Parameters
    ----------
    values : ndarray of shape (n,), float64
        Finite; at most 2**30 of them.

    Examples
    --------
    >>> import numpy as np
    >>> exact_value(exact_sum(np.array([1e100, 1.0, -1e100])))
    1.0
    """
    digits = np.zeros(_DIGITS, dtype=np.int64)
    words = np.empty(_DIGITS, dtype=np.uint32)
    _add_digits(values.view(np.int64), digits)
    over: int = _carry(digits, words)
    return int.from_bytes(words.astype("<u4", copy=False).tobytes(), "little") + (
        over << 32 * _DIGITS
    )


def exact_value(total: int) -> float:
    """Round an exact sum to the nearest double; infinity when it is out of range."""
    try:
        return total / (1 << _SMALLEST)
    except OverflowError:
        return float("inf") if total > 0 else float("-inf")


def exact_exponent(total: int) -> int:
    """Return the least e such that a sum of terms of one sign is below ``2**e``."""
    return total.bit_length() - _SMALLEST


@numba.njit(nogil=True, cache=True)
def _add_digits(bits, digits):  # type: ignore[no-untyped-def]
    """Add doubles, given as their bit patterns (IN, (n,)), to digits (INOUT, (67,))."""
    low32 = np.int64(0xFFFFFFFF)
    for i in range(bits.shape[0]):
        pattern = bits[i]
        exponent = (pattern >> np.int64(52)) & np.int64(0x7FF)
        mantissa = pattern & np.int64(0xFFFFFFFFFFFFF)
        if exponent > 0:
            mantissa |= np.int64(1) << np.int64(52)
            exponent -= np.int64(1)
        digit = exponent >> np.int64(5)
        shift = exponent & np.int64(31)
        low = (mantissa & low32) << shift
        high = (mantissa >> np.int64(32)) << shift
        sign = np.int64(1) - np.int64(2) * np.int64(pattern < 0)
        digits[digit] += sign * (low & low32)
        digits[digit + 1] += sign * ((low >> np.int64(32)) + (high & low32))
        digits[digit + 2] += sign * (high >> np.int64(32))


@numba.njit(nogil=True, cache=True)
def _carry(digits, words):  # type: ignore[no-untyped-def]
    """Bring digits (IN, (n,)) into [0, 2**32), as words (OUT, (n,)); return what is left over."""
    over = np.int64(0)
    for i in range(digits.shape[0]):
        total = digits[i] + over
        words[i] = total & np.int64(0xFFFFFFFF)
        over = total >> np.int64(32)
    return over
