"""Collections that already live on a cluster, as a source of partitions.

A backend hands over the chunks of a Dask array, a Dask dataframe or a Ray Dataset as
`Chunks`: references in row order, and what their rows look like. `CollectionSource`
groups neighbouring chunks into partitions and turns each chunk into a `Block` on the
worker. What a reference is, only the backend knows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from distclust.data.blocks import DENSE_CELLS, Block, Partition
from distclust.data.chunk import as_table, checked_weights, column_array, rows_of, selected
from distclust.data.decode import BadValue, feature_dtype
from distclust.data.values import Allowed
from distclust.errors import DataError

__all__ = [
    "Chunks",
    "CollectionSource",
    "Piece",
    "describe",
    "known_looks",
    "labelled",
    "labels_of",
]

Piece = tuple[Any, int | None]
"""Where the labels of a chunk are: item `index` of what the future of a partition holds."""


@dataclass(frozen=True)
class Look:
    """What `describe` saw of a chunk."""

    n_rows: int
    n_features: int
    dtype: str
    feature_names: tuple[str, ...] | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Chunks:
    """Rows of a native collection.

    Attributes
    ----------
    refs : tuple
        Native references of the chunks, in row order.
    lengths : tuple of int
        Rows of each; possibly zero.
    n_features : int
    dtype : dtype
        float32 if every chunk is, else float64.
    feature_names : tuple of str or None
    columns : tuple of str or None
        Columns of a table to read; None reads all.
    vector : str or None
        The column whose lists are the rows, instead.
    weights : tuple or None
        Native references of the sample weights of each chunk.
    """

    refs: tuple[Any, ...]
    lengths: tuple[int, ...]
    n_features: int
    dtype: np.dtype[Any]
    feature_names: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    vector: str | None = None
    weights: tuple[Any, ...] | None = None

    @classmethod
    def of(
        cls,
        refs: Sequence[Any],
        surveyed: Sequence[Look | DataError],
        columns: Sequence[str] | None = None,
        vector: str | None = None,
    ) -> Chunks:
        """Build from references and what `describe` saw at each."""
        looks = [look for look in surveyed if isinstance(look, Look)]
        for number, error in enumerate(surveyed):
            if isinstance(error, DataError):
                raise DataError(f"chunk {number}: {error}") from error
        filled = [(number, look) for number, look in enumerate(looks) if look.n_rows]
        if not filled:
            raise DataError("the input has no rows; nothing can be clustered")
        start, first = filled[0]
        for number, look in filled:
            if (look.n_features, look.feature_names) != (first.n_features, first.feature_names):
                raise DataError(
                    f"chunk {number} has {look.n_features} features {look.feature_names or ''}, "
                    f"chunk {start} has {first.n_features} {first.feature_names or ''}"
                )
        return cls(
            refs=tuple(refs),
            lengths=tuple(look.n_rows for look in looks),
            n_features=first.n_features,
            dtype=np.result_type(*(look.dtype for _, look in filled)),
            feature_names=first.feature_names,
            columns=None if columns is None else tuple(columns),
            vector=vector,
        )

    def split(self, values: Any) -> list[npt.NDArray[Any]]:
        """Cut an array of one value a row where the chunks are cut."""
        array = np.asarray(values)
        if array.shape != (sum(self.lengths),):
            raise DataError(
                f"sample_weight has shape {array.shape}, expected ({sum(self.lengths)},)"
            )
        return np.split(array, list(accumulate(self.lengths))[:-1])

    def weighted_by(self, refs: Iterable[Any]) -> Chunks:
        """Return these chunks with sample weights, one reference a chunk."""
        weights = tuple(refs)
        if len(weights) != len(self.refs):
            raise DataError(
                f"sample_weight has {len(weights)} chunks, expected {len(self.refs)} as in X"
            )
        return replace(self, weights=weights)


@dataclass(frozen=True)
class Recipe:
    """How to make a partition of the chunks that come with it."""

    numbers: tuple[int, ...]
    row_starts: tuple[int, ...]
    lengths: tuple[int, ...]
    n_features: int
    dtype: np.dtype[Any]
    columns: tuple[str, ...] | None
    vector: str | None
    allowed: Allowed


class CollectionSource:
    """Chunks of a native collection as a `distclust.data.blocks.Source`.

    Parameters
    ----------
    chunks : Chunks
    allowed : Allowed
        Which features are not refused; null counts as NaN.
    """

    def __init__(self, chunks: Chunks, allowed: Allowed = Allowed.FINITE) -> None:
        self.chunks = chunks
        self.allowed = allowed
        self.n_rows = sum(chunks.lengths)
        self.n_features = chunks.n_features
        self.dtype = chunks.dtype
        self.feature_names = chunks.feature_names
        self.weighted = chunks.weights is not None

    def plan(self, n_partitions: int) -> list[tuple[Any, ...]]:
        """Arguments of `load`: a recipe, the chunks, then their weights if there are any."""
        chunks = self.chunks
        starts = [0, *accumulate(chunks.lengths)]
        weights = chunks.weights or ()
        return [
            (
                Recipe(
                    tuple(group),
                    tuple(starts[i] for i in group),
                    tuple(chunks.lengths[i] for i in group),
                    chunks.n_features,
                    chunks.dtype,
                    chunks.columns,
                    chunks.vector,
                    self.allowed,
                ),
                *(chunks.refs[i] for i in group),
                *(weights[i] for i in group if weights),
            )
            for group in self.groups(n_partitions)
        ]

    def groups(self, n_partitions: int) -> list[list[int]]:
        """Numbers of the chunks in each partition; chunks without rows are in none.

        Neighbours are grouped so that the largest partition is as small as it can be.
        Asking again for as many partitions as came out gives the same ones.
        """
        sizes = [(i, rows) for i, rows in enumerate(self.chunks.lengths) if rows]
        low, high = max(rows for _, rows in sizes), self.n_rows
        while low < high:
            middle = (low + high) // 2
            if len(_fill(sizes, middle)) <= n_partitions:
                high = middle
            else:
                low = middle + 1
        return _fill(sizes, low)

    def pieces(self, parts: Sequence[Any]) -> list[Piece]:
        """Say where the labels of each chunk are, given one future a partition.

        Each future holds a list of arrays, one a block of its partition.
        """
        where: list[Piece] = [(None, None)] * len(self.chunks.refs)
        for part, group in zip(parts, self.groups(len(parts)), strict=True):
            for index, number in enumerate(group):
                where[number] = (part, index)
        return where

    @staticmethod
    def load(recipe: Recipe, *values: Any) -> Partition:
        """Turn chunks into blocks, refusing what is not finite."""
        return Partition(list(_blocks(recipe, values)))

    @staticmethod
    def spans(recipe: Recipe, *values: Any) -> list[tuple[int, int]]:
        """Return first row id and number of rows of each chunk."""
        return list(zip(recipe.row_starts, recipe.lengths, strict=True))

    @staticmethod
    def stream(recipe: Recipe, *values: Any) -> Iterator[Block]:
        """Yield the rows of chunks, which are there already, a few at a time."""
        for block in _blocks(recipe, values):
            yield from block.cut(DENSE_CELLS)

    @staticmethod
    def place_of(row_id: int, recipe: Recipe, *values: Any) -> str:
        """Say in which chunk a row is."""
        index = bisect_right(recipe.row_starts, row_id) - 1
        row = row_id - recipe.row_starts[index]
        return f"chunk {recipe.numbers[index]}, row {row} (row {row_id} of the input)"

    def allowing(self, allowed: Allowed) -> CollectionSource:
        """Return the same rows, with other values let through."""
        return CollectionSource(self.chunks, allowed)


def _blocks(recipe: Recipe, values: Sequence[Any]) -> Iterator[Block]:
    """Turn one chunk after another into a block."""
    count = len(recipe.numbers)
    weights = values[count:] or (None,) * count
    for start, chunk, weight in zip(recipe.row_starts, values[:count], weights, strict=True):
        try:
            X = rows_of(
                chunk,
                recipe.n_features,
                recipe.dtype,
                recipe.columns,
                recipe.vector,
                allowed=recipe.allowed,
            )
            yield Block(X, start, checked_weights(weight, len(X)))
        except BadValue as bad:
            place = CollectionSource.place_of(start + bad.row, recipe)
            raise DataError(f"{place}, column {bad.column!r}: {bad.problem}") from None


def describe(chunk: Any, columns: Sequence[str] | None, vector: str | None) -> Look | DataError:
    """Return what a chunk's rows look like, or what is wrong with them."""
    try:
        return _look(chunk, columns, vector)
    except DataError as error:
        return error


def labels_of(index: int | None, part: Sequence[npt.NDArray[Any]] | None) -> npt.NDArray[Any]:
    """Pick a chunk's labels out of its partition's; a chunk without rows has none."""
    return np.empty(0, np.int32) if part is None or index is None else part[index]


def labelled(
    chunk: Any, name: str, index: int | None, part: Sequence[npt.NDArray[Any]] | None
) -> Any:
    """Return a table chunk as an Arrow table with its labels as the column `name`."""
    table = as_table(chunk)
    if name in table.column_names:
        raise DataError(f"the input already has a column {name!r}; rename or drop it first")
    return table.append_column(name, pa.array(labels_of(index, part)))


def _look(chunk: Any, columns: Sequence[str] | None, vector: str | None) -> Look:
    """Look at a chunk; of lists, the first says how long they are."""
    if isinstance(chunk, np.ndarray):
        if chunk.ndim != 2 or chunk.dtype.kind not in "fiub":
            raise DataError(
                f"X is {chunk.dtype} in {chunk.ndim} dimensions, expected real numbers in 2 "
                "(rows, features)"
            )
        small = chunk.dtype in (np.float16, np.float32)
        return Look(len(chunk), chunk.shape[1], "float32" if small else "float64", None)
    table, vector = selected(chunk, columns, vector)
    dtype = feature_dtype(table.schema.types)
    if vector is None:
        return Look(table.num_rows, table.num_columns, dtype, tuple(table.column_names))
    widths = pc.list_value_length(column_array(table.slice(0, 1), vector)).to_pylist()
    return Look(table.num_rows, next(iter(widths), None) or 0, dtype, None)


def known_looks(X: Any) -> list[Look] | None:
    """Return what `describe` would see, of a collection that says so itself: an array of floats."""
    chunks: Any = getattr(X, "chunks", ())
    if len(chunks) != 2 or X.dtype.name not in ("float32", "float64") or np.isnan(chunks[0]).any():
        return None
    return [Look(rows, X.shape[1], X.dtype.name, None) for rows in chunks[0]]


def _fill(sizes: Iterable[tuple[int, int]], capacity: int) -> list[list[int]]:
    """Group neighbours, beginning a group when the next would exceed `capacity` rows."""
    groups: list[list[int]] = []
    room = 0
    for number, rows in sizes:
        if rows > room:
            groups.append([])
            room = capacity
        groups[-1].append(number)
        room -= rows
    return groups
