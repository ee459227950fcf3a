"""Second moments of rows, exact: integer products, so the same bits on any partitioning.

Rows are centered on the middle of their range and rounded to integers of up to 41 bits,
each split in two slices (K. Ozaki, T. Ogita, S. Oishi and S. Rump, "Error-free
transformations of matrix multiplication by using fast routines of matrix multiplication",
2012). Products of slices, summed over a few rows, are integers below ``2**53``: floating
point adds them exactly, in any order. Longer sums are int64. A variance is at least
``reach**2 / n`` for rows that reach so far from their mean, so what rounding rows does to
it is below ``2**-33`` of it for a million rows, and typically ``2**-42``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from distclust.kernels.registers import PANEL_BYTES, TILE_ROWS, add_products
from distclust.kernels.scaling import MAGIC, Extremes

__all__ = ["GramScale", "GramSum", "SecondMoments", "covariance", "merge_second_moments"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

ROWS_AT_ONCE = 256
_WIDTH = PANEL_BYTES // 8
_MOST_SLICE_BITS = 20
_EXACT_ROWS = 1 << (53 - 2 * _MOST_SLICE_BITS)  # products of as many add up exactly in a double
_SUM_BITS = 62
_MAX_EXPONENT = 1022  # keeps a scale a normal double


class GramScale(NamedTuple):
    """How rows become integers: ``rint((x - middle) * 2**exponents)``."""

    middle: F64  # (d,)
    exponents: I64  # (d,)
    slice_bits: int  # slices are at most 2**slice_bits; they are cut 2**(slice_bits + 1) apart

    @classmethod
    def of(cls, found: Extremes) -> GramScale:
        """Choose the finest scale that no sum over `found.n_rows` rows overflows."""
        bits = min(_MOST_SLICE_BITS, (_SUM_BITS - int(found.n_rows).bit_length()) // 2)
        middle = found.low / 2 + found.high / 2
        reach = np.maximum(found.high - middle, middle - found.low)
        exponents = np.minimum(2 * bits + 1 - np.frexp(reach)[1], _MAX_EXPONENT)
        return cls(middle, exponents.astype(np.int64), bits)


class SecondMoments(NamedTuple):
    """Integer sums over rows, made by `GramSum` and read with its `GramScale`."""

    n_rows: int
    sums: I64  # (2, d): of high slices, of low slices
    products: I64  # (3, d, d): high-high, high-low, low-low; only high-low below the diagonal


def merge_second_moments(a: SecondMoments, b: SecondMoments) -> SecondMoments:
    """Sum of both; exact, so associative."""
    return SecondMoments(a.n_rows + b.n_rows, a.sums + b.sums, a.products + b.products)


class GramSum:
    """Sums the products of all pairs of features, over as many blocks of rows as come.

    Holds six float64 arrays of shape (d, d).

    Parameters
    ----------
    scale : GramScale
    """

    def __init__(self, scale: GramScale) -> None:
        d = len(scale.middle)
        n_panels = -(-d // _WIDTH)
        self._grid = scale.middle, np.ldexp(1.0, scale.exponents), 2.0 ** (scale.slice_bits + 1)
        self._slices = np.zeros((2, n_panels, ROWS_AT_ONCE, _WIDTH))
        self._recent = np.zeros((3, d + TILE_ROWS, n_panels * _WIDTH))  # doubles, for now exact
        self._n_recent = self._n_rows = 0
        self._sums = np.zeros((2, d), dtype=np.int64)
        self._products = np.zeros((3, d, d), dtype=np.int64)

    def add(self, X: npt.NDArray[Any]) -> None:
        """Add rows of shape (n, d)."""
        for start in range(0, len(X), ROWS_AT_ONCE):
            rows = X[start : start + ROWS_AT_ONCE]
            if self._n_recent + len(rows) > _EXACT_ROWS:
                self._settle()
            _add_rows(rows, *self._grid, self._slices, self._sums, self._recent)
            self._n_recent += len(rows)
        self._n_rows += len(X)

    def total(self) -> SecondMoments:
        """Return what all rows add up to."""
        self._settle()
        return SecondMoments(self._n_rows, self._sums, self._products)

    def _settle(self) -> None:
        _move(self._recent, self._products)
        self._n_recent = 0


def covariance(found: SecondMoments, scale: GramScale) -> tuple[F64, F64]:
    """Return the mean, (d,), and the unbiased covariance, (d, d), of the rounded rows.

    Each entry is the exact value, rounded to the nearest double; infinity if there is none.
    """
    n, shift = found.n_rows, scale.slice_bits + 1
    high, mixed, low = found.products
    sums = (found.sums[0].astype(object) << shift) + found.sums[1].astype(object)
    out = np.empty(high.shape, dtype=np.float64)
    for i in range(len(out)):
        both = mixed[i, i:].astype(object) + mixed[i:, i].astype(object)
        total = (high[i, i:].astype(object) << 2 * shift) + (both << shift) + low[i, i:]
        exact = (n * total - sums[i] * sums[i:]) / (n * (n - 1))
        exponents = scale.exponents[i] + scale.exponents[i:]
        with np.errstate(over="ignore"):
            out[i, i:] = out[i:, i] = np.ldexp(exact.astype(np.float64), -exponents)
    return scale.middle + np.ldexp((sums / n).astype(np.float64), -scale.exponents), out


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_rows(X, middle, unit, cut, slices, sums, recent):  # type: ignore[no-untyped-def]
    """Add up to `ROWS_AT_ONCE` rows to sums and recent (INOUT); slices is scratch."""
    _cut(X, middle, unit, cut, slices, sums)
    _add_block(slices, X.shape[0], X.shape[1], recent)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _move(recent, products):  # type: ignore[no-untyped-def]
    """Add whole numbers in doubles (INOUT) to products (INOUT, (3, d, d)), and set them to zero."""
    kinds, d, _ = products.shape
    for kind in range(kinds):
        for i in range(d):
            line, total = recent[kind, i], products[kind, i]
            for j in range(d):
                total[j] += np.int64(line[j])
                line[j] = 0.0


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _cut(X, middle, unit, cut, slices, sums):  # type: ignore[no-untyped-def]
    """Write slices (OUT, (2, panels, rows, width)) and add them to sums."""
    n, d = X.shape
    for p in range(slices.shape[1]):
        first = p * _WIDTH
        high, low = slices[0, p], slices[1, p]
        for c in range(min(_WIDTH, d - first)):
            j = first + c
            for i in range(n):
                z = ((np.float64(X[i, j]) - middle[j]) * unit[j] + MAGIC) - MAGIC
                high[i, c] = (z / cut + MAGIC) - MAGIC
                low[i, c] = z - high[i, c] * cut
                sums[0, j] += np.int64(high[i, c])
                sums[1, j] += np.int64(low[i, c])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _add_block(slices, rows, d, recent):  # type: ignore[no-untyped-def]
    """Add the products of a few rows' slices to recent (INOUT, (3, d + TILE_ROWS, panels * width)).

    Some tiles reach below the diagonal, or beyond the last feature: nobody reads that.
    """
    panel_bytes, pitch = slices.strides[1], recent.strides[1]
    high, low = slices.ctypes.data, slices.ctypes.data + slices.strides[0]
    high_high, high_low = recent.ctypes.data, recent.ctypes.data + recent.strides[0]
    low_low = recent.ctypes.data + 2 * recent.strides[0]
    for i in range(0, d, TILE_ROWS):
        high_rows = _feature_addresses(high, panel_bytes, i, d)
        low_rows = _feature_addresses(low, panel_bytes, i, d)
        for p in range(slices.shape[1]):
            tile, panel = i * pitch + p * PANEL_BYTES, p * panel_bytes
            if (p + 1) * _WIDTH > i:
                add_products(
                    high_rows, PANEL_BYTES, high + panel, rows, 1.0, high_high + tile, pitch
                )
                add_products(low_rows, PANEL_BYTES, low + panel, rows, 1.0, low_low + tile, pitch)
            add_products(high_rows, PANEL_BYTES, low + panel, rows, 1.0, high_low + tile, pitch)


@numba.njit(nogil=True, cache=True, inline="always")
def _feature_addresses(start, panel_bytes, i, d):  # type: ignore[no-untyped-def]
    """Return where a tile of features begins: i, i + 1, ..., or the last one again."""
    last = d - 1
    return (
        _feature_address(start, panel_bytes, i),
        _feature_address(start, panel_bytes, min(i + 1, last)),
        _feature_address(start, panel_bytes, min(i + 2, last)),
        _feature_address(start, panel_bytes, min(i + 3, last)),
        _feature_address(start, panel_bytes, min(i + 4, last)),
        _feature_address(start, panel_bytes, min(i + 5, last)),
    )


@numba.njit(nogil=True, cache=True, inline="always")
def _feature_address(start, panel_bytes, j):  # type: ignore[no-untyped-def]
    return start + j // _WIDTH * panel_bytes + j % _WIDTH * 8
