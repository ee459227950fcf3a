"""Randomness keyed by (seed, stage, global row id): no generator state, so no order.

A row draws the same number whichever worker holds it and whenever it is asked. The
mixing function is splitmix64's finaliser (S. Vigna, after D. Stafford's "Mix13").
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["keyed_below", "keyed_uniform"]

_BUFFERED = 1024  # numbers that stay in the first-level cache until they are looked at

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(nogil=True, cache=True, inline="always")
def _mix(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def _fill(seed, stage, row_start, out):  # type: ignore[no-untyped-def]
    key = _mix(_mix(np.uint64(seed) + _GOLDEN) + np.uint64(stage) * _GOLDEN)
    for i in range(out.shape[0]):
        z = _mix(_mix(key + np.uint64(row_start + i) * _GOLDEN) + _GOLDEN)
        out[i] = (np.float64(z >> np.uint64(12)) + 0.5) * 2.0**-52


def keyed_uniform(seed: int, stage: int, row_start: int, n_rows: int) -> npt.NDArray[np.float64]:
    """Return one number in the open interval (0, 1) for each of consecutive rows.

    Parameters
    ----------
    seed : int
        Seed of the run, 0 <= seed < 2**63.
    stage : int
        Which drawing of the run this is; stages are independent.
    row_start : int
        Global id of the first row.
    n_rows : int

    Examples
    --------
    >>> whole = keyed_uniform(0, 1, 0, 10)
    >>> bool((keyed_uniform(0, 1, 6, 4) == whole[6:]).all())
    True
    """
    out = np.empty(n_rows, dtype=np.float64)
    _fill(seed, stage, row_start, out)
    return out


def keyed_below(
    seed: int, stage: int, row_start: int, n_rows: int, limit: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return which of `keyed_uniform`'s numbers are below `limit`, and these.

    Where few are, that writes next to nothing.

    Examples
    --------
    >>> which, numbers = keyed_below(0, 1, 0, 1000, 0.01)
    >>> bool((keyed_uniform(0, 1, 0, 1000)[which] == numbers).all() and (numbers < 0.01).all())
    True
    """
    which = np.empty(n_rows, dtype=np.int64)
    numbers = np.empty(n_rows, dtype=np.float64)
    count = _fill_below(seed, stage, row_start, limit, which, numbers)
    return which[:count].copy(), numbers[:count].copy()


@numba.njit(nogil=True, cache=True)
def _fill_below(seed, stage, row_start, limit, which, numbers):  # type: ignore[no-untyped-def]
    n, count = which.shape[0], 0
    buffer = np.empty(_BUFFERED, dtype=np.float64)
    for start in range(0, n, _BUFFERED):
        some = buffer[: min(_BUFFERED, n - start)]
        _fill(seed, stage, row_start + start, some)
        for i in range(some.shape[0]):
            if some[i] < limit:
                which[count], numbers[count] = start + i, some[i]
                count += 1
    return count
