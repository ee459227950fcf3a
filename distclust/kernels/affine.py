"""Columns shifted and scaled, computed in float64 and rounded once; and their holes filled."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["fill_rows", "scale_rows", "unscale_rows"]

F64 = npt.NDArray[np.float64]


def scale_rows(X: npt.NDArray[Any], shift: F64, scale: F64) -> npt.NDArray[Any]:
    """Return ``(X - shift) / scale``, in the dtype of X, (n, d), float32 or float64.

    Examples
    --------
    >>> scale_rows(np.array([[5.0, 1.0]]), np.array([3.0, 0.0]), np.array([4.0, 2.0]))
    array([[0.5, 0.5]])
    """
    out = np.empty_like(X, order="C")
    _scale(X, shift, scale, out)
    return out


def unscale_rows(X: npt.NDArray[Any], shift: F64, scale: F64) -> npt.NDArray[Any]:
    """Return ``X * scale + shift``, in the dtype of X, (n, d), float32 or float64."""
    out = np.empty_like(X, order="C")
    _unscale(X, shift, scale, out)
    return out


def fill_rows(
    X: npt.NDArray[Any], missing: float, values: F64, kept: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    """Return the columns `kept` of X, (n, d), with ``values[j]`` where column j is missing.

    Missing is what equals `missing`, and NaN if that is NaN.

    Examples
    --------
    >>> X = np.array([[1.0, np.nan, 3.0]])
    >>> fill_rows(X, np.nan, np.array([7.0, 8.0, 9.0]), np.array([1, 2]))
    array([[8., 3.]])
    """
    out = np.empty((X.shape[0], len(kept)), dtype=X.dtype)
    _fill(X, missing, values.astype(X.dtype), kept, out)
    return out


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _fill(X, missing, values, kept, out):  # type: ignore[no-untyped-def]
    either = np.isnan(missing)
    for i in range(X.shape[0]):
        row, into = X[i], out[i]
        for place in range(kept.shape[0]):
            j = kept[place]
            x = row[j]
            into[place] = values[j] if x == missing or (either and x != x) else x


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _scale(X, shift, scale, out):  # type: ignore[no-untyped-def]
    for i in range(X.shape[0]):
        row, into = X[i], out[i]
        for j in range(X.shape[1]):
            into[j] = (np.float64(row[j]) - shift[j]) / scale[j]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _unscale(X, shift, scale, out):  # type: ignore[no-untyped-def]
    for i in range(X.shape[0]):
        row, into = X[i], out[i]
        for j in range(X.shape[1]):
            into[j] = np.float64(row[j]) * scale[j] + shift[j]
