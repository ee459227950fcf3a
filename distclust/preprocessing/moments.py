"""Means and variances of columns from exact sums, which any number of calls may add to.

Sums are integers, so neither the partitioning nor how rows were dealt out to calls can
change a bit of what is rounded from them, once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from distclust.data.blocks import Block
from distclust.data.transformed import RowStream
from distclust.engine.shards import Shards
from distclust.kernels.column_sums import ColumnSums, integers, ratio
from distclust.kernels.weighted_sums import WeightedSums, merge_weighted_sums, weighted_sums
from distclust.preprocessing.base import reduce_blocks
from distclust.preprocessing.statistics import sums

__all__ = ["Moments"]

F64 = npt.NDArray[np.float64]

BITS = 1074  # doubles are integers times 2**-1074


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Sums over rows of each column's values that are not missing.

    Attributes
    ----------
    weights : list of int
        Of the weights, or how many there are, in units of 2**-1074.
    plain : list of int
        Of weight times value, in units of 2**-2148.
    squares : list of int
        Of weight times squared value, in units of 2**-3222.
    counted : bool
        Whether every weight is one.
    """

    weights: list[int]
    plain: list[int]
    squares: list[int]
    counted: bool

    @classmethod
    def of_rows(cls, shards: Shards, *, squares: bool, weighted: bool) -> Self:
        """Sum the rows of `RowStream` shards in one pass; squares unweighted only where asked."""
        if weighted:
            exact: WeightedSums = shards.reduce(_weighted_sums, merge_weighted_sums)
            return cls._of(*exact.integers(), counted=False)
        return cls.of_sums(sums(shards, squares=squares))

    @classmethod
    def of_sums(cls, found: ColumnSums) -> Self:
        """Count each value once."""
        totals = (found.counts.tolist(), integers(found.plain), integers(found.squares))
        return cls._of(*([total << BITS for total in part] for part in totals), counted=True)

    @classmethod
    def of_fitted(cls, n_seen: Any, means: F64, variances: F64, *, counted: bool) -> Self:
        """Return sums that have these means and variances, (d,)."""
        parts: list[tuple[int, int, int]] = []
        for n, mean, variance in zip(
            np.broadcast_to(n_seen, means.shape).tolist(),
            means.tolist(),
            variances.tolist(),
            strict=True,
        ):
            if n == 0:
                parts.append((0, 0, 0))
                continue
            weight, first = _units(n), _units(mean)
            parts.append(
                (weight, weight * first, weight * ((_units(variance) << BITS) + first * first))
            )
        return cls._of(*map(list, zip(*parts, strict=True)), counted=counted)

    @classmethod
    def _of(
        cls, weights: list[int], plain: list[int], squares: list[int], *, counted: bool
    ) -> Self:
        return cls(weights=weights, plain=plain, squares=squares, counted=counted)

    def plus(self, other: Moments) -> Moments:
        """Sum of both."""
        return Moments(
            weights=[a + b for a, b in zip(self.weights, other.weights, strict=True)],
            plain=[a + b for a, b in zip(self.plain, other.plain, strict=True)],
            squares=[a + b for a, b in zip(self.squares, other.squares, strict=True)],
            counted=self.counted and other.counted,
        )

    def totals(self) -> npt.NDArray[Any]:
        """Return how many values there are of each column, int64, or what they weigh, float64."""
        if self.counted:
            return np.array([weight >> BITS for weight in self.weights], dtype=np.int64)
        return np.array([ratio(weight, 1 << BITS) for weight in self.weights])

    def means(self) -> F64:
        """Return the mean of each column, correctly rounded; NaN where all is missing."""
        return self._columns(lambda w, s, _: ratio(s, w << BITS))

    def variances(self) -> F64:
        """Return the population variance of each column, correctly rounded."""
        return self._columns(lambda w, s, q: ratio(q * w - s * s, (w * w) << (2 * BITS)))

    def _columns(self, value: Callable[[int, int, int], float]) -> F64:
        return np.array(list(map(value, self.weights, self.plain, self.squares)))


def _units(value: float) -> int:
    """Return a number in units of 2**-1074."""
    above, below = value.as_integer_ratio()
    return (above << BITS) // below


def _weighted_sums(stream: RowStream) -> WeightedSums:
    def of_block(block: Block) -> WeightedSums:
        return weighted_sums(block.X, np.asarray(block.weights))

    return reduce_blocks(stream, of_block, merge_weighted_sums)
