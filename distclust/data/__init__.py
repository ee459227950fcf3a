"""Rows in, labels out: sources of partitions, and the output of a run.

Reading: `open_manifest` reads Parquet footers, `ParquetSource` plans shards and loads
them on workers, `ArraySource` serves what is in memory already. Writing: `write_labels`
writes one file on a worker, `OutputDir` publishes the files of a run as one commit.
"""

from distclust.data.arrays import ArraySource, as_table_array
from distclust.data.blocks import Block, Partition, Source
from distclust.data.commit import OutputDir, settle
from distclust.data.manifest import DataFile, Manifest, RowGroup, open_manifest
from distclust.data.parquet import ParquetSource
from distclust.data.plan import Piece, ShardSpec, plan_shards
from distclust.data.published import labels_dataset, read_manifest, verify
from distclust.data.reader import iter_blocks, read_blocks
from distclust.data.selection import Selection
from distclust.data.uri import scrub
from distclust.data.writer import WrittenFile, write_labels

__all__ = [
    "ArraySource",
    "Block",
    "DataFile",
    "Manifest",
    "OutputDir",
    "ParquetSource",
    "Partition",
    "Piece",
    "RowGroup",
    "Selection",
    "ShardSpec",
    "Source",
    "WrittenFile",
    "as_table_array",
    "iter_blocks",
    "labels_dataset",
    "open_manifest",
    "plan_shards",
    "read_blocks",
    "read_manifest",
    "scrub",
    "settle",
    "verify",
    "write_labels",
]
