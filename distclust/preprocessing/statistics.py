"""Statistics of columns from passes over streamed rows: exact, whatever the partitioning.

Quantiles are found by radix selection rather than with a mergeable sketch. A sketch's
answer depends on how the rows were split and in which order its parts were merged, so
the same data would give other bits on another cluster; and it is only near the quantile.
Counting takes a few more passes, in bounded memory, and is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.data.blocks import Block
from distclust.data.transformed import RowStream
from distclust.engine.shards import Shards
from distclust.errors import DataError
from distclust.kernels.column_ranks import KEY_BITS, collect_keys, count_keys, floats_of_keys
from distclust.kernels.column_sums import ColumnSums, column_sums, merge_column_sums
from distclust.preprocessing.base import reduce_blocks

__all__ = ["most_frequent", "quantiles", "sums"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

COUNT_BYTES = 8 << 20  # of one pass's counts
MOST_BITS = 12  # that a pass looks at
FEW_VALUES = 1 << 20  # are collected and sorted at last
DISTINCT_VALUES = 1 << 16  # of a column whose mode is asked for


def sums(shards: Shards, missing: float = np.nan, *, squares: bool = True) -> ColumnSums:
    """Sum columns, and their squares, in one pass.

    Parameters
    ----------
    shards : Shards
        Of `RowStream`.
    missing : float
        Besides NaN, the value that counts as missing.
    squares : bool
    """
    found: ColumnSums = shards.reduce(_sums, merge_column_sums, missing, squares)
    return found


def _sums(stream: RowStream, missing: float, squares: bool) -> ColumnSums:
    def of_block(block: Block) -> ColumnSums:
        return column_sums(block.X, missing, squares=squares)

    return reduce_blocks(stream, of_block, merge_column_sums)


class Search(NamedTuple):
    """How far a radix selection is."""

    prefixes: U64  # (d, t): leading bits under which wanted ranks are; unused ones repeat none
    known: int  # how many bits
    place: I64  # (d, r): which prefix each wanted rank is under
    rank: I64  # (d, r): and which it is there, from 0


def quantiles(
    shards: Shards, n_features: int, wanted: tuple[float, ...], missing: float = np.nan
) -> tuple[F64, I64]:
    """Find quantiles of each column, as `numpy.nanquantile` does by its linear method.

    Parameters
    ----------
    shards : Shards
        Of `RowStream`.
    n_features : int
    wanted : tuple of float
        In [0, 1].
    missing : float
        Besides NaN, the value that counts as missing.

    Returns
    -------
    found : ndarray of shape (n_features, len(wanted)), float64
        NaN where all values are missing.
    counts : ndarray of shape (n_features,), int64
        Values that are not missing.
    """
    bits = _bits(n_features, 1)
    nothing = np.zeros((n_features, 1), dtype=np.uint64)
    first: I64 = shards.reduce(_counts, _plus, missing, nothing, 0, bits)
    counts = first.sum(axis=(1, 2))
    position = np.outer(np.maximum(counts - 1, 0), wanted)  # (d, q)
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, np.maximum(counts - 1, 0)[:, np.newaxis])
    ranks = np.concatenate([below, above], axis=1)
    search = Search(nothing, 0, np.zeros_like(ranks), ranks)
    search, most = _narrowed(search, first, bits)
    while search.known < KEY_BITS and most > FEW_VALUES:
        bits = min(_bits(n_features, search.prefixes.shape[1]), KEY_BITS - search.known)
        known: I64 = shards.reduce(_counts, _plus, missing, search.prefixes, search.known, bits)
        search, most = _narrowed(search, known, bits)
    if search.known == KEY_BITS:
        keys = np.take_along_axis(search.prefixes, search.place, axis=1)
    else:
        keys = _selected(shards, missing, search)
    values = floats_of_keys(keys)
    low, high = np.split(values, 2, axis=1)
    found = np.where(below == above, low, _between(low, high, position - below))
    found[counts == 0] = np.nan
    return found, counts


def _bits(n_features: int, prefixes: int) -> int:
    """Return how many bits a pass can look at, so that its counts take bounded memory."""
    return int(np.clip(int(np.log2(COUNT_BYTES / 8 / n_features / prefixes)), 1, MOST_BITS))


def _narrowed(search: Search, counts: I64, bits: int) -> tuple[Search, int]:
    """Follow each wanted rank to the bits that it has; say how many values remain there."""
    d, r = search.rank.shape
    reached = np.cumsum(counts, axis=2)
    keys = np.zeros((d, r), dtype=np.uint64)
    rank = np.zeros_like(search.rank)
    n_below = np.zeros_like(search.rank)
    for j in range(d):
        for i in range(r):
            t = search.place[j, i]
            bucket = int(np.searchsorted(reached[j, t], search.rank[j, i], side="right"))
            bucket = min(bucket, counts.shape[2] - 1)  # of a column without values
            rank[j, i] = search.rank[j, i] - (reached[j, t, bucket - 1] if bucket else 0)
            keys[j, i] = (int(search.prefixes[j, t]) << bits) + bucket
            n_below[j, i] = counts[j, t, bucket]
    distinct = [np.unique(row, return_index=True, return_inverse=True) for row in keys]
    prefixes = np.empty((d, max(len(row[0]) for row in distinct)), dtype=np.uint64)
    place = np.empty_like(search.place)
    remaining = 0
    for j, (row, where, inverse) in enumerate(distinct):
        prefixes[j] = row[-1]  # a repeated prefix counts nothing: the first one takes all
        prefixes[j, : len(row)] = row
        place[j] = inverse
        remaining += int(n_below[j, where].sum())
    return Search(prefixes, search.known + bits, place, rank), remaining


def _selected(shards: Shards, missing: float, search: Search) -> U64:
    """Collect the few values that are left, and return the key of each wanted rank."""
    found: U64 = shards.reduce(_collected, _stacked, missing, search.prefixes, search.known)
    found = found[np.lexsort((found[:, 2], found[:, 1], found[:, 0]))]
    t = search.prefixes.shape[1]
    group = (found[:, 0] * np.uint64(t) + found[:, 1]).astype(np.int64)
    starts = np.searchsorted(group, np.arange(len(search.prefixes) * t))
    wanted = starts.reshape(-1, t)[np.arange(len(search.place))[:, np.newaxis], search.place]
    keys: U64 = np.append(found[:, 2], np.uint64(0))  # for columns without values
    selected: U64 = keys[np.minimum(wanted + search.rank, len(found))]
    return selected


def _between(low: F64, high: F64, part: F64) -> F64:
    """Interpolate; from the nearer end, as NumPy does."""
    with np.errstate(over="ignore", invalid="ignore"):
        gap = high - low
        between: F64 = np.where(part < 0.5, low + gap * part, high - gap * (1 - part))
    return between


def _counts(stream: RowStream, missing: float, prefixes: U64, known: int, bits: int) -> I64:
    def of_block(block: Block) -> I64:
        return count_keys(block.X, missing, prefixes, known, bits)

    return reduce_blocks(stream, of_block, _plus)


def most_frequent(shards: Shards, missing: float, names: Sequence[str]) -> F64:
    """Find the most frequent value of each column, the least of equally frequent ones.

    Parameters
    ----------
    shards : Shards
        Of `RowStream`.
    missing : float
        Besides NaN, the value that counts as missing.
    names : sequence of str
        Of the columns, for the message.

    Returns
    -------
    values : ndarray of shape (n_features,), float64
        NaN where all values are missing.

    Raises
    ------
    DataError
        A column has more than `DISTINCT_VALUES` different values, which are not held.
    """
    merge = partial(_merged, tuple(names))
    found: list[Tally] = shards.reduce(_tallies, merge, missing, tuple(names))
    modes = [
        tally.values[np.argmax(tally.counts)] if len(tally.values) else np.nan for tally in found
    ]
    return np.array(modes)


class Tally(NamedTuple):
    """The different values of a column, ascending, and how often each is there."""

    values: F64
    counts: I64

    def plus(self, other: Tally) -> Tally:
        """Return both together."""
        values, inverse = np.unique(np.append(self.values, other.values), return_inverse=True)
        counts = np.zeros(len(values), dtype=np.int64)
        np.add.at(counts, inverse, np.append(self.counts, other.counts))
        return Tally(values, counts)


def _tallies(stream: RowStream, missing: float, names: Sequence[str]) -> list[Tally]:
    def of_block(block: Block) -> list[Tally]:
        tallies = [_tally(column, missing) for column in block.X.T]
        return [_few(tally, name) for tally, name in zip(tallies, names, strict=True)]

    return reduce_blocks(stream, of_block, partial(_merged, names))


def _tally(column: npt.NDArray[Any], missing: float) -> Tally:
    known = column[(column != missing) & ~np.isnan(column)].astype(np.float64)
    return Tally(*np.unique(known, return_counts=True))


def _few(tally: Tally, name: str) -> Tally:
    if len(tally.values) > DISTINCT_VALUES:
        raise DataError(
            f"feature {name!r} has more than {DISTINCT_VALUES} different values, too many to count "
            "each; use strategy='median' or 'mean' for it"
        )
    return tally


def _merged(names: Sequence[str], a: list[Tally], b: list[Tally]) -> list[Tally]:
    return [_few(one.plus(other), name) for one, other, name in zip(a, b, names, strict=True)]


def _plus(a: I64, b: I64) -> I64:
    return a + b


def _collected(stream: RowStream, missing: float, prefixes: U64, known: int) -> U64:
    def of_block(block: Block) -> U64:
        return collect_keys(block.X, missing, prefixes, known)

    return reduce_blocks(stream, of_block, _stacked)


def _stacked(a: U64, b: U64) -> U64:
    return np.concatenate([a, b])
