"""New arrays that all threads fill.

A system supplies memory page by page, when it is first written and on the writing thread:
for tens of millions of rows that takes longer than what is then done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Mapper", "copied", "full", "taken"]

Array = npt.NDArray[Any]
Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], list[Any]]
"""Applies a function to tiles, maybe on several threads; results in tile order."""

_PART = 1 << 18  # entries a tile


def full(n: int, value: float, dtype: npt.DTypeLike, map_tiles: Mapper) -> Array:
    """Return `n` equal values."""
    return _made(np.empty(n, dtype), lambda part: value, map_tiles)


def copied(X: Array, map_tiles: Mapper) -> Array:
    """Return a copy, by rows."""
    return _made(np.empty(X.shape, X.dtype), lambda part: X[part], map_tiles)


def taken(values: Array, places: npt.NDArray[np.int64], map_tiles: Mapper) -> Array:
    """Return ``values[places]``."""
    return _made(np.empty(len(places), values.dtype), lambda part: values[places[part]], map_tiles)


def _made(array: Array, entries: Callable[[slice], Any], map_tiles: Mapper) -> Array:
    def fill(start: int) -> None:
        part = slice(start, start + _PART)
        array[part] = entries(part)

    map_tiles(fill, range(0, len(array), _PART))
    return array
