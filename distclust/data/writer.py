"""The label writer: one output file for one input file, row for row.

Owns the pass over a file on a worker: read, score, write, hash. What becomes of the
attempt file is the driver's decision, see `distclust.data.commit`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from distclust.data.blocks import Block
from distclust.data.manifest import DataFile
from distclust.data.plan import Piece, file_pieces
from distclust.data.reader import BATCH_NBYTES, iter_rows
from distclust.data.selection import Selection
from distclust.data.store import DurableFile
from distclust.data.uri import join
from distclust.errors import ConfigError

__all__ = ["Scorer", "WrittenFile", "write_labels"]

Scorer = Callable[[Block], Mapping[str, npt.NDArray[Any]]]
"""From a block to named columns of shape (n_rows,); must accept a block of zero rows."""


@dataclass(frozen=True)
class WrittenFile:
    """One attempt at one file's labels.

    Attributes
    ----------
    path : str
        The attempt file.
    file_index : int
        Position of the input file in the manifest.
    stem : str
        Name of the input file without its suffix.
    n_rows, n_bytes : int
    sha256 : str
        Of the bytes as they were written.
    """

    path: str
    file_index: int
    stem: str
    n_rows: int
    n_bytes: int
    sha256: str


def write_labels(
    file: DataFile,
    selection: Selection,
    scorer: Scorer,
    staging_dir: str,
    *,
    batch_nbytes: int = BATCH_NBYTES,
    compression: str = "zstd",
) -> WrittenFile:
    """Score one input file and write its attempt file.

    The output has the input's row order and row groups, the id columns in their own
    types, then the scorer's columns; its pages carry checksums. Memory: one batch of
    features, and the written columns of one row group.

    Parameters
    ----------
    file : DataFile
    selection : Selection
    scorer : callable
        From `Block` to a mapping of column names to arrays of shape (n_rows,).
    staging_dir : str
        Path or URI; made if it does not exist.
    batch_nbytes : int
        Decoded bytes at a time.
    compression : str

    Returns
    -------
    WrittenFile

    Raises
    ------
    DataError, CorruptFile
        As the reader.
    ConfigError
        A scorer's column has the name of an id column.
    OSError
        The file cannot be written; names its path. No attempt file is left behind.
    """
    name = f"{file.index:05d}-{uuid.uuid4().hex}.parquet"
    with DurableFile(join(staging_dir, name)) as sink:
        n_rows = _write(file, selection, scorer, sink, batch_nbytes, compression)
    return WrittenFile(sink.path, file.index, _stem(file), n_rows, sink.n_bytes, sink.sha256)


def _write(
    file: DataFile,
    selection: Selection,
    scorer: Scorer,
    sink: DurableFile,
    batch_nbytes: int,
    compression: str,
) -> int:
    nothing = Piece(file.path, 0, 0, 0, file.row_start, file.partition_values)
    pieces = file_pieces(file) or (nothing,)
    rows = iter_rows(selection, pieces, batch_nbytes=batch_nbytes)
    writer = None
    n_rows = 0
    try:
        for piece in pieces:
            table = _score_row_group(rows, piece.length, scorer)
            writer = writer or pq.ParquetWriter(
                sink, table.schema, compression=compression, write_page_checksum=True
            )
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
            n_rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return n_rows


def _score_row_group(rows: Iterator[tuple[Block, Any]], n_rows: int, scorer: Scorer) -> Any:
    batches: list[Any] = []
    n_scored = 0
    while not batches or n_scored < n_rows:
        block, ids = next(rows)
        batches.append(_label_batch(block, ids, scorer(block)))
        n_scored += block.n_rows
    return pa.Table.from_batches(batches)


def _label_batch(block: Block, ids: Any, scores: Mapping[str, npt.NDArray[Any]]) -> Any:
    names = [*ids.schema.names, *scores]
    if taken := set(ids.schema.names) & set(scores):
        name = min(taken)
        raise ConfigError(f"column {name!r} is an id column and an output column; rename it")
    for name, values in scores.items():
        if values.shape != (block.n_rows,):
            raise ValueError(f"column {name!r} has shape {values.shape}, not ({block.n_rows},)")
    columns = [*ids.columns, *(pa.array(values) for values in scores.values())]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _stem(file: DataFile) -> str:
    return file.path.partition("?")[0].rpartition("/")[2].rpartition(".")[0] or "data"
