"""Order statistics of columns by counting: exact, mergeable, in bounded memory.

Floats are seen as integers in the same order (their bits, with those of negative numbers
flipped). One pass counts the values under each combination of leading bits; the next looks
only below those that hold a wanted rank, and so on to the last bit: radix selection. Counts
are integers, so they add in any order.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["KEY_BITS", "collect_keys", "count_keys", "floats_of_keys"]

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

KEY_BITS = 64
_SIGN = np.uint64(1 << 63)


def count_keys(X: npt.NDArray[Any], missing: float, prefixes: U64, known: int, bits: int) -> I64:
    """Count the values of each column by the `bits` bits that follow a known prefix.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    missing : float
        Besides NaN, the value that is left out.
    prefixes : ndarray of shape (d, t), uint64
        Leading bits to look below; those of a column differ.
    known : int
        How many bits these have; 0 to look at all values (t is 1 then).
    bits : int

    Returns
    -------
    counts : ndarray of shape (d, t, 2**bits), int64
    """
    counts = np.zeros((*prefixes.shape, 1 << bits), dtype=np.int64)
    wide = np.empty(X.shape[1])
    _count(X, missing, prefixes, known, bits, wide, wide.view(np.uint64), counts)
    return counts


def collect_keys(X: npt.NDArray[Any], missing: float, prefixes: U64, known: int) -> U64:
    """Return the values below prefixes, as (column, place among its prefixes, key) rows.

    Returns
    -------
    found : ndarray of shape (m, 3), uint64
    """
    counts = np.zeros((*prefixes.shape, 1), dtype=np.int64)
    wide = np.empty(X.shape[1])
    bits = wide.view(np.uint64)
    _count(X, missing, prefixes, known, 0, wide, bits, counts)
    found = np.empty((int(counts.sum()), 3), dtype=np.uint64)
    _collect(X, missing, prefixes, known, wide, bits, found)
    return found


def floats_of_keys(keys: U64) -> npt.NDArray[np.float64]:
    """Turn keys back into floats.

    Examples
    --------
    >>> floats_of_keys(np.array([2**63], dtype=np.uint64))
    array([0.])
    """
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float64)


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _key(pattern):  # type: ignore[no-untyped-def]
    """Return the integer of a float's bits, in the same order."""
    negative = np.uint64(0) - (pattern >> np.uint64(63))
    return pattern ^ (negative | (np.uint64(1) << np.uint64(63)))


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _widen(row, wide):  # type: ignore[no-untyped-def]
    """Write a row to wide (OUT, (d,)) as doubles without a negative zero."""
    for j in range(row.shape[0]):
        wide[j] = np.float64(row[j]) + 0.0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _count(X, missing, prefixes, known, bits, wide, patterns, counts):  # type: ignore[no-untyped-def]
    """Add to counts (INOUT); wide is scratch, patterns its view."""
    below = np.uint64(64 - known)
    rest = np.uint64(64 - known - bits)
    mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    for i in range(X.shape[0]):
        _widen(X[i], wide)
        for j in range(X.shape[1]):
            if wide[j] != wide[j] or wide[j] == missing:
                continue
            key = _key(patterns[j])
            prefix = np.uint64(0) if known == 0 else key >> below
            for t in range(prefixes.shape[1]):
                if prefixes[j, t] == prefix:
                    place = np.uint64(0) if bits == 0 else (key >> rest) & mask
                    counts[j, t, np.int64(place)] += 1
                    break


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _collect(X, missing, prefixes, known, wide, patterns, found):  # type: ignore[no-untyped-def]
    """Write (column, place, key) to found (OUT); known is positive."""
    below = np.uint64(64 - known)
    n = 0
    for i in range(X.shape[0]):
        _widen(X[i], wide)
        for j in range(X.shape[1]):
            if wide[j] != wide[j] or wide[j] == missing:
                continue
            key = _key(patterns[j])
            for t in range(prefixes.shape[1]):
                if prefixes[j, t] == key >> below:
                    found[n, 0], found[n, 1], found[n, 2] = np.uint64(j), np.uint64(t), key
                    n += 1
                    break
