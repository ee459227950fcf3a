"""Memory that is read soon is fetched while what was read before is worked on.

Kernels that stream through rows ask for them a page ahead. Processors foresee such a stream
by themselves, but those in virtual machines often too late: there it halves the time.
Nothing is read, so it does no harm to ask for what is beyond an array.
"""

from __future__ import annotations

import numba
import numpy as np

from distclust.kernels.intrinsics import fetch_soon

__all__ = ["fetch_next", "fetch_row"]

LINE = 64  # bytes that are fetched at a time
AHEAD = 4096  # bytes


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def fetch_row(X, row):  # type: ignore[no-untyped-def]
    """Have a row of X fetched."""
    start = np.int64(X.ctypes.data) + row * X.strides[0]
    for shift in range(0, X.strides[0], LINE):
        fetch_soon(start + shift)


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def fetch_next(X, row, n_rows):  # type: ignore[no-untyped-def]
    """Have as much of X fetched as so many rows are, from a page after `row` on."""
    start = np.int64(X.ctypes.data) + row * X.strides[0] + AHEAD
    for shift in range(0, n_rows * X.strides[0], LINE):
        fetch_soon(start + shift)
