"""Rows as workers hold them: contiguous blocks that know their global row ids.

A `Partition` is what `Backend.place` makes resident. It is a pure function of its
spec; `Partition.cache` holds only what can be computed again. Where its arrays are, in
memory or on disk, `Partition.storage` knows: passes see a few rows at a time (`Share`), and
what is mapped from disk leaves the process's memory behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from distclust.data.storage import Storage, current_storage
from distclust.data.values import Allowed

__all__ = ["Block", "Partition", "Piece", "Share", "Source", "empty_blocks"]

DENSE_CELLS = 1 << 20  # values of a sparse block that are made dense at a time
PIECE_CELLS = 1 << 22  # values seen at a time
PIECE_ROWS = 1 << 18  # and rows: bounds whatever a pass makes for each
MAPPED_WEIGHT = 64 << 20  # bytes that a partition on disk claims: enough not to be moved lightly

FloatArray = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive rows of the data set.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64, C order
        The rows; possibly read-only. Or a SciPy CSR matrix: kernels see it dense, some
        rows at a time (`Share`).
    row_start : int
        Global id of the first row: rows are numbered in input order.
    weights : ndarray of shape (n_rows,), float64, or None
        Sample weights; None means every weight is one.
    """

    X: Any
    row_start: int
    weights: npt.NDArray[np.float64] | None = None

    @property
    def n_rows(self) -> int:
        return int(self.X.shape[0])

    def rows(self, start: int, stop: int) -> Block:
        """Return a view of some of the rows, counted from the block's first."""
        weights = None if self.weights is None else self.weights[start:stop]
        return Block(self.X[start:stop], self.row_start + start, weights)

    def cut(self, cells: int, n_features: int = 1) -> Iterator[Block]:
        """Yield views of a few rows, each of at most `cells` values if `n_features` wide."""
        width = max(1, n_features, self.X.shape[1])
        step = min(PIECE_ROWS, max(1, cells // width))
        for start in range(0, self.n_rows, step):
            yield self.rows(start, min(start + step, self.n_rows))

    @property
    def is_sparse(self) -> bool:
        return hasattr(self.X, "toarray")

    def dense(self) -> Block:
        """Return this block with its rows as an ndarray."""
        return Block(self.X.toarray(), self.row_start, self.weights) if self.is_sparse else self

    @property
    def nbytes(self) -> int:
        return int(self.X.data.nbytes) + (0 if self.weights is None else int(self.weights.nbytes))


class Piece(NamedTuple):
    """Part of a block, and where its rows are counted from the partition's first."""

    block: Block
    rows: slice


class Share:
    """One thread's rows: iterates over dense pieces of bounded size."""

    def __init__(self, storage: Storage) -> None:
        self.pieces: list[Piece] = []
        self._storage = storage

    def __iter__(self) -> Iterator[Piece]:
        for block, rows in self.pieces:
            cells = DENSE_CELLS if block.is_sparse else PIECE_CELLS
            for piece in block.cut(cells):
                start = rows.start + piece.row_start - block.row_start
                yield Piece(piece.dense(), slice(start, start + piece.n_rows))
                self._storage.release()


@dataclass(eq=False)
class Partition:
    """The blocks one worker keeps for one partition, and its discardable cache.

    Attributes
    ----------
    blocks : list of Block
    cache : dict
    storage : Storage
        Makes arrays as long as the partition's rows; `cache` should hold no others.
    """

    blocks: list[Block]
    cache: dict[str, Any] = field(default_factory=dict)
    storage: Storage = field(default_factory=current_storage)

    @property
    def n_rows(self) -> int:
        return sum(block.n_rows for block in self.blocks)

    @property
    def nbytes(self) -> int:
        return sum(block.nbytes for block in self.blocks)

    def shares(self, n: int) -> list[Share]:
        """Split the rows evenly among at most `n` threads."""
        shares = [Share(self.storage) for _ in range(n)]
        bounds = [self.n_rows * i // n for i in range(n + 1)]
        first = 0
        for block in self.blocks:
            last = first + block.n_rows
            for share, low, high in zip(shares, bounds, bounds[1:], strict=False):
                start, stop = max(first, low), min(last, high)
                if start < stop:
                    share.pieces.append(
                        Piece(block.rows(start - first, stop - first), slice(start, stop))
                    )
            first = last
        return [share for share in shares if share.pieces]

    def __sizeof__(self) -> int:
        """Say what Dask's scheduler weighs a move by, and what it thinks this process holds."""
        return self.nbytes if not self.storage.mapped_bytes else min(self.nbytes, MAPPED_WEIGHT)

    def __getstate__(self) -> dict[str, Any]:
        """A moved partition leaves its cache, and makes its own files if it has any."""
        return {
            "blocks": self.blocks,
            "storage": self.storage,
            "mapped": self.storage.mapped_bytes > 0,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.blocks, self.storage, self.cache = state["blocks"], state["storage"], {}
        if state["mapped"]:
            self.blocks = self._copied()

    def _copied(self) -> list[Block]:
        """Return copies of dense blocks, in arrays of this storage."""
        like, weighted = self.blocks[0].X, self.blocks[0].weights is not None
        spans = [(block.row_start, block.n_rows) for block in self.blocks]
        blocks = empty_blocks(self.storage, spans, like.shape[1], like.dtype, weighted=weighted)
        copy = Partition(blocks, storage=self.storage)
        for from_here, to_there in zip(self.shares(1), copy.shares(1), strict=True):
            for (old, _), (new, _) in zip(from_here, to_there, strict=True):
                new.X[:] = old.X
                if new.weights is not None:
                    new.weights[:] = old.weights
        return blocks


def empty_blocks(
    storage: Storage,
    spans: Sequence[tuple[int, int]],
    n_features: int,
    dtype: np.dtype[Any] | str,
    *,
    weighted: bool,
) -> list[Block]:
    """Make blocks to be filled, one a span of (first row id, rows), next to each other."""
    ends = np.cumsum([n_rows for _, n_rows in spans]).tolist()
    n_rows = ends[-1] if ends else 0
    X = storage.empty((n_rows, n_features), dtype)
    weights = storage.empty(n_rows, np.float64) if weighted else None
    blocks = []
    for (row_start, length), end in zip(spans, ends, strict=True):
        own = None if weights is None else weights[end - length : end]
        blocks.append(Block(X[end - length : end], row_start, own))
    return blocks


class Source(Protocol):
    """Rows that can be split into partitions.

    Attributes
    ----------
    n_rows, n_features : int
    dtype : dtype
        float32 or float64: what the blocks hold.
    feature_names : tuple of str or None
    weighted : bool
        Whether blocks carry sample weights.
    """

    @property
    def n_rows(self) -> int: ...
    @property
    def n_features(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def feature_names(self) -> tuple[str, ...] | None: ...
    @property
    def weighted(self) -> bool: ...

    def plan(self, n_partitions: int) -> Sequence[tuple[Any, ...]]:
        """Arguments of `load`, one tuple a partition; never more than `n_partitions`."""

    def load(self, *args: Any) -> Partition:
        """Build a partition on a worker. This and what follows are static methods."""

    def spans(self, *args: Any) -> list[tuple[int, int]]:
        """First row id and number of rows of each of its blocks; none is empty."""

    def stream(self, *args: Any) -> Iterator[Block]:
        """Yield its rows in order without holding them: bounded pieces of those blocks."""

    def place_of(self, row_id: int, *args: Any) -> str:
        """Say where one of its rows is, for messages."""

    def allowing(self, allowed: Allowed) -> Source:
        """Return the same rows, with other values let through than finite ones."""
