"""Sums of clusters are the sums of their rounded rows, however the rows are split."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distclust.kernels.assign import CenterTable, assign, center_table, sq_distances
from distclust.kernels.coded import CodedCenters, Codes, coded_words, encode
from distclust.kernels.drift import Drift
from distclust.kernels.grouped import BOUNDS, Arranged, Groups, group_centers, groups_of_row
from distclust.kernels.lloyd import (
    ClusterStats,
    Memory,
    lloyd_step,
    merge_stats,
    rounded_rows,
)
from distclust.kernels.pairs import GROUP
from distclust.kernels.scaling import FixedPoint, Frame, extremes

DTYPES = [np.float32, np.float64]
WAYS = ["plain", "coded", "grouped"]


class Walk:
    """Steps over one block, with or without memory of the step before."""

    def __init__(
        self, X: np.ndarray, weights: np.ndarray | None, frame: Frame, way: str = "plain"
    ) -> None:
        self.X, self.weights, self.frame, self.grouped = X, weights, frame, way == "grouped"
        words = np.zeros((len(X), coded_words(X.shape[1])), np.int32)
        self.codes = None if way == "plain" else Codes(frame, words, encode(X, frame, words))
        found = extremes(X, weights)
        self.rounding = FixedPoint.around(frame.offset, found, weighted=weights is not None)
        self.seen = 0
        self.forget()

    def forget(self) -> None:
        self.memory: Memory | None = None
        self.stats: ClusterStats | None = None

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the bounds are now: on the own center, and on each center."""
        labels, upper, lower, since = self.memory
        travelled = self.drift.travelled(self.table.exact, self.groups)
        others = travelled.others.astype(np.float64)
        near = upper.astype(np.float64) + travelled.own[since, labels]
        if self.groups:
            units = np.maximum(lower - others[since], 0)[:, self.groups.group_of]
            each = units / self.groups.per_unit
            each[np.arange(len(labels)), labels] = -np.inf  # not bounded: it is their own
            return near, each
        far = lower.astype(np.float64) - others[since, labels][:, np.newaxis]
        return near, np.broadcast_to(far, (len(labels), len(self.table.exact)))

    def coded_centers(self, table: CenterTable, error: float) -> CodedCenters | Arranged:
        return self.groups.arranged(table, error) if self.groups else CodedCenters.of(table, error)

    def grouped_centers(self, table: CenterTable) -> Groups:
        return group_centers(table.seen, self.codes.common_sq_norm)

    def settle(self) -> None:
        self.memory.settle(self.drift.travelled(self.table.exact, self.groups))
        self.drift = self.drift.anew()
        self.drift.remember(self.table.exact)

    def step(self, centers: np.ndarray) -> ClusterStats:
        table = center_table(centers, self.frame)
        if self.memory is None:
            self.groups = self.grouped_centers(table) if self.grouped else None
            width = BOUNDS if self.grouped else None
            self.memory = Memory.blank(len(self.X)).with_bounds(width)
            self.drift = Drift.none(len(self.X), *centers.shape, table.scale)
        travelled = self.drift.travelled(table.exact, self.groups)
        stats = self.stats or ClusterStats.empty(*centers.shape)
        coded = self.codes and (self.codes.words, self.coded_centers(table, self.codes.error))
        counts = lloyd_step(
            self.X, self.weights, table, self.rounding, travelled, self.memory, stats, coded
        )
        self.drift.remember(table.exact)
        self.seen += counts.seen
        self.table, self.stats = table, stats
        return ClusterStats(stats.sums.copy(), stats.weights.copy())


def assert_bounds_hold(walk: Walk, centers: np.ndarray) -> None:
    """An upper bound is never below the distance it bounds, nor a lower one above."""
    dist = np.sqrt(sq_distances(walk.X, centers.astype(np.float64))) * walk.frame.scale
    labels = walk.memory.labels[:, np.newaxis]
    own = np.take_along_axis(dist, labels, axis=1)[:, 0]
    np.put_along_axis(dist, labels, np.inf, axis=1)
    upper, lower = walk.bounds()
    assert (upper >= own * (1 - 1e-12)).all()
    assert (lower <= dist * (1 + 1e-12)).all()


def by_definition(walk: Walk, centers: np.ndarray) -> ClusterStats:
    """Label every row afresh, round every row by itself, and add in int64."""
    labels, _ = assign(walk.X, center_table(centers, walk.frame))
    sums, weights = rounded_rows(walk.X, walk.weights, walk.rounding)
    stats = ClusterStats.empty(*centers.shape)
    np.add.at(stats.sums, labels, sums)
    np.add.at(stats.weights, labels, weights)
    return stats


def assert_same(one: ClusterStats, other: ClusterStats) -> None:
    np.testing.assert_array_equal(one.sums, other.sums)
    np.testing.assert_array_equal(one.weights, other.weights)


def data(
    dtype: type, n: int = 1500, d: int = 5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, Frame]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)).astype(dtype)
    return X, rng.uniform(0, 3, n), Frame.around(np.zeros(d), float(np.abs(X).max()) * d**0.5)


def test_sums_by_hand() -> None:
    X = np.array([[0.0, 1.0], [2.0, 1.0], [10.0, 5.0]])
    walk = Walk(X, np.array([1.0, 3.0, 0.5]), Frame.around(np.array([1.0, 1.0]), 16.0))
    stats = walk.step(np.array([[0.0, 0.0], [9.0, 9.0]]))
    assert walk.rounding.sums(stats.sums).tolist() == [[2.0, 0.0], [4.5, 2.0]]
    assert walk.rounding.weights(stats.weights).tolist() == [4.0, 0.5]


def test_without_weights_rows_are_counted() -> None:
    X, _, frame = data(np.float64)
    stats = Walk(X, None, frame).step(X[:3])
    labels, _ = assign(X, center_table(X[:3], frame))
    assert stats.weights.tolist() == np.bincount(labels).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_sums_are_those_of_rounded_rows(dtype: type, weighted: bool, k: int) -> None:
    X, weights, frame = data(dtype)
    walk = Walk(X, weights if weighted else None, frame)
    assert_same(walk.step(X[:k].copy()), by_definition(walk, X[:k]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_any_split_and_merge_order_gives_the_same_bits(dtype: type, weighted: bool) -> None:
    X, weights, frame = data(dtype, n=800)
    given_weights = weights if weighted else None
    rounding = Walk(X, given_weights, frame).rounding
    whole = Walk(X, given_weights, frame).step(X[:6].copy())
    rng = np.random.default_rng(1)
    for n_parts in (2, 3, 64):
        cuts = np.sort(rng.integers(0, len(X), n_parts - 1))
        parts = []
        for rows in np.split(np.arange(len(X)), cuts):
            part = (
                Walk(X[rows], None if given_weights is None else weights[rows], frame)
                if len(rows)
                else None
            )
            if part is not None:
                part.rounding = rounding
                parts.append(part.step(X[:6].copy()))
        for _ in range(3):
            rng.shuffle(parts)
            assert_same(reduce(merge_stats, parts), whole)


def test_merging_with_nothing_changes_nothing() -> None:
    X, _, frame = data(np.float64)
    stats = Walk(X, None, frame).step(X[:4])
    assert_same(merge_stats(ClusterStats.empty(4, 5), stats), stats)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("speed", [1e-7, 1e-3, 0.3])
@pytest.mark.parametrize(("d", "k"), [(5, 12), (37, 8), (21, 3), (37, 16)])
def test_memory_of_earlier_steps_changes_no_bit(
    dtype: type, weighted: bool, speed: float, d: int, k: int
) -> None:
    X, weights, frame = data(dtype, n=2000, d=d)
    walk = Walk(X, weights if weighted else None, frame)
    rng = np.random.default_rng(2)
    centers = X[:k].copy()
    for _ in range(12):
        assert_same(walk.step(centers), by_definition(walk, centers))
        centers = (centers + speed * rng.normal(size=centers.shape)).astype(dtype)
    if speed < 1e-3:
        assert walk.seen < 12 * len(X) / 2  # or the memory is of no use


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("speed", [1e-7, 1e-3, 0.3])
@pytest.mark.parametrize("k", [9, 128])
def test_bounds_on_groups_change_no_bit(dtype: type, speed: float, k: int) -> None:
    X, weights, frame = data(dtype, n=2000, d=19)
    walk = Walk(X, weights, frame, "grouped")
    rng = np.random.default_rng(2)
    centers = X[:k].copy()
    for _ in range(8):
        assert_same(walk.step(centers), by_definition(walk, centers))
        centers = (centers + speed * rng.normal(size=centers.shape)).astype(dtype)
    if speed < 1e-3:
        assert walk.seen < 8 * len(X) / 2  # or the memory is of no use


@given(st.integers(1, 70), st.integers(1, 5), st.integers(0, 2**32))
def test_each_center_is_in_one_group(k: int, d: int, seed: int) -> None:
    centers = np.round(np.random.default_rng(seed).normal(size=(k, d)))  # some are equal
    order, group_of, _ = group_centers(centers, 1.0)
    assert sorted(order[:k]) == list(range(k))
    assert (order[k:] == -1).all()
    assert len(order) % GROUP == 0
    assert len(order) < k + GROUP
    assert (order[:k].argsort() // GROUP == group_of).all()


def test_groups_are_for_many_centers_of_many_features() -> None:
    assert groups_of_row(1000, 50, 4) == 64
    assert groups_of_row(10, 5000, 4) == 0  # few centers
    assert groups_of_row(10_000, 8, 4) == 0  # few features
    assert groups_of_row(100_000, 50, 4) == 0  # bounds of a row far larger than the row


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_memory_survives_a_center_that_jumps(dtype: type, way: str) -> None:
    X, _, frame = data(dtype, n=1000, d=17)
    walk = Walk(X, None, frame, way)
    centers = X[:8].copy()
    for step in range(8):
        assert_same(walk.step(centers), by_definition(walk, centers))
        centers = centers.copy()
        centers[step] = X[-step - 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize(
    ("d", "k", "way"), [(3, 9, "plain"), (16, 8, "plain"), (16, 8, "coded"), (16, 29, "grouped")]
)
def test_memory_survives_exact_ties_and_duplicate_centers(
    dtype: type, offset: float, d: int, k: int, way: str
) -> None:
    rng = np.random.default_rng(3)
    side = 5 if d == 3 else 1  # ties are rare in many features
    X = (rng.integers(-side, side + 1, size=(1200, d)) + offset).astype(dtype)
    walk = Walk(X, None, Frame.around(np.full(d, offset), 10.0), way)
    centers = (rng.integers(-side, side + 1, size=(k, d)) + offset).astype(dtype)
    centers[4] = centers[1]
    for _ in range(10):
        assert_same(walk.step(centers), by_definition(walk, centers))
        centers = centers.copy()
        centers[rng.integers(k)] += rng.integers(-1, 2, size=d).astype(dtype)


@pytest.mark.parametrize("far", [1e17, 1e20, 1e21, 3e38])
@pytest.mark.parametrize(
    ("d", "way"), [(2, "plain"), (20, "plain"), (20, "coded"), (20, "grouped")]
)
def test_centers_come_back_from_where_scores_overflow(far: float, d: int, way: str) -> None:
    X, _, frame = data(np.float32, n=200, d=d)
    walk = Walk(X, None, frame, way)
    centers = X[:16].copy() if way == "grouped" else X[:2].copy()
    for beyond in (True, False, False, True, False):
        at = centers.copy()
        if beyond:
            at[len(at) // 2 :] = np.float32(far)
        assert_same(walk.step(at), by_definition(walk, at))


@pytest.mark.parametrize(
    ("dtype", "exponent"),
    [(np.float32, -140), (np.float32, 115), (np.float64, -560), (np.float64, 660)],
)
@pytest.mark.parametrize(("d", "way"), [(3, "plain"), (19, "plain"), (19, "coded")])
def test_memory_at_any_magnitude(dtype: type, exponent: int, d: int, way: str) -> None:
    rng = np.random.default_rng(4)
    X = np.ldexp(rng.integers(-60, 60, size=(600, d)).astype(dtype), exponent)
    frame = Frame.around(np.zeros(d), float(np.abs(X).max()) * 2)
    walk = Walk(X, None, frame, way)
    centers = X[:6].copy()
    for step in range(6):
        assert_same(walk.step(centers), by_definition(walk, centers))
        centers = centers.copy()
        centers[step % 6] = (centers[step % 6] / 2 + X[20 + step] / 2).astype(dtype)


@given(st.data())
def test_bounds_hold_whatever_the_centers_do(draw: st.DataObject) -> None:
    dtype = draw.draw(st.sampled_from(DTYPES))
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    k, d = draw.draw(st.sampled_from([2, 3, 6, 19])), draw.draw(st.sampled_from([1, 2, 4, 9, 18]))
    way = draw.draw(st.sampled_from(WAYS)) if d == 18 else "plain"
    X = np.round(rng.normal(size=(60, d)) * 4).astype(dtype)
    frame = Frame.around(np.zeros(d), draw.draw(st.sampled_from([1e-3, 1.0, 20.0, 1e6])))
    walk = Walk(X, None, frame, way)
    centers = X[:k].copy()
    for _ in range(4):
        assert_same(walk.step(centers), by_definition(walk, centers))
        assert_bounds_hold(walk, centers)
        speed = draw.draw(st.sampled_from([0.0, 1e-6, 1e-2, 1.0]))
        centers = (centers + speed * rng.normal(size=centers.shape)).astype(dtype)


@pytest.mark.parametrize("way", WAYS)
def test_bounds_hold_when_they_settle(way: str) -> None:
    """Of rows that were not looked at for some steps as well."""
    X, _, frame = data(np.float32, n=2000, d=19)
    walk, rng = Walk(X, None, frame, way), np.random.default_rng(5)
    centers = X[:16].copy()
    for step in range(12):
        assert_same(walk.step(centers), by_definition(walk, centers))
        passed_over = int((walk.memory.since < walk.drift.n_steps - 1).sum())
        if step % 4 == 3:
            assert passed_over > 500
            walk.settle()
        assert_bounds_hold(walk, centers)
        centers = (centers + 0.01 * rng.normal(size=centers.shape)).astype(X.dtype)


def test_rows_are_seen_again_only_if_they_may_have_changed() -> None:
    X, _, frame = data(np.float64, n=1000)
    walk = Walk(X, None, frame)
    walk.step(X[:5])
    assert walk.seen == 1000
    walk.step(X[:5])
    assert walk.seen < 1010  # centers at rest: only near ties are looked at


def test_read_only_rows_weights_and_centers() -> None:
    X, weights, frame = data(np.float32)
    expected = Walk(X, weights, frame).step(X[:4].copy())
    frozen = X.copy(), weights.copy(), X[:4].copy()
    for array in frozen:
        array.flags.writeable = False
    assert_same(Walk(frozen[0], frozen[1], frame).step(frozen[2]), expected)


def test_more_rows_than_float32_can_count() -> None:
    """2**24 + 3 rows of one cluster: counts in float32 would stop at 2**24."""
    X = np.ones((2**24 + 3, 1), dtype=np.float32)
    walk = Walk(X, None, Frame.around(np.zeros(1), 1.0))
    stats = walk.step(np.ones((1, 1), dtype=np.float32))
    assert stats.weights.tolist() == [2**24 + 3]
    assert walk.rounding.sums(stats.sums).tolist() == [[2.0**24 + 3]]
