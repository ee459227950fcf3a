"""Rows of unit length: what clustering by angle keeps resident.

Owns where rows are normalised (on the worker, as they are loaded) and what is said of a
row that cannot be. The arithmetic is `distclust.kernels.unit`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from distclust.data.blocks import Block, Partition, Source
from distclust.errors import DataError
from distclust.kernels.unit import unit_rows, unit_sparse_rows

__all__ = ["UnitRows", "unit_block"]


class UnitRows:
    """The rows of another source, each scaled to unit length.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.n_rows = source.n_rows
        self.n_features = source.n_features
        self.dtype: np.dtype[Any] = source.dtype
        self.feature_names = source.feature_names
        self.weighted = source.weighted

    def plan(self, n_partitions: int) -> list[tuple[Any, ...]]:
        """Return the arguments of `load`: the other source's loader, and its arguments."""
        return [(self.source.load, *args) for args in self.source.plan(n_partitions)]

    @staticmethod
    def load(load: Callable[..., Partition], *args: Any) -> Partition:
        """Load a partition and normalise it, a piece at a time.

        Raises
        ------
        DataError
            A row is all zeros; names the row, and for files where it is.
        """
        partition = load(*args)
        places = [arg.place_of for arg in args if hasattr(arg, "place_of")]
        normalise = partial(unit_block, place_of=places[0] if places else row_of_input)
        if not partition.blocks[0].is_sparse:
            return partition.rewritten(normalise)
        return Partition([normalise(block) for block in partition.blocks])


def row_of_input(row_id: int) -> str:
    """Say where a row is when only its number is known."""
    return f"row {row_id} of the input"


def unit_block(block: Block, place_of: Callable[[int], str] = row_of_input) -> Block:
    """Return a block of the same rows, each of unit length.

    Parameters
    ----------
    block : Block
    place_of : callable
        Says where the row of a global id is, for the message.

    Raises
    ------
    DataError
        A row is all zeros.
    """
    X = block.X
    if block.is_sparse:
        X = X.copy()
        X.sum_duplicates()  # columns in order, each once
        X.data, first_zero = unit_sparse_rows(X.data, X.indptr)
    else:
        X, first_zero = unit_rows(X)
    if first_zero >= 0:
        raise DataError(
            f"{place_of(block.row_start + first_zero)}: the row is all zeros, so it has no "
            "direction to measure cosines by; drop such rows"
        )
    return Block(X, block.row_start, block.weights)
