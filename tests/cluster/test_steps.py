"""What workers compute: pure functions of rows and centers, whatever they remember."""

from __future__ import annotations

import itertools
import operator
from functools import partial, reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distclust.cluster import steps
from distclust.cluster.labelling import (
    block_labels,
    distance_rows,
    far_rows,
    label_rows,
    merge_far_rows,
    merge_labellings,
)
from distclust.cluster.metric import EUCLIDEAN
from distclust.cluster.steps import Run, lloyd_stats
from distclust.data.blocks import Block, Partition
from distclust.engine.threads import worker_threads
from distclust.kernels import drift
from distclust.kernels.exact_sum import exact_value
from distclust.kernels.grouped import MOST_UNITS
from distclust.kernels.lloyd import ClusterStats, merge_stats, rounded_rows
from distclust.kernels.pairs import GROUP
from distclust.kernels.scaling import FixedPoint, Frame, extremes
from tests.cluster.helpers import blobs, row_weights

LINE = np.array([[0.0], [7.0], [1.0], [-7.0], [2.0], [7.0]])
ZERO = np.array([[0.0]])


def rounding_of(X: np.ndarray, weights: np.ndarray | None = None) -> FixedPoint:
    found = extremes(X, weights)
    return FixedPoint.around(np.zeros(X.shape[1]), found, weighted=weights is not None)


def partition(X: np.ndarray, *bounds: int, weights: np.ndarray | None = None) -> Partition:
    """Rows bounds[0] to bounds[-1], cut into blocks at the bounds."""
    return Partition(
        [
            Block(X[low:high], low, None if weights is None else weights[low:high])
            for low, high in itertools.pairwise(bounds)
        ]
    )


def test_far_rows_by_hand() -> None:
    """Rows 1, 3 and 5 are equally far: the lowest ids come first."""
    frame, rounding = Frame.of_centers(ZERO), rounding_of(LINE)
    far = far_rows(partition(LINE, 0, 6), ZERO, frame, rounding, 4)
    assert far.row_id.tolist() == [1, 3, 5, 4]
    assert far.label.tolist() == [0, 0, 0, 0]
    assert rounding.sums(far.sums).tolist() == [[7.0], [-7.0], [7.0], [2.0]]
    assert far.weights.tolist() == [1, 1, 1, 1]


def test_far_rows_are_no_more_than_there_are() -> None:
    far = far_rows(partition(LINE, 2, 4), ZERO, Frame.of_centers(ZERO), rounding_of(LINE), 9)
    assert far.row_id.tolist() == [3, 2]


@given(st.lists(st.integers(0, 6), max_size=4), st.integers(1, 7), st.randoms())
def test_far_rows_of_parts_merge_to_those_of_the_whole(cuts: list[int], count: int, random) -> None:
    frame, rounding = Frame.of_centers(ZERO), rounding_of(LINE)
    whole = far_rows(partition(LINE, 0, 6), ZERO, frame, rounding, count)
    bounds = sorted({0, 6, *cuts})
    parts = [
        far_rows(partition(LINE, low, high), ZERO, frame, rounding, count)
        for low, high in itertools.pairwise(bounds)
    ]
    random.shuffle(parts)
    for one, other in zip(reduce(partial(merge_far_rows, count), parts), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_far_rows_bring_what_they_added_to_their_cluster() -> None:
    X, weights = blobs(500), row_weights(500)
    centers, rounding = X[:3].copy(), rounding_of(blobs(500), row_weights(500))
    far = far_rows(
        partition(X, 0, 500, weights=weights), centers, Frame.of_centers(centers), rounding, 5
    )
    sums, totals = rounded_rows(X, weights, rounding)
    np.testing.assert_array_equal(far.sums, sums[far.row_id])
    np.testing.assert_array_equal(far.weights, totals[far.row_id])


def one_run(rows: Partition, centers: np.ndarray, *how: Any) -> ClusterStats:
    (stats,) = lloyd_stats(rows, [Run(0, centers)], *how)
    return stats


def assert_as_if_new(
    found: ClusterStats, X: np.ndarray, centers: np.ndarray, frame: Frame, rounding: FixedPoint
) -> None:
    """Statistics are those of a partition that remembers nothing."""
    fresh = one_run(partition(X, 0, 3000), centers, frame, rounding)
    for one, other in zip(found, fresh, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_statistics_do_not_depend_on_the_cache(dtype: str, weighted: bool, threads: int) -> None:
    """A worker that has seen earlier centers, or other ones, or none, answers the same."""
    X = blobs(dtype=dtype)
    weights = row_weights() if weighted else None
    rounding, frame = rounding_of(X, weights), Frame.around(np.zeros(5), 64.0)
    known = partition(X, 0, 1000, 1001, 3000, weights=weights)
    rng = np.random.default_rng(0)
    centers = X[:6].copy()
    for step in range(8):
        if step == 5:
            centers = X[100:104].copy()  # another number of clusters
        with worker_threads(1 + (threads + step) % threads):
            found = one_run(known, centers, frame, rounding)
        fresh = one_run(partition(X, 0, 3000, weights=weights), centers, frame, rounding)
        for one, other in zip(found, fresh, strict=True):
            np.testing.assert_array_equal(one, other)
        centers = (centers + rng.normal(size=centers.shape) * 0.1).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("k", "d"), [(3, 24), (8, 24), (130, 128)])
def test_costly_bounds_begin_when_rows_calm_down(dtype: str, k: int, d: int) -> None:
    """Without bounds, with new ones, and with old ones: the statistics are the same."""
    X = blobs(d=d, dtype=dtype)
    rounding, frame = rounding_of(X), Frame.around(np.zeros(d), 512.0)
    known, centers = partition(X, 0, 1000, 1001, 3000), X[:k].copy()
    bounded = []
    for _ in range(25):
        found = one_run(known, centers, frame, rounding)
        assert_as_if_new(found, X, centers, frame, rounding)
        bounded.append(known.cache["lloyd-0"].memory.has_bounds)
        means = rounding.sums(found.sums) / np.maximum(found.weights, 1)[:, np.newaxis]
        centers = (centers + 0.5 * (means - centers)).astype(dtype)
    assert not bounded[0]
    assert bounded[-1]


@pytest.mark.parametrize(("k", "d"), [(6, 5), (130, 128)])
def test_bounds_settle_after_as_many_steps_as_are_known(
    k: int, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "MOST_STEPS", 4)
    monkeypatch.setattr(steps, "CALM", 0)  # at once
    X = blobs(d=d)
    rounding, frame = rounding_of(X), Frame.around(np.zeros(d), 512.0)
    known, centers, n_steps = partition(X, 0, 1000, 3000), X[:k].copy(), []
    for _ in range(11):
        found = one_run(known, centers, frame, rounding)
        assert_as_if_new(found, X, centers, frame, rounding)
        n_steps.append(known.cache["lloyd-0"].drift.n_steps)
        centers = (centers + 0.3 * (X[k : 2 * k] - centers)).astype(X.dtype)
        memory = known.cache["lloyd-0"].memory
        assert (memory.since < n_steps[-1]).all()
        if d == 128:
            assert (memory.lower[:, -(-k // GROUP) :] == MOST_UNITS).all()  # of no group
    assert n_steps[:9] == [1, 2, 3, 1, 2, 3, 1, 2, 3]


def test_bounds_begin_at_once_where_codes_tell_nothing() -> None:
    """Of centers in pairs nearer to each other than codes are to rows."""
    X = blobs(d=24)
    centers = np.repeat(X[:4], 2, axis=0)
    centers[1::2] += 1e-9
    rounding, frame = rounding_of(X), Frame.around(np.zeros(24), 512.0)
    known = partition(X, 0, 3000)
    one_run(known, centers, frame, rounding)
    progress = known.cache["lloyd-0"]
    assert not progress.coded
    assert progress.memory.has_bounds


def test_statistics_survive_a_change_of_frame_or_rounding() -> None:
    X = blobs()
    known, centers = partition(X, 0, 3000), X[:6].copy()
    for reach in (64.0, 1e3, 64.0):
        for factor in (1.0, 8.0):
            frame, rounding = Frame.around(np.zeros(5), reach), rounding_of(X * factor)
            found = one_run(known, centers, frame, rounding)
            assert_as_if_new(found, X, centers, frame, rounding)


def test_statistics_that_were_returned_are_not_changed_later() -> None:
    X = blobs()
    known, frame, rounding = partition(X, 0, 3000), Frame.around(np.zeros(5), 64.0), rounding_of(X)
    first = one_run(known, X[:6].copy(), frame, rounding)
    copies = [array.copy() for array in first]
    one_run(known, X[6:12].copy(), frame, rounding)
    for array, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_statistics_of_parts_merge_to_those_of_the_whole() -> None:
    X, weights = blobs(), row_weights()
    frame, rounding, centers = Frame.of_centers(X[:6]), rounding_of(X, weights), X[:6].copy()
    whole = one_run(partition(X, 0, 3000, weights=weights), centers, frame, rounding)
    parts = [
        one_run(partition(X, low, high, weights=weights), centers, frame, rounding)
        for low, high in ((0, 1), (1, 2000), (2000, 3000))
    ]
    for one, other in zip(reduce(merge_stats, parts[::-1]), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_labels_by_hand() -> None:
    centers = np.array([[0.0], [6.0]])
    weights = np.array([1.0, 2.0, 1.0, 0.0, 3.0, 1.0])
    rows = partition(LINE, 0, 2, 2, 6, weights=weights)
    frame = Frame.of_centers(centers)
    found = label_rows(rows, Run(0, centers), frame, keep_labels=True)
    assert frame.in_data_units(exact_value(found.inertia)) == 2 * 1 + 1 * 1 + 3 * 4 + 1 * 1
    assert found.sizes.tolist() == [4, 2]
    labels = [array.tolist() for _, array in sorted(found.labels, key=lambda pair: pair[0])]
    assert reduce(operator.iadd, labels, []) == [0, 1, 0, 0, 0, 1]
    unkept = label_rows(rows, Run(0, centers), Frame.of_centers(centers), keep_labels=False)
    assert (unkept.labels, unkept.inertia) == ([], found.inertia)
    twice = merge_labellings(found, unkept)
    assert twice.sizes.tolist() == [8, 4]
    assert twice.inertia == 2 * found.inertia


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_labels_come_back_in_the_blocks_of_the_partition(threads: int) -> None:
    centers = np.array([[0.0], [6.0]])
    with worker_threads(threads):
        found = block_labels(
            partition(LINE, 0, 1, 4, 6), Run(0, centers), Frame.of_centers(centers)
        )
    assert [labels.tolist() for labels in found] == [[0], [1, 0, 0], [0, 1]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_distances_have_the_dtype_of_the_rows(dtype: str) -> None:
    rows = np.array([[3.0, 4.0], [0.0, 1.0]], dtype=dtype)
    zero = np.zeros((1, 2), dtype=dtype)
    ((start, found),) = distance_rows(partition(rows, 0, 2), zero, EUCLIDEAN)
    assert (start, found.tolist(), found.dtype) == (0, [[5.0], [1.0]], dtype)
