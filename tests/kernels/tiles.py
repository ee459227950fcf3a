"""Kernels that are spread over tiles, without threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def in_turn(fn: Callable[[Any], Any], tiles: Iterable[Any]) -> list[Any]:
    """Do what `distclust.engine.threads.map_tiles` does, on this thread."""
    return [fn(tile) for tile in tiles]
