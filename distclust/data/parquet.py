"""Parquet datasets as a source of partitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from distclust.data.blocks import Block, Partition
from distclust.data.manifest import DataFile, Manifest
from distclust.data.plan import ShardSpec, file_pieces, plan_shards
from distclust.data.reader import BATCH_NBYTES, iter_blocks, read_blocks
from distclust.data.storage import current_storage
from distclust.data.values import Allowed

__all__ = ["ParquetSource"]


class ParquetSource:
    """The rows of a Parquet dataset, in manifest order.

    Parameters
    ----------
    manifest : Manifest
        From `distclust.data.open_manifest`.
    """

    home = "files"

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest

    @property
    def n_rows(self) -> int:
        return self.manifest.n_rows

    @property
    def n_features(self) -> int:
        return self.manifest.n_features

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.manifest.dtype

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        return self.manifest.feature_names

    @property
    def weighted(self) -> bool:
        return self.manifest.selection.weight is not None

    def plan(self, n_partitions: int) -> list[tuple[ShardSpec]]:
        """Return the arguments of `load`, one shard spec a partition."""
        return [(spec,) for spec in plan_shards(self.manifest, n_partitions)]

    @staticmethod
    def load(spec: ShardSpec) -> Partition:
        """Read a shard, on a worker: to memory, or to its scratch disk beyond its limit.

        Raises
        ------
        DataError
            A value cannot be clustered; names file, row group, column and row.
        CorruptFile
            Bytes do not decode.
        """
        storage = current_storage()
        blocks = read_blocks(spec.selection, spec.pieces, storage=storage)
        return Partition(blocks, storage=storage)

    @staticmethod
    def spans(spec: ShardSpec) -> list[tuple[int, int]]:
        """Return first row id and number of rows of each piece."""
        return [(piece.row_start, piece.length) for piece in spec.pieces]

    @staticmethod
    def stream(spec: ShardSpec) -> Iterator[Block]:
        """Yield a shard's rows as they are decoded."""
        return iter_blocks(spec.selection, spec.pieces)

    @staticmethod
    def place_of(row_id: int, spec: ShardSpec) -> str:
        """Say in which file and row group a row is."""
        return spec.place_of(row_id)

    def allowing(self, allowed: Allowed) -> ParquetSource:
        """Return the same rows, with other values let through."""
        selection = replace(self.manifest.selection, allowed=allowed)
        return ParquetSource(replace(self.manifest, selection=selection))

    def iter_file(self, file: DataFile, *, batch_nbytes: int = BATCH_NBYTES) -> Iterator[Block]:
        """Yield the rows of one file, in order, in blocks of at most `batch_nbytes`."""
        pieces = (piece for piece in file_pieces(file) if piece.length)
        yield from iter_blocks(self.manifest.selection, pieces, batch_nbytes=batch_nbytes)
