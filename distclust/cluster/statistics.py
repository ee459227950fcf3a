"""What a fit needs to know of the data before it starts: two passes, exact on any sharding."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from math import frexp
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.cluster.metric import EUCLIDEAN, Euclidean
from distclust.data.blocks import Partition, Share
from distclust.engine.shards import Shards
from distclust.engine.threads import map_tiles, n_threads
from distclust.errors import DataError
from distclust.kernels.scaling import (
    Extremes,
    FixedPoint,
    Frame,
    Moments,
    MomentScale,
    extremes,
    merge_extremes,
    merge_moments,
    moments,
)

__all__ = ["DataStats", "describe"]

F64 = npt.NDArray[np.float64]

_LEAST_REACH = 2.0**-970  # below it, sums of doubles would lose digits to underflow
_OFFSET_BITS = 10  # the offset is a multiple of the half range's power of two over 2**10


@dataclass(frozen=True, kw_only=True, eq=False)
class DataStats:
    """The data at a glance.

    Attributes
    ----------
    n_rows : int
    dtype : dtype
    mean_variance : float
        Mean over features of the variance (unweighted): what `tol` is relative to. As
        seen through the frame, like `scatter`.
    total_weight : float
    scatter : float
        Weighted sum of squared distances to ``rounding.offset``.
    frame : Frame
        Where kernels see the data from.
    rounding : FixedPoint
        How cluster sums are rounded.
    metric : Euclidean
        How the rows, which are as it wants them, become centers.
    """

    n_rows: int
    dtype: np.dtype[Any]
    mean_variance: float
    total_weight: float
    scatter: float
    frame: Frame
    rounding: FixedPoint
    metric: Euclidean = EUCLIDEAN


def describe(
    shards: Shards, dtype: np.dtype[Any], *, weighted: bool, metric: Euclidean = EUCLIDEAN
) -> DataStats:
    """Look at all rows twice: extremes, then moments that cannot overflow."""
    found: Extremes = shards.reduce(partition_extremes, merge_extremes)
    reach = float((found.high / 2 - found.low / 2).max())
    if 0 < reach < _LEAST_REACH:
        raise DataError(
            f"no feature varies by more than {2 * reach:.3g}, which float64 cannot sum without "
            f"losing digits; multiply all values by a power of two, say 2**{-frexp(reach)[1]}"
        )
    if weighted and found.max_weight == 0:
        raise DataError("every sample weight is 0; at least one row must weigh something")
    scale = MomentScale.of(found)
    sums: Moments = shards.reduce(partition_moments, merge_moments, scale)
    return replace(_summarise(found, scale, sums, dtype, weighted=weighted), metric=metric)


def _summarise(
    found: Extremes, scale: MomentScale, sums: Moments, dtype: np.dtype[Any], *, weighted: bool
) -> DataStats:
    mean = sums.plain[0] / scale.one / found.n_rows
    variance = np.maximum(sums.plain[1] / scale.one / found.n_rows - mean * mean, 0.0)
    offset = _near(scale.middle + mean / scale.unit, found, dtype)
    shift = (offset - scale.middle) * scale.unit  # the offset, in units of z
    weight = sums.weight / (scale.one if weighted else 1.0)
    first, second = sums.weighted / scale.one
    about_offset = second - 2 * shift * first + shift * shift * weight
    per_weight = scale.weight_unit if weighted else 1.0
    reach = np.maximum(found.high - offset, offset - found.low)
    longest = float(reach.max())
    diagonal = longest * float(np.sqrt(((reach / longest) ** 2).sum())) if longest > 0 else 0.0
    frame = Frame.around(offset, diagonal)
    seen = (frame.scale / scale.unit) ** 2  # squares of z, seen through the frame
    return DataStats(
        n_rows=found.n_rows,
        dtype=dtype,
        mean_variance=float((variance * seen).mean()),
        total_weight=weight / per_weight,
        scatter=float((about_offset * seen).sum()) / per_weight,
        frame=frame,
        rounding=FixedPoint.around(offset, found, weighted=weighted),
    )


def _near(mean: F64, found: Extremes, dtype: np.dtype[Any]) -> F64:
    """Round the mean to a coarse grid, so that integers minus it stay exact.

    A constant feature's offset is its value.
    """
    half_range = found.high / 2 - found.low / 2
    step = np.ldexp(1.0, np.frexp(half_range)[1] - _OFFSET_BITS)
    grid = np.where(half_range > 0, np.rint(mean / step) * step, found.low)
    return grid.astype(dtype).astype(np.float64)


def partition_extremes(partition: Partition) -> Extremes:
    """Extremes of one partition."""
    shares = map_tiles(_share_extremes, partition.shares(n_threads()))
    return reduce(merge_extremes, shares)


def _share_extremes(share: Share) -> Extremes:
    return reduce(merge_extremes, (extremes(p.block.X, p.block.weights) for p in share))


def partition_moments(partition: Partition, scale: MomentScale) -> Moments:
    """Fixed-point moments of one partition."""

    def of_share(share: Share) -> Moments:
        return reduce(merge_moments, (moments(p.block.X, p.block.weights, scale) for p in share))

    return reduce(merge_moments, map_tiles(of_share, partition.shares(n_threads())))
