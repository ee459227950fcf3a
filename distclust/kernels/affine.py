"""Rows shifted and scaled, column by column: computed in float64, rounded once."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["scale_rows", "unscale_rows"]

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
