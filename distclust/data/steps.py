"""Row steps: what becomes of rows on their way from a source to whoever uses them.

A `RowStep` makes rows of rows, each by itself: scaled, filled, projected. Estimators make
steps (`distclust.preprocessing`), sources apply them (`distclust.data.transformed`), and
so do workers that label files. This module knows neither.

A step is small, frozen and picklable: it travels with every recipe. What is large should
be regenerated from a seed, on the worker, and kept out of the pickle.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import scipy.sparse as sp

from distclust.data.blocks import DENSE_CELLS, Block
from distclust.errors import DataError

__all__ = ["BadRow", "Chain", "RowStep", "apply_step", "chain", "row_of_input", "transformed"]

Names = tuple[str, ...] | None


class BadRow(Exception):
    """A row that a step cannot take; whoever applies the step knows where the row is.

    Attributes
    ----------
    row_id : int
        Global id.
    problem : str
        What is wrong and what to do about it, to stand after "row 7 of the input: ".
    """

    def __init__(self, row_id: int, problem: str) -> None:
        super().__init__(row_id, problem)
        self.row_id = row_id
        self.problem = problem


class RowStep(ABC):
    """A pure function of rows; subclasses are frozen dataclasses.

    What it makes of a row depends on that row alone, to the last bit: neither on the block
    it comes in, nor on the dtype's alignment, threads or BLAS.
    """

    @property
    def accepts_missing(self) -> bool:
        """Whether rows may have NaN; what comes out may then have it too."""
        return False

    @property
    def keeps_sparse(self) -> bool:
        """Whether a sparse block is taken as it is; else it is made dense before."""
        return False

    @abstractmethod
    def __call__(self, block: Block) -> Block:
        """Return a block of the same rows, ids and weights, with other values.

        The block has a bounded size and may be read-only; it is never changed. Its rows
        are finite (or NaN, see `accepts_missing`), float32 or float64, in C order. There
        may be none.

        Raises
        ------
        BadRow
        """

    def n_features_out(self, n_features: int) -> int:
        """Return how many values a row has afterwards."""
        return n_features

    def dtype_out(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype, float32 or float64, of what is made of rows of `dtype`."""
        return dtype

    def feature_names_out(self, names: Names) -> Names:
        """Return the names of the values of a row afterwards, given those before."""
        return names


@dataclass(frozen=True)
class Chain(RowStep):
    """One step after another."""

    steps: tuple[RowStep, ...]

    @property
    def accepts_missing(self) -> bool:
        return self.steps[0].accepts_missing

    @property
    def keeps_sparse(self) -> bool:
        return self.steps[0].keeps_sparse

    def __call__(self, block: Block) -> Block:
        for step in self.steps:
            block = step(block if step.keeps_sparse else block.dense())
        return block

    def n_features_out(self, n_features: int) -> int:
        return reduce(lambda n, step: step.n_features_out(n), self.steps, n_features)

    def dtype_out(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return reduce(lambda before, step: step.dtype_out(before), self.steps, dtype)

    def feature_names_out(self, names: Names) -> Names:
        return reduce(lambda before, step: step.feature_names_out(before), self.steps, names)


def chain(*steps: RowStep) -> RowStep:
    """Return one step that does what all of them do in turn."""
    flat = [s for step in steps for s in (step.steps if isinstance(step, Chain) else (step,))]
    return flat[0] if len(flat) == 1 else Chain(tuple(flat))


def row_of_input(row_id: int) -> str:
    """Say where a row is when only its number is known."""
    return f"row {row_id} of the input"


def apply_step(
    step: RowStep, block: Block, place_of: Callable[[int], str] = row_of_input
) -> Iterator[Block]:
    """Apply a step to a block of any size, a bounded piece at a time, in row order.

    Parameters
    ----------
    step : RowStep
    block : Block
        A block without rows yields one without rows.
    place_of : callable
        Says where the row of a global id is, for messages.

    Raises
    ------
    DataError
        The step refused a row.
    """
    width = step.n_features_out(block.X.shape[1])
    for piece in block.cut(DENSE_CELLS, width) if block.n_rows else (block,):
        try:
            yield step(piece if step.keeps_sparse else piece.dense())
        except BadRow as bad:
            raise DataError(f"{place_of(bad.row_id)}: {bad.problem}") from None


def transformed(step: RowStep, block: Block) -> Block:
    """Return what a step makes of a block, as one block."""
    made = list(apply_step(step, block))
    if len(made) == 1:
        return made[0]
    stack = sp.vstack if made[0].is_sparse else np.concatenate
    return Block(stack([piece.X for piece in made]), block.row_start, block.weights)
