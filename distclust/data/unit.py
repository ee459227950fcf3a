"""Rows of unit length as a row step: what clustering by angle keeps resident.

Owns what is said of a row that has no length. The arithmetic is `distclust.kernels.unit`.
"""

from __future__ import annotations

from dataclasses import dataclass

from distclust.data.blocks import Block
from distclust.data.steps import BadRow, RowStep
from distclust.kernels.unit import unit_rows, unit_sparse_rows

__all__ = ["UnitLength"]


@dataclass(frozen=True)
class UnitLength(RowStep):
    """Scales each row to unit length; a row of zeros is refused."""

    @property
    def keeps_sparse(self) -> bool:
        return True

    def __call__(self, block: Block) -> Block:
        X = block.X
        if block.is_sparse:
            X = X.copy()
            X.sum_duplicates()  # columns in order, each once
            X.data, first_zero = unit_sparse_rows(X.data, X.indptr)
        else:
            X, first_zero = unit_rows(X)
        if first_zero >= 0:
            raise BadRow(
                block.row_start + first_zero,
                "the row is all zeros, so it has no direction to measure cosines by; drop such "
                "rows",
            )
        return Block(X, block.row_start, block.weights)
