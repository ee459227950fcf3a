"""Rows on their way into HDBSCAN, where they are looked at again after fitting."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.data.arrays import ArraySource
from distclust.data.blocks import Partition, Source
from distclust.engine.shards import Session
from distclust.inputs import Input

__all__ = ["dense_rows", "kept_rows"]


def dense_rows(rows: Input) -> tuple[npt.NDArray[Any] | None, Source]:
    """Return all rows, dense, where this process holds them, and as a source."""
    X = rows.in_memory
    if X is None:
        return None, rows.source
    if hasattr(X, "toarray"):
        X = X.toarray()
    return X, ArraySource(X)


def kept_rows(session: Session, source: Source) -> npt.NDArray[Any]:
    """Bring all rows into this process, in order."""
    parts = session.shard(source).gather(_rows_of)
    pieces = sorted((piece for part in parts for piece in part), key=lambda piece: piece[0])
    rows: npt.NDArray[Any] = np.concatenate([rows for _, rows in pieces])
    return rows


def _rows_of(partition: Partition) -> list[tuple[int, npt.NDArray[Any]]]:
    return [(block.row_start, block.dense().X) for block in partition.blocks]
