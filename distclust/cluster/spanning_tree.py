"""Core distances and the minimum spanning tree of mutual reachability, over any source.

The exact tree, made unique by the total order of `distclust.kernels.edges`: a function of
the rows and their ids alone, whatever the backend and the partitioning.

Sources: R. J. G. B. Campello, D. Moulavi, A. Zimek, J. Sander, "Hierarchical density
estimates for data clustering, visualization, and outlier detection", 2015; L. McInnes,
J. Healy, "Accelerated hierarchical density based clustering", 2017.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.data.blocks import Partition, Source
from distclust.engine.shards import Session
from distclust.engine.threads import map_tiles
from distclust.errors import ConfigError, DataError
from distclust.kernels.edges import SpanningTree, in_total_order
from distclust.kernels.metrics import METRICS
from distclust.kernels.reachability import index_points, least_edges

__all__ = ["MutualReachability", "spanning_tree"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


class MutualReachability(NamedTuple):
    """What a hierarchy of density clusters is made of.

    Distances are the metric's own; those of the tree are divided by alpha.
    """

    tree: SpanningTree
    core_distances: F64  # (n,): to the min_samples-th nearest other row, by row id
    certified: float  # fraction of the edges known to be in the exact tree


def spanning_tree(
    session: Session,
    source: Source,
    *,
    min_samples: int,
    alpha: float = 1.0,
    metric: str = "euclidean",
) -> MutualReachability:
    """Find the minimum spanning tree of mutual reachability.

    Mutual reachability of rows a and b is ``max(core_a, core_b, dist(a, b) / alpha)``.

    Parameters
    ----------
    session : Session
    source : Source
        Rows that are finite numbers; for ``"haversine"``, latitude and longitude in radians.
    min_samples : int
        A row's core distance is that to its `min_samples`-th nearest other row; at most
        the number of other rows is used.
    alpha : float, default=1.0
    metric : {"euclidean", "manhattan", "chebyshev", "cosine", "haversine"}

    Returns
    -------
    MutualReachability

    Raises
    ------
    ConfigError
        Haversine was asked for rows that are not pairs.
    DataError
        There are no rows, or the cosine of a row of zeros was asked for.
    """
    if metric == "haversine" and source.n_features != 2:
        raise ConfigError(
            f"metric='haversine' needs latitude and longitude, the rows have {source.n_features} "
            "features"
        )
    with session.stage("spanning tree"):
        shards = session.shard(source, 1)
        (found,) = shards.gather(_whole_tree, min_samples, alpha, metric)
    result: MutualReachability = found
    return result


def _whole_tree(
    partition: Partition, min_samples: int, alpha: float, name: str
) -> MutualReachability:
    """Do all of it in one place."""
    metric = METRICS[name]
    X, ids = _vectors(partition, name)
    if len(X) == 1:
        nothing = np.empty(0, np.int64)
        return MutualReachability(SpanningTree(nothing, nothing, np.empty(0)), np.zeros(1), 1.0)
    scale = _scale(X) if metric.scalable else 1.0
    X *= scale
    k = min(min_samples, len(X) - 1)
    indexed = index_points(X, k, metric.kernel, map_tiles)
    reduced = np.empty(len(X))
    reduced[indexed.tree.order] = indexed.near.dist[:, k - 1]
    core = metric.distance(reduced)
    # max(core, dist / alpha) is max(core * alpha, dist) / alpha
    if alpha != 1.0:
        reduced = metric.reduced(core * alpha)
    edges = least_edges(X, ids, reduced, indexed, map_tiles)
    weights = metric.distance(edges.weights) / alpha / scale
    by_id = np.empty(len(X))
    by_id[ids] = core / scale
    return MutualReachability(in_total_order(ids[edges.a], ids[edges.b], weights), by_id, 1.0)


def _vectors(partition: Partition, metric: str) -> tuple[F64, I64]:
    """Return the rows as vectors of our own, and their ids."""
    d = partition.blocks[0].X.shape[1]
    rows: npt.NDArray[Any] = np.empty((partition.n_rows, d))
    ids = np.empty(partition.n_rows, np.int64)
    first = 0
    for block in partition.blocks:
        last = first + block.n_rows
        rows[first:last] = block.dense().X
        ids[first:last] = np.arange(block.row_start, block.row_start + block.n_rows)
        first = last
    zeros = np.flatnonzero(~rows.any(axis=1))
    if metric == "cosine" and len(zeros):
        raise DataError(
            f"row {ids[zeros[0]]} is all zeros, which has no direction: drop such rows "
            f"({len(zeros)} of them), or choose a metric other than 'cosine'"
        )
    return METRICS[metric].vectors(rows), ids


def _scale(X: F64) -> float:
    """Return the power of two that keeps squares from overflowing or vanishing."""
    largest = max(float(X.max()), -float(X.min()))
    return float(np.ldexp(1.0, -np.frexp(largest)[1])) if largest > 0 else 1.0
