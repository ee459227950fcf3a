"""From a spanning tree to a flat clustering: pure functions of edges and parameters.

No distance is looked at here, so trying other parameters costs a pass over the edges.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.data.blocks import Block, Partition
from distclust.errors import ConfigError
from distclust.kernels.edges import SpanningTree
from distclust.kernels.flat import (
    FlatClusters,
    flatten,
    outlier_scores,
    persistence,
    row_labels,
    row_probabilities,
)
from distclust.kernels.hierarchy import CondensedTree, condense
from distclust.kernels.selection import Method, select, stabilities
from distclust.kernels.simplify import simplify

__all__ = [
    "COLUMNS",
    "DensityScorer",
    "FlatClustering",
    "Selection",
    "block_labels",
    "cluster",
    "compare",
    "each",
    "validity",
]

F64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]

COLUMNS = ("label", "probability", "outlier_score")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How clusters are chosen; the fields are parameters of `distclust.HDBSCAN`."""

    min_cluster_size: int
    cluster_selection_method: str
    cluster_selection_epsilon: float
    cluster_selection_epsilon_max: float
    cluster_selection_persistence: float
    max_cluster_size: int | None
    allow_single_cluster: bool

    @classmethod
    def of(cls, estimator: Any) -> Selection:
        """Return an estimator's."""
        return cls(**{field.name: getattr(estimator, field.name) for field in fields(cls)})

    def check(self) -> None:
        """Refuse parameters that contradict each other."""
        if self.cluster_selection_epsilon_max < self.cluster_selection_epsilon:
            raise ConfigError(
                f"cluster_selection_epsilon_max={self.cluster_selection_epsilon_max} should be >= "
                f"cluster_selection_epsilon={self.cluster_selection_epsilon}"
            )


class FlatClustering(NamedTuple):
    """Labels of all rows, and what they follow from."""

    tree: CondensedTree
    flat: FlatClusters
    labels: Labels  # (n,)
    probabilities: F64  # (n,)
    persistence: F64  # (k,)


def cluster(edges: SpanningTree, selection: Selection) -> FlatClustering:
    """Condense the tree and choose clusters."""
    return next(each(edges, [selection]))


def each(edges: SpanningTree, selections: Sequence[Selection]) -> Iterator[FlatClustering]:
    """Yield the clustering of each selection; neighbours of one size share a condensed tree."""
    for selection in selections:
        selection.check()

    def condensed(selection: Selection) -> tuple[int, float]:
        return selection.min_cluster_size, selection.cluster_selection_persistence

    reach = edges.weights[np.isfinite(edges.weights)]
    longest = float(reach[-1]) if len(reach) else 0.0
    for (size, threshold), alike in itertools.groupby(selections, condensed):
        tree = condense(edges, size)
        if threshold > 0:
            tree = simplify(tree, threshold)
        stability = stabilities(tree)
        for selection in alike:
            yield _choose(tree, stability, longest, selection)


def compare(edges: SpanningTree, selections: Sequence[Selection]) -> list[dict[str, Any]]:
    """Summarize the clustering of each selection, in their order."""
    together = sorted(
        range(len(selections)),
        key=lambda i: (
            selections[i].min_cluster_size,
            selections[i].cluster_selection_persistence,
        ),
    )
    summaries: list[dict[str, Any]] = [{} for _ in selections]
    for i, found in zip(together, each(edges, [selections[i] for i in together]), strict=True):
        summaries[i] = {
            "n_clusters": len(found.persistence),
            "noise_fraction": float(np.mean(found.labels < 0)),
            "relative_validity": validity(edges, found.labels),
        }
    return summaries


def _choose(
    tree: CondensedTree, stability: F64, longest: float, selection: Selection
) -> FlatClustering:
    epsilon = float(selection.cluster_selection_epsilon)
    chosen, mass = select(
        tree,
        stability,
        longest,
        method=Method(selection.cluster_selection_method),
        allow_single_cluster=selection.allow_single_cluster,
        epsilon=epsilon,
        epsilon_max=float(selection.cluster_selection_epsilon_max),
        max_cluster_size=selection.max_cluster_size or None,
    )
    flat = flatten(tree, chosen, epsilon=epsilon)
    labels = row_labels(flat, tree.row_cluster, tree.row_density)
    probabilities = row_probabilities(flat, labels, tree.row_density)
    return FlatClustering(tree, flat, labels, probabilities, persistence(flat, mass, labels))


def validity(edges: SpanningTree, labels: Labels) -> float:
    """Return how well separated clusters are for their density, in [-1, 1].

    An approximation of DBCV (D. Moulavi et al., "Density-based clustering validation",
    2014) from the spanning tree's edges alone: good for comparing clusterings of the same
    rows, not on its own. A cluster's sparseness is its longest inner edge, its separation
    the shortest edge to another cluster; each counts by its rows, noise counts as zero.
    """
    finite = np.isfinite(edges.weights)
    a, b, weights = labels[edges.u[finite]], labels[edges.v[finite]], edges.weights[finite]
    sizes = np.bincount(labels[labels >= 0])
    if not len(sizes):
        return 0.0
    sparseness, separation = np.zeros(len(sizes)), np.full(len(sizes), np.inf)
    within = (a == b) & (a >= 0)
    np.maximum.at(sparseness, a[within], weights[within])
    between = (a != b) & (a >= 0) & (b >= 0)
    for side in (a, b):
        np.minimum.at(separation, side[between], weights[between])
    bordering = weights[(a >= 0) != (b >= 0)]
    alone = len(sizes) == 1 and len(bordering) > 0
    furthest = bordering[0] if alone else weights[-1] if len(weights) else 0.0
    separation[np.isinf(separation)] = 2 * furthest
    scale = np.maximum(separation, sparseness)
    index = np.divide(separation - sparseness, scale, out=np.zeros(len(sizes)), where=scale > 0)
    return float(np.sum(sizes * index) / len(labels))


class DensityScorer:
    """Computes columns of a block of the rows that were fitted, from their ids.

    Parameters
    ----------
    clustering : FlatClustering
    columns : sequence of str
        Of `COLUMNS`.
    """

    def __init__(self, clustering: FlatClustering, columns: Sequence[str]) -> None:
        unknown = sorted(set(columns) - set(COLUMNS))
        if unknown:
            raise ConfigError(f"output columns {unknown} are unknown; known are {list(COLUMNS)}")
        self.flat = clustering.flat
        self.row_cluster = clustering.tree.row_cluster
        self.row_density = clustering.tree.row_density
        self.columns = tuple(columns)

    def __call__(self, block: Block) -> dict[str, npt.NDArray[Any]]:
        rows = slice(block.row_start, block.row_start + block.n_rows)
        row_cluster, row_density = self.row_cluster[rows], self.row_density[rows]
        labels = row_labels(self.flat, row_cluster, row_density)
        values: dict[str, npt.NDArray[Any]] = {"label": labels}
        if "probability" in self.columns:
            values["probability"] = row_probabilities(self.flat, labels, row_density)
        if "outlier_score" in self.columns:
            values["outlier_score"] = outlier_scores(self.flat, row_cluster, row_density)
        return {name: values[name] for name in self.columns}


def block_labels(partition: Partition, scorer: DensityScorer) -> list[Labels]:
    """Label the rows of a partition: one array a block."""
    return [scorer(block)["label"] for block in partition.blocks]
