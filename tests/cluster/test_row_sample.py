"""Samples against plain NumPy: which rows, how many, and what they weigh."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as SklearnKMeans

from distclust import open_manifest
from distclust.backends.local import LocalBackend
from distclust.cluster.drawing import gather_drawn
from distclust.cluster.row_sample import (
    SAMPLE_STAGE,
    Coreset,
    Sample,
    coreset_sample,
    early_rows,
    uniform_sample,
)
from distclust.cluster.statistics import describe
from distclust.cluster.strata import allocate, stratified_sample
from distclust.data.arrays import ArraySource
from distclust.data.parquet import ParquetSource
from distclust.engine.shards import Session
from distclust.errors import ConfigError, DataError
from distclust.kernels.keyed import keyed_uniform
from distclust.kernels.scaling import Frame
from tests.cluster.helpers import blobs, row_weights, sha

N, SIZE, SEED = 3000, 200, 11
DRAWS: dict[str, Any] = {
    "uniform": uniform_sample,
    "coreset": coreset_sample,
    "stratified": partial(stratified_sample, by=8, given=None),
}


def drawn(name: str, source: Any, size: int = SIZE, n_partitions: int = 5, seed: int = SEED, **how):
    with LocalBackend(workers=2, threads_per_worker=2) as backend:
        shards = Session(backend).shard(source, n_partitions)
        return DRAWS[name](shards, source, size, seed, SAMPLE_STAGE, **how)


def uniforms(n: int = N) -> np.ndarray:
    return keyed_uniform(SEED, SAMPLE_STAGE, 0, n)


def digest(sample: Sample) -> str:
    weights = np.empty(0) if sample.weights is None else sample.weights
    return sha(sample.rows, sample.row_id, weights)


def test_uniform_takes_the_rows_of_the_least_numbers() -> None:
    sample = drawn("uniform", ArraySource(blobs()))
    expected = np.sort(np.argsort(uniforms())[:SIZE])
    np.testing.assert_array_equal(sample.row_id, expected)
    np.testing.assert_array_equal(sample.rows, blobs()[expected])
    assert sample.weights is None
    assert sample.n_rows == N


def test_uniform_keeps_weights_and_leaves_out_rows_without() -> None:
    weights = row_weights()
    sample = drawn("uniform", ArraySource(blobs(), weights))
    ids = np.flatnonzero(weights)
    expected = np.sort(ids[np.argsort(uniforms()[ids])[:SIZE]])
    np.testing.assert_array_equal(sample.row_id, expected)
    np.testing.assert_array_equal(sample.weights, weights[expected])
    assert sample.n_rows == len(ids)


@pytest.mark.parametrize("weighted", [False, True])
def test_coreset_is_priority_sampling_of_half_uniform_half_squared_distances(weighted: bool):
    X, weights = blobs(), row_weights() if weighted else np.ones(N)
    source = ArraySource(X, weights if weighted else None)
    with LocalBackend(workers=1) as backend:
        shards = Session(backend).shard(source)
        mean = describe(shards, X.dtype, weighted=weighted).frame.offset
    np.testing.assert_allclose(mean, np.average(X, axis=0, weights=None), atol=0.1)
    costs = weights * ((X - mean) ** 2).sum(axis=1)
    q = weights / weights.sum() / 2 + costs / costs.sum() / 2  # the paper's
    with np.errstate(divide="ignore"):
        arrival = uniforms() / q
    order = np.argsort(arrival)
    sample = drawn("coreset", source)
    np.testing.assert_array_equal(sample.row_id, np.sort(order[:SIZE]))
    chance = np.minimum(q[sample.row_id] * arrival[order[SIZE]], 1)
    n_rows = np.count_nonzero(weights)
    expected = weights[sample.row_id] / chance * SIZE / n_rows
    np.testing.assert_allclose(sample.weights, expected, rtol=1e-6)


def test_weighted_sums_over_coresets_are_those_over_all_rows() -> None:
    """On average: of the weights, of the rows, and of their squared distances."""
    X = np.random.default_rng(3).standard_t(3, (2000, 2))
    truth = np.array([len(X), *X.sum(axis=0), (X**2).sum()])
    estimates = []
    for seed in range(300):
        sample = drawn("coreset", ArraySource(X), 100, 1, seed)
        w = sample.weights * len(X) / 100
        estimates.append([w.sum(), *(w @ sample.rows), w @ (sample.rows**2).sum(axis=1)])
    error = np.mean(estimates, axis=0) - truth
    standard_error = np.std(estimates, axis=0) / np.sqrt(len(estimates))
    assert (np.abs(error) < 4 * standard_error).all()


def test_one_far_row_is_in_every_coreset_and_in_few_uniform_samples() -> None:
    X = np.random.default_rng(0).normal(size=(N, 3))
    X[1234] = 1e6
    seen = Counter(
        name
        for name in ("uniform", "coreset")
        for seed in range(20)
        if 1234 in drawn(name, ArraySource(X), seed=seed).row_id
    )
    assert seen["coreset"] == 20
    assert seen["uniform"] < 10


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_rows_in_any_partitioning(name: str, weighted: bool) -> None:
    source = ArraySource(blobs(), row_weights() if weighted else None)
    digests = {digest(drawn(name, source, n_partitions=n)) for n in (1, 2, 7, 64)}
    assert len(digests) == 1


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("size", [1, 2939, 2940, 2941, 5000])
def test_sizes_up_to_all_rows_that_weigh_something(name: str, size: int) -> None:
    how = {"by": 1} if name == "stratified" else {}
    sample = drawn(name, ArraySource(blobs(), row_weights()), size, **how)
    assert len(sample.row_id) == min(size, 2940)
    assert (row_weights()[sample.row_id] > 0).all()
    if size >= 2940:
        np.testing.assert_array_equal(sample.weights, row_weights()[sample.row_id])


@pytest.mark.parametrize("name", DRAWS)
def test_seeds_are_independent(name: str) -> None:
    one, other = (drawn(name, ArraySource(blobs()), seed=seed).row_id for seed in (1, 2))
    assert len(np.intersect1d(one, other)) < SIZE / 4  # 200 of 3000 twice: 13 expected


def test_equal_rows_make_a_coreset_too() -> None:
    sample = drawn("coreset", ArraySource(np.ones((N, 2))))
    np.testing.assert_allclose(sample.weights, sample.weights[0])


def test_tiny_weights_run_out_of_speed() -> None:
    """More rows than are asked for weigh something, but beside one of them nothing."""
    weights = np.full(N, 5e-324)
    weights[7] = 1e300
    sample = drawn("coreset", ArraySource(blobs(), weights))
    assert 7 in sample.row_id
    assert np.isfinite(sample.weights).all()


@pytest.mark.parametrize("name", DRAWS)
def test_weights_that_are_all_zero(name: str) -> None:
    with pytest.raises(DataError, match="every sample weight is 0"):
        drawn(name, ArraySource(blobs(), np.zeros(N)))


def test_only_early_rows_leave_a_worker() -> None:
    with LocalBackend(workers=1) as backend:
        shards = Session(backend).shard(ArraySource(blobs()), 3)
        design = Coreset(Frame(np.zeros(5), 1.0), 1.0, 0.0)
        sent = gather_drawn(shards, early_rows, design, SEED, SAMPLE_STAGE, 0.01)
    np.testing.assert_array_equal(sent.row_id, np.flatnonzero(uniforms() < 0.01))


# Strata ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.data())
@settings(deadline=None)
def test_allocation(sizes: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(len(sizes), sum(sizes)))
    wanted = allocate(np.array(sizes), total)
    assert wanted.sum() == total
    assert (wanted >= 1).all()
    assert (wanted <= sizes).all()
    others = max(1, sum(sizes) - len(sizes))
    whole, rest = np.divmod((total - len(sizes)) * (np.array(sizes) - 1), others)
    more = wanted - 1 - whole  # one more goes to the largest remainders, the first of equals
    by_remainder = np.argsort(-rest, kind="stable")
    assert more[by_remainder].tolist() == sorted(more.tolist(), reverse=True)
    assert set(more.tolist()) <= {0, 1}


def kinds() -> np.ndarray:
    """Two thirds, one third, and two rows of another kind."""
    values = np.array(["a", "a", "b"] * (N // 3), dtype="U4")
    values[[17, 2041]] = "rare"
    return values


@pytest.mark.parametrize("n_partitions", [1, 7])
def test_given_strata_are_drawn_in_proportion(n_partitions: int) -> None:
    values = kinds()
    sample = drawn("stratified", ArraySource(blobs()), 100, n_partitions, given=values)
    assert Counter(values[sample.row_id].tolist()) == {"a": 66, "b": 33, "rare": 1}
    for kind, count in Counter(values[sample.row_id].tolist()).items():
        ids = np.flatnonzero(values == kind)
        expected = np.sort(ids[np.argsort(uniforms()[ids])[:count]])
        np.testing.assert_array_equal(sample.row_id[values[sample.row_id] == kind], expected)
    np.testing.assert_array_equal(sample.rows, blobs()[sample.row_id])


def files(folder: Path, **more: np.ndarray) -> ParquetSource:
    """The rows with a column beside the features, in three files."""
    for i, rows in enumerate(np.array_split(np.arange(N), 3)):
        columns = {name: values[rows] for name, values in more.items()}
        features = {f"x{j}": blobs()[rows, j] for j in range(5)}
        pq.write_table(pa.table({**features, **columns}), folder / f"{i}.parquet")
    return ParquetSource(open_manifest(folder, columns=[f"x{j}" for j in range(5)]))


def test_a_column_beside_the_features_of_files(tmp_path: Path) -> None:
    codes = np.unique(kinds(), return_inverse=True)[1].astype(np.int16)
    source = files(tmp_path, kind=codes)
    by_column = drawn("stratified", source, 100, by="kind")
    by_hand = drawn("stratified", ArraySource(blobs()), 100, given=codes)
    assert digest(by_column) == digest(by_hand)


def test_a_feature() -> None:
    X = np.column_stack([blobs(), np.arange(N) % 4])
    source = ArraySource(X, feature_names=("a", "b", "c", "d", "e", "quarter"))
    sample = drawn("stratified", source, 100, by="quarter")
    assert Counter(sample.rows[:, 5].tolist()) == dict.fromkeys([0.0, 1, 2, 3], 25)


def test_cells_are_drawn_in_proportion_to_their_rows() -> None:
    """A stratified sample has hardly any sampling error in how large the cells are."""
    X = blobs()
    centers = SklearnKMeans(8, random_state=0, n_init=1).fit(X)
    shares = np.bincount(centers.predict(X), minlength=8) / N

    def error(name: str) -> float:
        found = [
            np.bincount(centers.predict(drawn(name, ArraySource(X), seed=seed).rows), minlength=8)
            for seed in range(10)
        ]
        return float(np.abs(np.array(found) / SIZE - shares).mean())

    assert error("stratified") < 0.6 * error("uniform")


def test_wrong_strata(tmp_path: Path) -> None:
    source = ArraySource(blobs(), feature_names=tuple("abcde"))
    with pytest.raises(ConfigError, match="strata='kind' is none of the features"):
        drawn("stratified", source, by="kind")
    with pytest.raises(DataError, match=r"strata has shape \(5,\), expected \(3000,\)"):
        drawn("stratified", source, given=np.ones(5))
    with pytest.raises(ValueError, match="few distinct values"):
        drawn("stratified", source, by="a")
    with pytest.raises(ConfigError, match="there are 3 strata; sample_size=2 should be"):
        drawn("stratified", source, 2, given=np.arange(N) // 1000)
    with pytest.raises(DataError, match="'kind'"):
        drawn("stratified", files(tmp_path), by="kind")
