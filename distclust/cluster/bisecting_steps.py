"""What bisecting K-Means has workers do: keep the rows of each branch apart, and label rows.

A branch is what some splits have left of the rows. Its rows are copied side by side, so
that a pass over a branch costs what its rows do, and are numbered anew in their order: to
seeding and Lloyd's iterations a branch is a data set like any other, the same on any
partitioning. Branches are discardable caches, computed again from the splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from distclust.cluster.scorer import CenterScorer
from distclust.data.blocks import Block, Partition, Share, empty_blocks
from distclust.engine.threads import map_tiles, n_threads
from distclust.kernels.assign import center_table, nearest_labels, own_sq_distances
from distclust.kernels.exact_sum import exact_sum
from distclust.kernels.scaling import Frame

__all__ = [
    "Branch",
    "Side",
    "Sides",
    "Split",
    "Tree",
    "TreeScorer",
    "branch_rows",
    "label_by_tree",
    "merge_sides",
    "side_sums",
    "tree_block_labels",
]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]


class Split(NamedTuple):
    """Two centers that rows are divided between, and how the rows of each are numbered."""

    centers: npt.NDArray[Any]  # (2, d), the data's dtype
    row_starts: I64  # (m,): of the blocks that are divided, ascending
    new_starts: I64  # (2, m): of what becomes of them on either side

    @classmethod
    def of(cls, centers: npt.NDArray[Any], counts: Sequence[tuple[int, int, int]]) -> Split:
        """Number the rows of each side in their order; `counts` are those of `Sides`."""
        table = np.array(sorted(counts), dtype=np.int64)
        before = np.cumsum(table[:, 1:], axis=0) - table[:, 1:]
        row_starts, first = np.unique(table[:, 0], return_index=True)
        return cls(centers, row_starts, np.ascontiguousarray(before[first].T))


class Side(NamedTuple):
    """One side of a split."""

    split: Split
    number: int


Branch = tuple[Side, ...]
"""The sides that rows are on, of one split after another; of none, all rows."""


class Sides(NamedTuple):
    """How a split divides rows."""

    inertia: tuple[int, int]  # exact sums of w * squared distance, see `exact_sum`
    counts: list[tuple[int, int, int]]  # of each block: first row, and rows on either side


def merge_sides(a: Sides, b: Sides) -> Sides:
    """Sum of both."""
    left, right = (x + y for x, y in zip(a.inertia, b.inertia, strict=True))
    return Sides((left, right), a.counts + b.counts)


def side_sums(partition: Partition, centers: npt.NDArray[Any], frame: Frame) -> Sides:
    """Divide rows between two centers; inertia is as seen through the frame."""
    table = center_table(centers, frame)
    sides = _sides(partition, centers)

    def of_share(share: Share) -> tuple[int, int]:
        left = right = 0
        for block, rows in share:
            sq_dist = own_sq_distances(block.X, table, sides[rows])
            weighted = sq_dist if block.weights is None else sq_dist * block.weights
            left += exact_sum(weighted[sides[rows] == 0])
            right += exact_sum(weighted[sides[rows] == 1])
        return left, right

    found = map_tiles(of_share, partition.shares(n_threads()))
    left, right = (sum(part) for part in zip(*found, strict=True))
    counts, first = [], 0
    for block in partition.blocks:
        after = first + block.n_rows
        n_right = int(sides[first:after].sum())
        counts.append((block.row_start, block.n_rows - n_right, n_right))
        first = after
    return Sides((left, right), counts)


def branch_rows(partition: Partition, branch: Branch) -> Partition | None:
    """Return the rows of a branch, if there are any, for `Shards.viewed`."""
    rows = _rows(partition, branch)
    return rows if rows.n_rows else None


def _rows(partition: Partition, branch: Branch) -> Partition:
    if not branch:
        return partition
    if _key(branch) not in partition.cache:
        *above, (split, _) = branch
        whole = _rows(partition, tuple(above))
        sides = _sides(whole, split.centers)
        for number in (0, 1):
            key = _key((*above, Side(split, number)))
            partition.cache[key] = _side(whole, sides, Side(split, number))
        partition.cache.pop(_key(tuple(above)), None)  # nobody asks for it again
    found: Partition = partition.cache[_key(branch)]
    return found


def _key(branch: Branch) -> str:
    return "branch-" + "".join(str(side.number) for side in branch)


def _sides(partition: Partition, centers: npt.NDArray[Any]) -> I32:
    """Return the nearer of two centers for each row of a partition."""
    table = center_table(centers, Frame.of_centers(centers))
    sides = np.empty(partition.n_rows, dtype=np.int32)

    def of_share(share: Share) -> None:
        for block, rows in share:
            sides[rows] = nearest_labels(block.X, table)

    map_tiles(of_share, partition.shares(n_threads()))
    return sides


def _side(whole: Partition, sides: I32, side: Side) -> Partition:
    """Copy the rows on one side: a block, possibly empty, of each block."""
    ends = np.cumsum([block.n_rows for block in whole.blocks])
    chosen = [np.flatnonzero(part == side.number) for part in np.split(sides, ends[:-1])]
    places = np.searchsorted(side.split.row_starts, [block.row_start for block in whole.blocks])
    starts = side.split.new_starts[side.number, places].tolist()
    if any(block.is_sparse for block in whole.blocks):
        blocks = [
            Block(block.X[which], start, None if block.weights is None else block.weights[which])
            for block, which, start in zip(whole.blocks, chosen, starts, strict=True)
        ]
        return Partition(blocks, storage=whole.storage)
    like, spans = whole.blocks[0], list(zip(starts, map(len, chosen), strict=True))
    blocks = empty_blocks(
        whole.storage, spans, like.X.shape[1], like.X.dtype, weighted=like.weights is not None
    )
    for old, new, which in zip(whole.blocks, blocks, chosen, strict=True):
        np.take(old.X, which, axis=0, out=new.X, mode="clip")  # "raise" would copy it once more
        if old.weights is not None and new.weights is not None:
            np.take(old.weights, which, out=new.weights, mode="clip")
    return Partition(blocks, storage=whole.storage)


# Labels of a whole tree -------------------------------------------------------------------


class Tree(NamedTuple):
    """Splits, each between two centers; the first one is of all rows."""

    pairs: npt.NDArray[Any]  # (n_splits, 2, d), the dtype of the rows
    children: I64  # (n_splits, 2): a cluster if less than their number, else a split beyond it
    centers: npt.NDArray[Any]  # (k, d), the dtype of the rows

    def labels(self, X: npt.NDArray[Any]) -> I32:
        """Follow the nearer center of each split, down to a cluster."""
        labels, k = np.zeros(len(X), dtype=np.int32), len(self.centers)
        ahead = [(0, np.arange(len(X)))] if len(self.pairs) else []
        while ahead:
            number, which = ahead.pop()
            pair = self.pairs[number]
            table = center_table(pair, Frame.of_centers(pair))
            sides = nearest_labels(X[which], table)
            for side, child in enumerate(self.children[number].tolist()):
                there = which[sides == side]
                if child < k:
                    labels[there] = child
                elif len(there):
                    ahead.append((child - k, there))
        return labels


def label_by_tree(partition: Partition, tree: Tree) -> list[tuple[int, I32]]:
    """Label every row: (global id of the first row, labels)."""

    def of_share(share: Share) -> list[tuple[int, I32]]:
        return [(block.row_start, tree.labels(block.X)) for block, _ in share]

    shares = map_tiles(of_share, partition.shares(n_threads()))
    return [pair for pairs in shares for pair in pairs]


class TreeScorer(CenterScorer):
    """Computes ``label`` by a tree, and ``distance`` to the cluster's center."""

    def __init__(self, tree: Tree, columns: tuple[str, ...]) -> None:
        super().__init__(tree.centers, columns)
        self.tree = tree

    def _assign(self, X: npt.NDArray[Any]) -> tuple[I32, F64]:
        labels = self.tree.labels(X)
        return labels, own_sq_distances(X, self._table, labels)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "tree": self.tree}


def tree_block_labels(partition: Partition, tree: Tree) -> list[I32]:
    """Label every row: one array a block, in the order of the partition's blocks."""
    labels = np.concatenate([labels for _, labels in label_by_tree(partition, tree)])
    ends = np.cumsum([block.n_rows for block in partition.blocks])
    return np.split(labels, ends[:-1])
