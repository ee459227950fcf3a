"""Rows on their way into HDBSCAN, and edges on their way back to row numbers.

A row that is not finite is infinitely far from all others: it takes no part in finding
the spanning tree, and then hangs on it by an infinite edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.data.arrays import ArraySource
from distclust.data.blocks import Partition, Source
from distclust.engine.shards import Session
from distclust.errors import DataError
from distclust.inputs import Input
from distclust.kernels.edges import SpanningTree

__all__ = ["clean_rows", "kept_rows", "spread_edges"]

I64 = npt.NDArray[np.int64]


def clean_rows(rows: Input) -> tuple[npt.NDArray[Any] | None, Source, I64]:
    """Separate the rows that can be clustered.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), or None
        All rows, dense, where this process holds them.
    source : Source
        The finite rows.
    finite : ndarray of shape (source.n_rows,), int64
        Their numbers, ascending.
    """
    X = rows.in_memory
    if X is None:
        return None, rows.source, np.arange(rows.source.n_rows)
    if hasattr(X, "toarray"):
        X = X.toarray()
    finite = np.flatnonzero(np.isfinite(X).all(axis=1))
    if not len(finite):
        raise DataError("no row of X is finite; nothing can be clustered")
    clean = X if len(finite) == len(X) else X[finite]
    return X, ArraySource(clean), finite


def spread_edges(edges: SpanningTree, finite: I64, n_rows: int) -> SpanningTree:
    """Number the rows of edges as they are in the input, and hang on the missing ones."""
    if len(finite) == n_rows:
        return edges
    missing = np.setdiff1d(np.arange(n_rows), finite)
    u = np.minimum(missing, finite[0])
    v = np.maximum(missing, finite[0])
    order = np.lexsort((v, u))
    return SpanningTree(
        np.concatenate([finite[edges.u], u[order]]),
        np.concatenate([finite[edges.v], v[order]]),
        np.concatenate([edges.weights, np.full(len(missing), np.inf)]),
    )


def kept_rows(session: Session, source: Source) -> npt.NDArray[Any]:
    """Bring all rows into this process, in order."""
    parts = session.shard(source).gather(_rows_of)
    pieces = sorted((piece for part in parts for piece in part), key=lambda piece: piece[0])
    rows: npt.NDArray[Any] = np.concatenate([rows for _, rows in pieces])
    return rows


def _rows_of(partition: Partition) -> list[tuple[int, npt.NDArray[Any]]]:
    return [(block.row_start, block.dense().X) for block in partition.blocks]
