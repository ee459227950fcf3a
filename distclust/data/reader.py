"""The validating reader: from pieces of Parquet files to blocks of floats.

Owns streaming (memory stays near the result plus one batch, however large a row group
is) and the place in every error: file, row group, column, row. What makes a value bad
is decided by `distclust.data.decode`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from distclust.data.blocks import Block, empty_blocks
from distclust.data.decode import (
    BadValue,
    decode_columns,
    decode_vectors,
    decode_weights,
    is_numeric,
    is_vector,
)
from distclust.data.footer import corrupt, open_parquet
from distclust.data.plan import Piece
from distclust.data.selection import Selection
from distclust.data.storage import Storage
from distclust.data.uri import scrub
from distclust.errors import CorruptFile, DataError

__all__ = ["BATCH_NBYTES", "iter_blocks", "iter_rows", "read_blocks"]

BATCH_NBYTES = 64 << 20
"""Decoded bytes of the largest batch, by default."""

_BATCH_ROWS = 1 << 16  # columns are interleaved batch by batch: stay near the cache
_VALUE_NBYTES = 8  # the widest value Arrow decodes a feature to


def read_blocks(
    selection: Selection,
    pieces: Sequence[Piece],
    *,
    batch_nbytes: int = BATCH_NBYTES,
    storage: Storage | None = None,
) -> list[Block]:
    """Read pieces, one block each.

    Parameters
    ----------
    selection : Selection
    pieces : sequence of Piece
    batch_nbytes : int
        Bytes decoded at a time: what is needed beside the result.
    storage : Storage, optional
        Makes the arrays of the result; in memory unless given.

    Raises
    ------
    DataError
        A value is null, NaN, infinite, not exact, or a vector is ragged; or the file
        changed since it was planned. Names file, row group, column and row.
    CorruptFile
        Bytes do not decode, or fail their checksum.
    """
    storage = storage or Storage()
    blocks = empty_blocks(
        storage,
        [(piece.row_start, piece.length) for piece in pieces],
        selection.n_features,
        selection.dtype,
        weighted=selection.weight is not None,
    )
    for (parquet, piece), block in zip(_open_pieces(pieces), blocks, strict=True):
        start = 0
        for batch in _stream(parquet, piece, selection.feature_file_columns, batch_nbytes):
            stop = start + batch.num_rows
            _decode(parquet, selection, piece, start, batch, block.rows(start, stop))
            storage.release()
            start = stop
    return blocks


def iter_blocks(
    selection: Selection, pieces: Iterable[Piece], *, batch_nbytes: int = BATCH_NBYTES
) -> Iterator[Block]:
    """Like `read_blocks`, yielding blocks of at most `batch_nbytes` as they are decoded."""
    for block, _ in iter_rows(selection, pieces, batch_nbytes=batch_nbytes, ids=False):
        yield block


def iter_rows(
    selection: Selection,
    pieces: Iterable[Piece],
    *,
    batch_nbytes: int = BATCH_NBYTES,
    ids: bool = True,
) -> Iterator[tuple[Block, Any]]:
    """Yield blocks with the id columns of the same rows.

    Yields
    ------
    (Block, pyarrow.RecordBatch)
        The id columns keep their types. A piece without rows yields one empty pair.
    """
    names = selection.feature_file_columns
    if ids:
        names = tuple(dict.fromkeys(names + selection.id_file_columns))
    for parquet, piece in _open_pieces(pieces):
        start = 0
        for batch in _stream(parquet, piece, names, batch_nbytes):
            block = _empty(selection, piece.row_start + start, batch.num_rows)
            _decode(parquet, selection, piece, start, batch, block)
            kept = _id_batch(selection, piece, batch) if ids else None
            yield block, kept
            start += batch.num_rows


def _open_pieces(pieces: Iterable[Piece]) -> Iterator[tuple[Any, Piece]]:
    for path, of_file in itertools.groupby(pieces, key=lambda piece: piece.path):
        with open_parquet(path) as parquet:
            for piece in of_file:
                yield parquet, piece


def _stream(parquet: Any, piece: Piece, names: tuple[str, ...], batch_nbytes: int) -> Iterator[Any]:
    """Yield a piece's rows as record batches, without holding its row group."""
    _check_unchanged(parquet, piece, names)
    if piece.length == 0:
        known = parquet.schema_arrow
        schema = pa.schema([known.field(name) for name in names])
        yield pa.RecordBatch.from_pylist([], schema=schema)
        return
    batches = parquet.iter_batches(
        _batch_rows(parquet, piece, names, batch_nbytes),
        row_groups=[piece.row_group],
        columns=list(names),
        use_threads=False,  # partitions load side by side already
    )
    position, end = 0, piece.offset + piece.length
    while position < end:
        batch = _next_batch(parquet, piece, names, batches)
        first = max(piece.offset - position, 0)
        last = min(batch.num_rows, end - position)
        if first < last:
            yield batch.slice(first, last - first)
        position += batch.num_rows


def _next_batch(parquet: Any, piece: Piece, names: tuple[str, ...], batches: Any) -> Any:
    where = f"row group {piece.row_group}"
    try:
        batch = next(batches, None)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        column = _corrupt_column(parquet, piece, names)
        place = where if column is None else f"{where}, column {column!r}"
        raise corrupt(piece.path, f"{place} does not decode", error) from error
    if batch is None:
        raise CorruptFile(
            f"{scrub(piece.path)}: {where} ends before the rows its footer promises; "
            "the file is damaged, write or copy it again"
        )
    return batch


def _corrupt_column(parquet: Any, piece: Piece, names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            for _ in parquet.iter_batches(
                _BATCH_ROWS, row_groups=[piece.row_group], columns=[name], use_threads=False
            ):
                pass
        except (pa.ArrowException, OSError):
            return name
    return None


def _batch_rows(parquet: Any, piece: Piece, names: tuple[str, ...], batch_nbytes: int) -> int:
    """Rows of a batch, from the number of values: byte sizes in footers say little."""
    group = parquet.metadata.row_group(piece.row_group)
    leaves = (group.column(i) for i in range(group.num_columns))
    n_values = sum(
        leaf.num_values
        for leaf in leaves
        if leaf.path_in_schema.startswith(tuple(f"{name}." for name in names))
        or leaf.path_in_schema in names
    )
    row_nbytes = max(n_values * _VALUE_NBYTES // group.num_rows, 1)
    return int(min(max(batch_nbytes // row_nbytes, 1), _BATCH_ROWS))


def _check_unchanged(parquet: Any, piece: Piece, names: tuple[str, ...]) -> None:
    metadata = parquet.metadata
    known = set(parquet.schema_arrow.names)
    gone = [name for name in names if name not in known]
    if gone:
        raise DataError(
            f"{scrub(piece.path)}: column {gone[0]!r} is gone: "
            "the file changed since it was planned"
        )
    if piece.length and (
        piece.row_group >= metadata.num_row_groups
        or metadata.row_group(piece.row_group).num_rows < piece.offset + piece.length
    ):
        raise DataError(
            f"{scrub(piece.path)}: row group {piece.row_group} lost rows: "
            "the file changed since it was planned"
        )


def _empty(selection: Selection, row_start: int, n_rows: int) -> Block:
    X = np.empty((n_rows, selection.n_features), selection.dtype)
    return Block(X, row_start, np.empty(n_rows) if selection.weight else None)


def _decode(
    parquet: Any,
    selection: Selection,
    piece: Piece,
    start: int,
    batch: Any,
    block: Block,
) -> None:
    """Fill `block` (OUT) from a batch whose first row is `start` of the piece."""
    X, weights = block.X, block.weights
    values = dict(piece.partition_values)
    try:
        if selection.vector is not None:
            vectors = _column(batch, selection.vector, values, is_vector)
            decode_vectors(selection.vector, vectors, X, allowed=selection.allowed)
        else:
            columns = {n: _column(batch, n, values, is_numeric) for n in selection.columns}
            decode_columns(columns, X, allowed=selection.allowed)
        if selection.weight is not None and weights is not None:
            column = _column(batch, selection.weight, values, is_numeric)
            is_constant = selection.weight in values
            weights[:] = column if is_constant else decode_weights(selection.weight, column)
    except BadValue as bad:
        row = piece.offset + start + bad.row + _first_row(parquet, piece.row_group)
        raise DataError(
            f"{scrub(piece.path)}: row group {piece.row_group}, column {bad.column!r}, "
            f"row {row}: {bad.problem}"
        ) from None


def _column(batch: Any, name: str, values: dict[str, Any], accepts: Any) -> Any:
    """Return a column of the batch, or its constant when it is a Hive key."""
    if name in values:
        return values[name]
    column = batch.column(name)
    if not accepts(column.type):
        raise BadValue(name, 0, f"type {column.type}: the file changed since it was planned")
    return column


def _first_row(parquet: Any, row_group: int) -> int:
    return sum(parquet.metadata.row_group(i).num_rows for i in range(row_group))


def _id_batch(selection: Selection, piece: Piece, batch: Any) -> Any:
    values, kinds = dict(piece.partition_values), dict(selection.partition_types)
    fields, columns = [], []
    for name in selection.id_columns:
        if name in kinds:
            fields.append(pa.field(name, pa.type_for_alias(kinds[name])))
            columns.append(pa.repeat(pa.scalar(values[name], fields[-1].type), batch.num_rows))
        else:
            fields.append(batch.schema.field(name))
            columns.append(batch.column(name))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
