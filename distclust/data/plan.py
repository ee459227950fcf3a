"""The shard plan: which rows of a manifest each partition holds.

Owns balance. A pure function of the manifest and the number of partitions; results do
not depend on it, only speed and memory do.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from distclust.data.manifest import DataFile, Manifest, RowGroup
from distclust.data.selection import PartitionValues, Selection
from distclust.data.uri import scrub
from distclust.errors import ConfigError

__all__ = ["Piece", "ShardSpec", "file_pieces", "plan_shards"]

_SPLIT_ABOVE = 1.5  # shares; a slice decodes the rows before it too, so split only for need


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one row group.

    Attributes
    ----------
    path : str
        Opens the file on any machine.
    row_group : int
    offset, length : int
        Rows of the row group: ``offset .. offset + length``.
    row_start : int
        Global id of the first of these rows.
    partition_values : tuple of (str, value)
        Hive keys of the file that the selection uses.
    """

    path: str = field(repr=False)
    row_group: int
    offset: int
    length: int
    row_start: int
    partition_values: PartitionValues = ()


@dataclass(frozen=True)
class ShardSpec:
    """All that a worker needs to build one partition.

    Attributes
    ----------
    selection : Selection
    pieces : tuple of Piece
        In row order.
    """

    selection: Selection
    pieces: tuple[Piece, ...]

    @property
    def n_rows(self) -> int:
        return sum(piece.length for piece in self.pieces)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the partition's blocks."""
        return self.n_rows * self.selection.row_nbytes

    def place_of(self, row_id: int) -> str:
        """Say in which file the row of a global id is, for messages."""
        piece = next(p for p in self.pieces if 0 <= row_id - p.row_start < p.length)
        row = piece.offset + row_id - piece.row_start
        return f"{scrub(piece.path)}: row group {piece.row_group}, row {row} of it"


def plan_shards(manifest: Manifest, n_partitions: int) -> list[ShardSpec]:
    """Split a dataset into at most `n_partitions` shards of about equal decoded bytes.

    Row groups much larger than a share are cut into slices. Pieces are dealt largest
    first to the lightest shard (Graham's LPT rule), then put back in row order.

    Returns
    -------
    list of ShardSpec
        None is empty; together they hold every row once.

    Raises
    ------
    ConfigError
        `n_partitions` is less than one.
    """
    if n_partitions < 1:
        raise ConfigError(f"n_partitions={n_partitions} should be at least 1")
    share = max(-(-manifest.decoded_bytes // n_partitions), 1)
    weighed = [
        (n_bytes, piece)
        for file in manifest.files
        for group in file.row_groups
        for n_bytes, piece in _cut(file, group, share)
    ]
    weighed.sort(key=lambda item: (-item[0], item[1].row_start))
    shards: list[list[Piece]] = [[] for _ in range(min(n_partitions, len(weighed)))]
    lightest = [(0, index) for index in range(len(shards))]
    for n_bytes, piece in weighed:
        load, index = lightest[0]
        shards[index].append(piece)
        heapq.heapreplace(lightest, (load + n_bytes, index))
    for pieces in shards:
        pieces.sort(key=lambda piece: piece.row_start)
    shards.sort(key=lambda pieces: pieces[0].row_start)
    return [ShardSpec(manifest.selection, tuple(pieces)) for pieces in shards]


def file_pieces(file: DataFile) -> tuple[Piece, ...]:
    """Return one piece for each row group of a file, empty ones included."""
    return tuple(
        Piece(file.path, group.row_group, 0, group.n_rows, group.row_start, file.partition_values)
        for group in file.row_groups
    )


def _cut(file: DataFile, group: RowGroup, share: int) -> Iterator[tuple[int, Piece]]:
    """Yield (bytes, piece) for a row group, whole unless it is much more than a share."""
    n_bytes, n_rows = group.decoded_bytes, group.n_rows
    if n_rows == 0:
        return
    n_slices = min(-(-n_bytes // share), n_rows) if n_bytes > _SPLIT_ABOVE * share else 1
    for i in range(n_slices):
        start, stop = i * n_rows // n_slices, (i + 1) * n_rows // n_slices
        yield (
            n_bytes * (stop - start) // n_rows,
            Piece(
                file.path,
                group.row_group,
                start,
                stop - start,
                group.row_start + start,
                file.partition_values,
            ),
        )
