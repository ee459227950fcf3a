"""Rows as a step makes them, and passes over rows that are never held.

`TransformedRows` is a source like any other: its partitions are made on the workers by
streaming the rows of another source through a step, so that only what comes out is ever
resident. `Streamed` is for passes that merge: fitting a step takes only a few, and holds
nothing between them::

    shards = session.shard(Streamed(source), n_partitions)
    found = shards.reduce(look, merge)              # look(stream: RowStream) on the workers

Steps compose: ``TransformedRows(TransformedRows(source, a), b)`` reads `source` once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain as concatenated
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from distclust.data.blocks import Block, Partition, Source, empty_blocks
from distclust.data.steps import RowStep, apply_step, chain
from distclust.data.storage import current_storage
from distclust.data.values import Allowed
from distclust.errors import DataError

__all__ = ["RowStream", "Streamed", "TransformedRows"]


@dataclass(frozen=True)
class Recipe:
    """How partitions are made; the other source's own arguments come with it."""

    kind: type[Source]
    step: RowStep
    n_features: int
    dtype: np.dtype[Any]
    feature_names: tuple[str, ...] | None
    weighted: bool
    allowed: Allowed

    def applied(self, rows: Iterable[Block], args: Sequence[Any]) -> Iterator[Block]:
        """Yield what the step makes of raw blocks, as bounded blocks."""
        place_of = partial(place, self.kind, args)
        for raw in rows:
            for made in apply_step(self.step, raw, place_of):
                self._check(made, place_of)
                yield made

    def _check(self, made: Block, place_of: Callable[[int], str]) -> None:
        """Refuse what cannot be clustered."""
        X = made.X.data if made.is_sparse else made.X
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(X.sum()):  # far sooner seen than that each value is finite
                return
        if self.allowed.good(X).all():
            return
        dense = made.dense().X
        row, column = np.argwhere(~self.allowed.good(dense))[0]
        name = self.feature_names[column] if self.feature_names else str(column)
        raise DataError(
            f"{place_of(made.row_start + int(row))}, feature {name!r}: the value is "
            f"{dense[row, column]} after preprocessing; impute missing values first, or drop "
            "or rescale such rows"
        )


def place(kind: type[Source], args: Sequence[Any], row_id: int) -> str:
    """Say where a row of one of a source's partitions is."""
    told: Any = kind.place_of
    return str(told(row_id, *args))


class TransformedRows:
    """The rows of another source, as a step makes them.

    Parameters
    ----------
    source : Source
        Possibly itself of this kind.
    step : RowStep
    allowed : Allowed
        What may come out; anything else is an error that names the row.
    home : {"memory", "files", "dask", "ray"}
        Where the raw rows are: where ``backend="auto"`` runs.
    """

    source: Source
    step: RowStep

    def __init__(
        self,
        source: Source,
        step: RowStep,
        *,
        allowed: Allowed = Allowed.FINITE,
        home: str = "memory",
    ) -> None:
        self.home = home
        if isinstance(source, TransformedRows):
            self.home, step = source.home, chain(source.step, step)
            source = source.source
        self.source = source.allowing(Allowed.MISSING) if step.accepts_missing else source
        self.step = step
        self.allowed = allowed
        self.n_rows = source.n_rows
        self.n_features = step.n_features_out(source.n_features)
        self.dtype: np.dtype[Any] = step.dtype_out(source.dtype)
        self.feature_names = step.feature_names_out(source.feature_names)
        self.weighted = source.weighted

    def plan(self, n_partitions: int) -> list[tuple[Any, ...]]:
        """Return the arguments of `load`: a recipe, and the other source's arguments."""
        recipe = Recipe(
            type(self.source),
            self.step,
            self.n_features,
            self.dtype,
            self.feature_names,
            self.weighted,
            self.allowed,
        )
        return [(recipe, *args) for args in self.source.plan(n_partitions)]

    @staticmethod
    def load(recipe: Recipe, *args: Any) -> Partition:
        """Make a partition of streamed rows.

        Raises
        ------
        DataError
            The source or the step refuses a row, or a value that comes out is not finite.
            Names the row, and for files where it is.
        """
        storage = current_storage()
        spans = TransformedRows.spans(recipe, *args)
        made = TransformedRows.stream(recipe, *args)
        first = next(made)
        made = concatenated([first], made)
        if first.is_sparse:
            return Partition(list(_sparse_blocks(spans, made)), storage=storage)
        blocks = empty_blocks(
            storage, spans, recipe.n_features, recipe.dtype, weighted=recipe.weighted
        )
        for block, piece in _within(blocks, made):
            to = block.rows(start := piece.row_start - block.row_start, start + piece.n_rows)
            to.X[:] = piece.X
            if to.weights is not None:
                to.weights[:] = piece.weights
            storage.release()
        return Partition(blocks, storage=storage)

    @staticmethod
    def spans(recipe: Recipe, *args: Any) -> list[tuple[int, int]]:
        """Return those of the other source."""
        spans: Any = recipe.kind.spans
        return list(spans(*args))

    @staticmethod
    def stream(recipe: Recipe, *args: Any) -> Iterator[Block]:
        """Yield what the step makes of the other source's stream."""
        raw: Any = recipe.kind.stream
        return recipe.applied(raw(*args), args)

    @staticmethod
    def place_of(row_id: int, recipe: Recipe, *args: Any) -> str:
        """Say where the raw row is."""
        return place(recipe.kind, args, row_id)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and values of a row."""
        return self.n_rows, self.n_features

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all rows in this process: what estimators that are not ours ask for.

        Raises
        ------
        DataError
            The raw rows live on a cluster; or as `load`.
        """
        if self.home in ("dask", "ray"):
            raise DataError(f"these rows live on a {self.home} cluster, not in this process")
        rows = np.empty(self.shape, dtype or self.dtype)
        for args in self.plan(1):
            for block in self.stream(*args):
                rows[block.row_start : block.row_start + block.n_rows] = block.dense().X
        return rows

    def allowing(self, allowed: Allowed) -> TransformedRows:
        """Return the same rows, with other values let through."""
        return TransformedRows(self.source, self.step, allowed=allowed, home=self.home)


def _within(blocks: Sequence[Block], pieces: Iterable[Block]) -> Iterator[tuple[Block, Block]]:
    """Pair each piece with the block that its rows are of; both are in order."""
    remaining = iter(blocks)
    block = next(remaining)
    for piece in pieces:
        while not 0 <= piece.row_start - block.row_start < block.n_rows:
            block = next(remaining)
        yield block, piece


def _sparse_blocks(spans: Sequence[tuple[int, int]], pieces: Iterator[Block]) -> Iterator[Block]:
    for row_start, n_rows in spans:
        parts: list[Block] = []
        while sum(part.n_rows for part in parts) < n_rows:
            parts.append(next(pieces))
        weights = [part.weights for part in parts if part.weights is not None]
        X = sp.vstack([part.X for part in parts], format="csr")
        yield Block(X, row_start, np.concatenate(weights) if weights else None)


class Streamed:
    """Any source, for passes that hold no rows: resident is a `RowStream`.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def plan(self, n_partitions: int) -> list[tuple[Any, ...]]:
        """Return the arguments of `load`: the other source's kind, and its arguments."""
        kind = type(self.source)
        return [(kind, *args) for args in self.source.plan(n_partitions)]

    @staticmethod
    def load(kind: type[Source], *args: Any) -> RowStream:
        """Keep how to read the rows; read nothing."""
        return RowStream(kind, args)


class RowStream:
    """The rows of a partition, read anew by each pass: a recipe, never the rows.

    Parameters
    ----------
    kind : type
        Of the source.
    args : sequence
        Arguments of its static methods.
    """

    def __init__(self, kind: type[Source], args: Sequence[Any]) -> None:
        self.kind, self.args = kind, tuple(args)

    def __iter__(self) -> Iterator[Block]:
        return self.shares(1)[0]

    def __sizeof__(self) -> int:
        """Say what Dask's scheduler weighs a move by: what rows are here already."""
        return sum(getattr(arg, "nbytes", 0) for arg in self.args)

    def shares(self, n: int) -> list[Iterator[Block]]:
        """Return one iterator for each of `n` threads, over bounded dense or sparse blocks.

        Raw rows are read by whichever thread needs some next, one at a time; steps are
        applied by the threads side by side. So which rows are in which share is different
        each time: what is made of them has to merge in any order.
        """
        if self.kind is not TransformedRows:
            stream: Any = self.kind.stream
            return [_Turns(stream(*self.args))] * n
        recipe, *args = self.args
        raw = _Turns(recipe.kind.stream(*args))
        return [recipe.applied(raw, args) for _ in range(n)]


class _Turns:
    """An iterator that threads share, taking turns."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks, self._lock = blocks, threading.Lock()

    def __iter__(self) -> Iterator[Block]:
        return self

    def __next__(self) -> Block:
        with self._lock:
            return next(self._blocks)
