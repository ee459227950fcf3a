"""Random matrices whose entries are keyed by (seed, row, column): made wherever they are needed.

An entry is the same in any shape, so a matrix is regenerated from its seed instead of
being sent. Normal deviates come from comparing uniform numbers alone (J. von Neumann,
"Various techniques used in connection with random digits", 1951; C. F. F. Karney,
"Sampling exactly from the normal distribution", 2016): no logarithm is computed, whose
last bit would be the C library's. Uniform numbers are splitmix64's (S. Vigna), as in
`distclust.kernels.keyed`.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.product import SparseMatrix

__all__ = ["normal_matrix", "random_signs", "random_subset", "sparse_signs"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NORMAL, _SPARSE, _SIGN, _SUBSET = 1, 2, 3, 4  # kinds: what is drawn from one seed is independent
_UNIT = 2.0**-52


def normal_matrix(seed: int, shape: tuple[int, int]) -> F64:
    """Return independent standard normal deviates.

    Parameters
    ----------
    seed : int
        0 <= seed < 2**63.
    shape : tuple of two int

    Examples
    --------
    >>> whole = normal_matrix(0, (3, 4))
    >>> bool((normal_matrix(0, (2, 3)) == whole[:2, :3]).all())
    True
    """
    out = np.empty(shape, dtype=np.float64)
    _fill_normal(seed, out)
    return out


def sparse_signs(seed: int, shape: tuple[int, int], density: float) -> SparseMatrix:
    """Return a matrix of which about a share `density` of the entries is 1 or -1, each as likely.

    Each entry is drawn by itself (P. Li, T. Hastie and K. Church, "Very sparse random
    projections", 2006).
    """
    m, d = shape
    indptr = np.zeros(m + 1, dtype=np.int64)
    _count_nonzero(seed, d, density, indptr)
    np.cumsum(indptr, out=indptr)
    indices, signs = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float64)
    _fill_signs(seed, d, density, indptr, indices, signs)
    return SparseMatrix(indptr, indices, signs)


def random_signs(seed: int, n: int) -> F64:
    """Return n independent signs, 1.0 or -1.0."""
    out = np.empty(n, dtype=np.float64)
    _fill_uniform(seed, _SIGN, out)
    return np.where(out < 0.5, -1.0, 1.0)


def random_subset(seed: int, n: int, size: int) -> I64:
    """Return `size` of the numbers below n, without repetition, in increasing order."""
    keys = np.empty(n, dtype=np.float64)
    _fill_uniform(seed, _SUBSET, keys)
    return np.sort(np.argsort(keys, kind="stable")[:size])


@numba.njit(nogil=True, cache=True, inline="always")
def _mix(z):  # type: ignore[no-untyped-def]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(nogil=True, cache=True, inline="always")
def _line_key(seed, kind, i):  # type: ignore[no-untyped-def]
    key = _mix(_mix(np.uint64(seed) + _GOLDEN) + np.uint64(kind) * _GOLDEN)
    return _mix(key + np.uint64(i) * _GOLDEN)


@numba.njit(nogil=True, cache=True, inline="always")
def _uniform(z):  # type: ignore[no-untyped-def]
    """Return a number in the open interval (0, 1)."""
    return (np.float64(_mix(z) >> np.uint64(12)) + 0.5) * _UNIT


@numba.njit(nogil=True, cache=True)
def _fill_uniform(seed, kind, out):  # type: ignore[no-untyped-def]
    key = _line_key(seed, kind, 0)
    for j in range(out.shape[0]):
        out[j] = _uniform(_mix(key + np.uint64(j) * _GOLDEN) + _GOLDEN)


@numba.njit(nogil=True, cache=True)
def _fill_normal(seed, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        key = _line_key(seed, _NORMAL, i)
        for j in range(out.shape[1]):
            out[i, j] = _normal(_mix(key + np.uint64(j) * _GOLDEN))


@numba.njit(nogil=True, cache=True)
def _falls_even(z, limit):  # type: ignore[no-untyped-def]
    """Draw until a number is not below the one before, at first `limit`, which is at most 1.

    Whether the numbers before it were even in number: so they are with probability
    exp(-limit). Also returns the state of the generator.
    """
    even = True
    while True:
        z += _GOLDEN
        u = _uniform(z)
        if u >= limit:
            return even, z
        limit = u
        even = not even


@numba.njit(nogil=True, cache=True)
def _normal(z):  # type: ignore[no-untyped-def]
    """Draw exponential deviates x until one passes with probability exp(-(x - 1)**2 / 2)."""
    while True:
        whole = 0.0
        while True:
            z += _GOLDEN
            part = _uniform(z)
            passed, z = _falls_even(z, part)
            if passed:
                break
            whole += 1.0
        x = whole + part
        rest = (x - 1.0) * (x - 1.0) / 2.0
        passed = True
        while passed and rest > 0.0:
            passed, z = _falls_even(z, min(rest, 1.0))
            rest -= 1.0
        if passed:
            return x if _uniform(z + _GOLDEN) < 0.5 else -x


@numba.njit(nogil=True, cache=True)
def _count_nonzero(seed, d, density, indptr):  # type: ignore[no-untyped-def]
    """Write the number of nonzeros of each line behind its place (OUT, (m + 1,))."""
    for i in range(indptr.shape[0] - 1):
        key = _line_key(seed, _SPARSE, i)
        count = 0
        for j in range(d):
            count += _uniform(_mix(key + np.uint64(j) * _GOLDEN) + _GOLDEN) < density
        indptr[i + 1] = count


@numba.njit(nogil=True, cache=True)
def _fill_signs(seed, d, density, indptr, indices, signs):  # type: ignore[no-untyped-def]
    for i in range(indptr.shape[0] - 1):
        key = _line_key(seed, _SPARSE, i)
        at = indptr[i]
        for j in range(d):
            u = _uniform(_mix(key + np.uint64(j) * _GOLDEN) + _GOLDEN)
            if u < density:
                indices[at] = j
                signs[at] = 1.0 if u < density / 2 else -1.0
                at += 1
