"""Core distances and the minimum spanning tree of mutual reachability, over any source.

The exact tree, made unique by the total order of `distclust.kernels.edges`: a function of
the rows and their ids alone, whatever the backend and the partitioning.

One partition is solved where it is. More are regrouped into cells of space
(`distclust.cluster.cells`), whose own trees (`fragments`) are then connected
(`components`). This process holds a core distance a row and the edges of the tree; rows
go from worker to worker.

Sources: R. J. G. B. Campello, D. Moulavi, A. Zimek, J. Sander, "Hierarchical density
estimates for data clustering, visualization, and outlier detection", 2015; L. McInnes,
J. Healy, "Accelerated hierarchical density based clustering", 2017.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.cluster.cells import (
    Cell,
    Look,
    build_cell,
    cell_box,
    core_answers,
    core_distances,
    core_questions,
    largest_value,
    look_at,
    merge_looks,
    rows_of_cell,
    unusable_rows,
    vectors,
)
from distclust.cluster.components import connect
from distclust.cluster.fragments import (
    Cells,
    fragment_labels,
    grow_forest,
    join_tables,
    kept_edges,
)
from distclust.data.blocks import Partition, Source
from distclust.engine.protocol import Backend
from distclust.engine.shards import (
    Each,
    Session,
    Shards,
    one_uses_all,
    partitions_for,
    threads_here,
)
from distclust.engine.threads import map_tiles, worker_threads
from distclust.errors import ConfigError, DataError
from distclust.kernels.arrays import taken
from distclust.kernels.edges import SpanningTree, in_total_order
from distclust.kernels.metrics import METRICS, Metric
from distclust.kernels.partitioning import Boxes, cut
from distclust.kernels.reachability import index_points, least_edges

__all__ = ["MutualReachability", "spanning_tree"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

SAMPLE = 50_000  # rows that cells are cut by
_NO_EDGES = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
MIN_ROWS_PER_CELL = 20_000  # unless asked for: fewer are not worth the messages


class MutualReachability(NamedTuple):
    """What a hierarchy of density clusters is made of.

    Distances are the metric's own; those of the tree are divided by alpha.
    """

    tree: SpanningTree
    core_distances: F64  # (n,): to the min_samples-th nearest other row, by row id
    certified: float  # fraction of the finite edges known to be in the exact tree
    min_samples: int  # the number used


def spanning_tree(
    session: Session,
    source: Source,
    *,
    min_samples: int,
    alpha: float = 1.0,
    metric: str = "euclidean",
    mode: Literal["exact", "approximate"] = "exact",
    n_partitions: int | None = None,
) -> MutualReachability:
    """Find the minimum spanning tree of mutual reachability.

    Mutual reachability of rows a and b is ``max(core_a, core_b, dist(a, b) / alpha)``. Rows
    that have NaN or infinity are infinitely far from all others, and hang on the first that
    has not.

    Parameters
    ----------
    session : Session
    source : Source
        For ``"haversine"``, latitude and longitude in radians.
    min_samples : int
        A row's core distance is that to its `min_samples`-th nearest other row; at most
        the number of other finite rows is used, and at least one.
    alpha : float, default=1.0
    metric : {"euclidean", "manhattan", "chebyshev", "cosine", "haversine"}
    mode : {"exact", "approximate"}
        ``"approximate"`` searches for the first edges between partitions in two rounds
        only, and connects what is left by true edges that need not be the first. With
        one partition both are the same.
    n_partitions : int, optional
        Cells of space to work on, at most; unless given, one in a single process, and as
        many on a cluster as keep its workers busy and their memory bounded.

    Returns
    -------
    MutualReachability

    Raises
    ------
    ConfigError
        Haversine was asked for rows that are not pairs.
    DataError
        No row is finite, or the cosine of a row of zeros was asked for.
    """
    if metric == "haversine" and source.n_features != 2:
        raise ConfigError(
            f"metric='haversine' needs latitude and longitude, the rows have {source.n_features} "
            "features"
        )
    k = max(1, min(min_samples, source.n_rows - 1))
    shards = session.shard(source, n_partitions or _enough_cells(session.backend, source, k))
    unusable = np.concatenate(shards.gather(unusable_rows))
    n_finite = source.n_rows - len(unusable)
    if n_finite == 0:
        raise DataError("no row of X is finite; nothing can be clustered")
    k = max(1, min(k, n_finite - 1))
    if n_finite == 1:
        core = np.zeros(source.n_rows)
        found = MutualReachability(in_total_order(*_NO_EDGES, map_tiles), core, 1.0, k)
    elif len(shards) == 1:
        with session.stage("spanning tree"):
            (found,) = shards.gather(_whole_tree, k, alpha, metric)
    else:
        found = _from_cells(shards, source.n_rows, n_finite, k, alpha, metric, mode)
    return _with_unusable(found, np.sort(unusable)) if len(unusable) else found


def _with_unusable(found: MutualReachability, unusable: I64) -> MutualReachability:
    """Hang rows that are not finite, given by ascending ids, on the first one that is."""
    tree, core = found.tree, found.core_distances.copy()  # what was sent may be read-only
    gaps = np.flatnonzero(unusable != np.arange(len(unusable)))
    first = gaps[0] if len(gaps) else len(unusable)
    core[unusable] = np.inf
    far = np.full(len(unusable), np.inf)
    hung = in_total_order(unusable, np.full(len(unusable), first), far, map_tiles)
    both = SpanningTree(
        np.concatenate([tree.u, hung.u]),
        np.concatenate([tree.v, hung.v]),
        np.concatenate([tree.weights, hung.weights]),
    )
    return found._replace(tree=both, core_distances=core)


def _enough_cells(backend: Backend, source: Source, k: int) -> int:
    """Choose one cell where that can use all threads, or for few rows; else as they fit."""
    if one_uses_all(backend):
        return 1
    row_nbytes = 28 * source.n_features + 12 * k + 160  # rows, their tree, neighbour lists, search
    wanted = partitions_for(source.n_rows, row_nbytes, backend.slots)
    return max(1, min(wanted, source.n_rows // MIN_ROWS_PER_CELL))


def _whole_tree(partition: Partition, k: int, alpha: float, name: str) -> MutualReachability:
    """Do all of it in one place."""
    metric = METRICS[name]
    X, ids = vectors(partition, name)
    scale = metric.scale(largest_value(X))
    X *= scale
    skipped = k - 1 if alpha >= 1 else 0
    indexed = index_points(X, k, metric.kernel, map_tiles, skipped)
    core = np.empty(len(X))
    core[indexed.tree.order] = indexed.near.dist[:, k - 1 - skipped]
    edges = least_edges(X, ids, stretched(core, metric, alpha), indexed, map_tiles)
    weights = _in_units(edges.weights, metric, alpha, scale)
    by_id = np.empty(partition.n_rows)
    by_id[ids] = metric.distance(core) / scale
    u, v = taken(ids, edges.a, map_tiles), taken(ids, edges.b, map_tiles)
    tree = in_total_order(u, v, weights, map_tiles)
    return MutualReachability(tree, by_id, 1.0, k)


def _in_units(reduced: F64, metric: Metric, alpha: float, scale: float) -> F64:
    """Return the weights of edges as they are told, from reduced ones (INOUT)."""
    weights = metric.distance(reduced)
    weights /= alpha
    weights /= scale
    return weights


def stretched(core: F64, metric: Metric, alpha: float) -> F64:
    """Return reduced core distances times alpha.

    So that ``max(core, dist / alpha)`` is ``max(core * alpha, dist) / alpha``, and searches
    need not know of alpha. Never below what it was if alpha is above one, whatever the
    rounding: distances up to that may have been left out of neighbour lists.
    """
    if alpha == 1.0:
        return core
    reach = metric.reduced(metric.distance(core) * alpha)
    return np.maximum(core, reach) if alpha > 1 else reach


def _from_cells(
    shards: Shards, n_rows: int, n_finite: int, k: int, alpha: float, name: str, mode: str
) -> MutualReachability:
    """Do it by cells of space."""
    session, metric = shards.session, METRICS[name]
    with session.stage("partitioning"):
        cells, boxes, scale = _regroup(shards, n_finite, name)
    sent = session.broadcast(boxes)
    with session.stage("core distances"):
        questions = cells.remote(core_questions, k, metric.kernel, sent)
        answers = cells.remote(core_answers, k, metric.kernel, sent, *questions)
        cores = cells.remote(core_distances, k, metric.kernel, sent, *answers)
        by_id = np.empty(n_rows)
        for _, (ids, core) in cells.map(_with_ids, Each(cores)):
            by_id[ids] = metric.distance(core) / scale
        for remote in questions + answers:
            remote.forget()
    with session.stage("trees of partitions"):
        reach = cells.remote(_stretch, name, alpha, Each(cores))
        forests = cells.remote(grow_forest, k, metric.kernel, sent, Each(reach))
        kept = cells.gather(kept_edges, Each(forests))
        labels = cells.remote(fragment_labels, Each(forests))
        least_core = np.array(cells.gather(_least, Each(reach)))
        cells.gather(_nothing, Each(labels))
        for remote in forests:
            remote.forget()
    first = np.concatenate([[0], np.cumsum([each.n_fragments for each in kept])])
    shared = Cells(boxes, first, metric.kernel)
    between = join_tables(
        [
            edges._replace(fragment_u=edges.fragment_u + start, fragment_v=edges.fragment_v + start)
            for edges, start in zip((each.between for each in kept), first, strict=False)
        ]
    )
    with session.stage("edges between partitions"):
        rest, certified = connect(
            cells, shared, Each(reach), Each(labels), between, least_core, exact=mode == "exact"
        )
    parts = [each.certified for each in kept] + [rest[:3]]
    u, v, reduced = (np.concatenate(column) for column in zip(*parts, strict=True))
    with worker_threads(threads_here(session.backend)):
        tree = in_total_order(u, v, _in_units(reduced, metric, alpha, scale), map_tiles)
    missed = len(rest.u) - certified
    return MutualReachability(tree, by_id, 1.0 - missed / (n_finite - 1), k)


def _regroup(shards: Shards, n_finite: int, name: str) -> tuple[Shards, Boxes, float]:
    """Cut space by a sample of the rows, and bring each cell's rows together.

    No cell is empty: each has rows of the sample.
    """
    rate = SAMPLE / n_finite
    look: Look = shards.reduce(look_at, merge_looks, name, rate)
    scale = METRICS[name].scale(look.largest)
    cuts = cut(look.sample.X * scale, len(shards))
    cells = shards.regroup(cuts.n_cells, rows_of_cell, build_cell, name, scale, cuts)
    low, high = map(np.array, zip(*cells.gather(cell_box), strict=True))
    return cells, Boxes(low, high), scale


def _with_ids(cell: Cell, core: F64) -> tuple[I64, F64]:
    return cell.rows.ids, core


def _stretch(cell: Cell, name: str, alpha: float, core: F64) -> F64:
    return stretched(core, METRICS[name], alpha)


def _least(cell: Cell, core: F64) -> float:
    return float(core.min())


def _nothing(cell: Cell, labels: object) -> None:
    """Have the labels computed."""
