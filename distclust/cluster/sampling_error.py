"""How much a sample misleads: its inertia beside that of all rows, and a second sample's labels.

All sums are exact, so they are the same on any sharding.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from distclust.cluster.assigners import AssignmentScorer, Centers
from distclust.cluster.row_sample import Sample, weights_of
from distclust.data.blocks import Block, Partition, Share
from distclust.engine.shards import Shards
from distclust.engine.threads import map_tiles, n_threads
from distclust.kernels.exact_sum import exact_sum, exact_value

__all__ = ["SamplingError", "adjusted_rand_index", "estimate", "sampled_inertia"]


@dataclass(frozen=True)
class SamplingError:
    """What is lost by clustering a sample.

    Attributes
    ----------
    sample_inertia : float
        Weighted sum of squared distances of sampled rows to the centers of their clusters,
        scaled up to all rows: what the sample makes one expect.
    inertia : float
        The same of all rows. Noise is in neither.
    ari : float
        Adjusted Rand index of the labels of all rows with those that follow from a second,
        independent sample: 1 if they are the same up to their numbers, 0 as by chance.
        Noise counts as a cluster.
    """

    sample_inertia: float
    inertia: float
    ari: float

    @property
    def inertia_ratio(self) -> float:
        """Inertia of all rows to what the sample makes one expect: above 1, it was too optimistic.

        1 if both are 0.
        """
        if self.sample_inertia == 0:
            return 1.0 if self.inertia == 0 else float("inf")
        return self.inertia / self.sample_inertia


class Comparison(NamedTuple):
    """Two labellings of some rows."""

    inertia: int  # of the first, see `exact_sum`
    pairs: Counter[tuple[int, int]]  # rows of each pair of labels


def estimate(
    shards: Shards, first: AssignmentScorer, centers: Centers, second: AssignmentScorer
) -> tuple[float, float]:
    """Return the inertia of all rows as the first labels them, and how alike both label them."""
    sent = [shards.session.broadcast(value) for value in (first, centers, second)]
    found: Comparison = shards.reduce(compare, merge_comparisons, *sent)
    inertia = centers.metric.inertia(exact_value(found.inertia))
    return inertia, adjusted_rand_index(found.pairs)


def sampled_inertia(sample: Sample, scorer: AssignmentScorer, centers: Centers) -> float:
    """Return the inertia of all rows that the sample makes one expect."""
    block = Block(sample.rows, 0, sample.weights)
    found = exact_value(_inertia(block, scorer.of_piece(block).labels, centers))
    return centers.metric.inertia(found) * (sample.n_rows / len(sample.rows))


def adjusted_rand_index(pairs: Counter[tuple[int, int]]) -> float:
    """Return L. Hubert and P. Arabie's index (1985) of two labellings.

    Parameters
    ----------
    pairs : Counter
        How many rows have each pair of labels.

    Examples
    --------
    >>> adjusted_rand_index(Counter({(0, 1): 5, (1, 0): 5}))
    1.0
    """
    ours: Counter[int] = Counter()
    theirs: Counter[int] = Counter()
    for (a, b), rows in pairs.items():
        ours[a] += rows
        theirs[b] += rows

    def within(sizes: Counter[Any]) -> int:
        return sum(size * (size - 1) // 2 for size in sizes.values())

    n = sum(pairs.values())
    both, one, other = within(pairs), within(ours), within(theirs)
    all_pairs = n * (n - 1) // 2
    # the index, (both - expected) / ((one + other) / 2 - expected), with whole numbers alone
    numerator = 2 * (both * all_pairs - one * other)
    denominator = (one + other) * all_pairs - 2 * one * other
    return numerator / denominator if denominator else 1.0


# What workers do ------------------------------------------------------------------------


def compare(
    partition: Partition, first: AssignmentScorer, centers: Centers, second: AssignmentScorer
) -> Comparison:
    """Label each row in both ways."""

    def of_share(share: Share) -> Comparison:
        total = Comparison(0, Counter())
        for block, _ in share:
            ours, theirs = first.of_piece(block).labels, second.of_piece(block).labels
            codes = ours.astype(np.int64) << 32 | theirs.astype(np.int64) & 0xFFFFFFFF
            seen, sizes = np.unique(codes, return_counts=True)
            labels = (seen >> 32).tolist(), seen.astype(np.int32).tolist()
            pairs = Counter(dict(zip(zip(*labels, strict=True), sizes.tolist(), strict=True)))
            here = Comparison(_inertia(block, ours, centers), pairs)
            total = merge_comparisons(total, here)
        return total

    return reduce(merge_comparisons, map_tiles(of_share, partition.shares(n_threads())))


def merge_comparisons(a: Comparison, b: Comparison) -> Comparison:
    """Sum of both."""
    return Comparison(a.inertia + b.inertia, a.pairs + b.pairs)


def _inertia(block: Block, labels: Any, centers: Centers) -> int:
    clustered = np.flatnonzero(labels >= 0)
    X = centers.metric.block(block).X[clustered]
    sq_dist = centers.sq_distances(X, labels[clustered])
    return exact_sum(sq_dist * weights_of(block)[clustered])
