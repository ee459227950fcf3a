"""Stratified samples: every group of rows is there in proportion to its size.

Owns how rows are told apart (by the cells of a coarse clustering, by the values of a
column, or as the user says) and how many of each are drawn: one of every stratum, and the
others in proportion, so all rows are about as likely and keep their weights (W. G.
Cochran, "Sampling Techniques", 1977, chapter 5).
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning

from distclust.cluster.drawing import Drawn, gather_drawn, take_rows
from distclust.cluster.kmeans import KMeans
from distclust.cluster.row_sample import Sample, likely_limit, uniform_sample, weights_of
from distclust.data.blocks import Block, Partition, Source
from distclust.data.manifest import open_manifest
from distclust.data.parquet import ParquetSource
from distclust.engine.shards import Shards
from distclust.engine.threads import map_tiles, n_threads
from distclust.errors import ConfigError, DataError
from distclust.kernels.assign import center_table, nearest_labels
from distclust.kernels.keyed import keyed_uniform
from distclust.kernels.scaling import Frame

__all__ = ["Strata", "allocate", "strata_of", "stratified_sample"]

PILOT_ROWS_PER_CELL = 256
PILOT_STAGES = 1 << 16  # between the pilot sample's drawing and the sample's own
_GROWTH = 4  # of a limit below which too few rows of a stratum are

Values = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class Strata(Protocol):
    """Tells rows apart."""

    def values(self, block: Block) -> Values:
        """Return a number for each row, (n,), equal for rows of one stratum."""


class Cells(NamedTuple):
    """Each row belongs to the nearest of some centers."""

    centers: npt.NDArray[Any]

    def values(self, block: Block) -> Values:
        table = center_table(self.centers, Frame.of_centers(self.centers))
        return nearest_labels(block.X, table)


class Feature(NamedTuple):
    """The values of a feature."""

    column: int

    def values(self, block: Block) -> Values:
        return np.asarray(block.X[:, self.column])


class Given(NamedTuple):
    """Numbers of all rows, by row id."""

    codes: I64

    def values(self, block: Block) -> Values:
        return self.codes[block.row_start : block.row_start + block.n_rows]


def strata_of(
    shards: Shards, source: Source, by: int | str, given: Any, seed: int, stage: int
) -> tuple[Strata, Shards]:
    """Say how to tell rows apart, and which shards hold what that takes.

    Parameters
    ----------
    shards : Shards
    source : Source
        What they hold.
    by : int or str
        How many cells, or the name of a column.
    given : array-like of shape (n_rows,), or None
        The stratum of each row, which comes before `by`.
    seed, stage : int
        Key of the drawing.
    """
    if given is not None:
        values = np.asarray(given)
        if values.shape != (source.n_rows,):
            raise DataError(f"strata has shape {values.shape}, expected ({source.n_rows},)")
        return Given(np.unique(values, return_inverse=True)[1].astype(np.int64)), shards
    if isinstance(by, str):
        return _by_column(shards, source, by)
    pilot = uniform_sample(shards, source, PILOT_ROWS_PER_CELL * by, seed, stage + PILOT_STAGES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than cells
        cells = KMeans(min(by, len(pilot.rows)), random_state=seed, backend="local")
        return Cells(cells.fit(pilot.rows).cluster_centers_), shards


def _by_column(shards: Shards, source: Source, name: str) -> tuple[Strata, Shards]:
    """Find the column among the features or else, for files, beside them."""
    names = source.feature_names or ()
    if name in names:
        return Feature(names.index(name)), shards
    files: Any = source
    while hasattr(files, "source"):  # seen through another source
        files = files.source
    if not isinstance(files, ParquetSource):
        raise ConfigError(
            f"strata={name!r} is none of the features {list(names)}; "
            "pass the stratum of each row to fit(X, strata=...)"
        )
    manifest = files.manifest
    paths, weight = [file.path for file in manifest.files], manifest.selection.weight
    beside = ParquetSource(open_manifest(paths, columns=[name], weight=weight))
    return Feature(0), shards.session.shard(beside, len(shards))


def stratified_sample(
    shards: Shards, source: Source, size: int, seed: int, stage: int, by: int | str, given: Any
) -> Sample:
    """Draw `size` rows in proportion to their strata, at least one of each.

    Parameters are those of `uniform_sample` and `strata_of`.
    """
    strata, beside = strata_of(shards, source, by, given, seed, stage)
    sent = shards.session.broadcast(strata)
    counts: Counter[float] = beside.reduce(count_strata, Counter.__add__, sent, size)
    n_rows = sum(counts.values())
    if n_rows == 0:
        raise DataError("every sample weight is 0; at least one row must weigh something")
    if len(counts) > size:
        raise ConfigError(f"there are {len(counts)} strata; sample_size={size} should be >= that")
    numbers = np.array(sorted(counts))
    sizes = np.array([counts[number] for number in numbers.tolist()])
    wanted = allocate(sizes, min(size, n_rows))
    ids = _first_of_each(beside, sent, numbers, sizes, wanted, seed, stage)
    drawn = gather_drawn(shards, rows_of_ids, shards.session.broadcast(ids))
    return Sample.of(drawn, n_rows, weighted=source.weighted)


def allocate(sizes: I64, total: int) -> I64:
    """Share `total` rows out among strata: one each, the others by largest remainder.

    Parameters
    ----------
    sizes : ndarray of shape (n_strata,), int64
        Positive; they sum to at least `total`.
    total : int
        At least the number of strata.

    Examples
    --------
    >>> allocate(np.array([700, 299, 1]), 11)
    array([7, 3, 1])
    """
    rest, others = total - len(sizes), int(sizes.sum()) - len(sizes)
    if others == 0:
        return np.ones_like(sizes)
    parts = [divmod(rest * (size - 1), others) for size in sizes.tolist()]
    wanted = np.array([1 + whole for whole, _ in parts], dtype=np.int64)
    by_remainder = np.argsort([-remainder for _, remainder in parts], kind="stable")
    wanted[by_remainder[: total - int(wanted.sum())]] += 1
    return wanted


class Early(NamedTuple):
    """Rows whose number of the drawing is below the limit of their stratum."""

    uniform: F64
    row_id: I64
    stratum: I64


def _first_of_each(
    shards: Shards, strata: Any, numbers: Values, sizes: I64, wanted: I64, seed: int, stage: int
) -> I64:
    """Return the ids, ascending, of the first `wanted` rows of each stratum."""
    limits = np.array([likely_limit(*pair) for pair in zip(wanted.tolist(), sizes, strict=True)])
    while True:
        fields: Any = zip(
            *shards.gather(early_ids, strata, numbers, limits, seed, stage), strict=True
        )
        early = Early(*map(np.concatenate, fields))
        short = np.bincount(early.stratum, minlength=len(numbers)) < wanted
        if not short.any():
            break
        limits[short] = np.minimum(limits[short] * _GROWTH, 1.0)
    order = np.lexsort((early.row_id, early.uniform, early.stratum))
    stratum = early.stratum[order]
    rank = np.arange(len(order)) - np.searchsorted(stratum, stratum)
    return np.sort(early.row_id[order[rank < wanted[stratum]]])


# What workers do ------------------------------------------------------------------------


def count_strata(partition: Partition, strata: Strata, most: int) -> Counter[float]:
    """Count the rows of positive weight in each stratum, which should be at most `most`."""
    counts: Counter[float] = Counter()
    for share in partition.shares(1):
        for block, _ in share:
            values = strata.values(block)[weights_of(block) > 0]
            numbers, sizes = np.unique(values, return_counts=True)
            counts.update(dict(zip(numbers.tolist(), sizes.tolist(), strict=True)))
            if len(counts) > most:
                raise ConfigError(
                    f"there are more strata than sample_size={most} rows; a column for strata "
                    "should have few distinct values"
                )
    return counts


def early_ids(
    partition: Partition, strata: Strata, numbers: Values, limits: F64, seed: int, stage: int
) -> Early:
    """Find the rows whose number of the drawing is below the limit of their stratum."""

    def of_block(block: Block) -> Early:
        stratum = np.searchsorted(numbers, strata.values(block))
        stratum = np.minimum(stratum, len(numbers) - 1)  # of rows of weight zero, any
        uniform = keyed_uniform(seed, stage, block.row_start, block.n_rows)
        early = np.flatnonzero((uniform < limits[stratum]) & (weights_of(block) > 0))
        return Early(uniform[early], block.row_start + early, stratum[early])

    shares = partition.shares(n_threads())
    parts = map_tiles(lambda share: [of_block(block) for block, _ in share], shares)
    fields: Any = zip(*(early for part in parts for early in part), strict=True)
    return Early(*map(np.concatenate, fields))


def rows_of_ids(partition: Partition, ids: I64) -> Drawn:
    """Copy the rows of the given ids, ascending, out of the partition."""
    positions = [np.empty(0, dtype=np.int64)]
    first = 0
    for block in partition.blocks:
        here = ids[np.searchsorted(ids, block.row_start) :]
        here = here[: np.searchsorted(here, block.row_start + block.n_rows)]
        positions.append(first + here - block.row_start)
        first += block.n_rows
    where = np.concatenate(positions)
    return take_rows(partition, where, np.zeros(len(where)))
