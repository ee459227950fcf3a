"""Numbers that break naive arithmetic: far offsets, huge, tiny and very many."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.exceptions import ConvergenceWarning

from distclust import DataError, KMeans
from tests.cluster.helpers import blobs

POWERS = [660, -560]  # about 1e199 and 1e-169


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("init", ["sampled", "k-means||", "k-means++", "random", "array"])
@pytest.mark.parametrize("n", [600, 9000])
def test_scaling_rows_by_a_power_of_two_scales_the_fit(power: int, init: str, n: int) -> None:
    """No digit changes: labels are equal, and centers equal but for the power."""
    X, factor = blobs(n), 2.0**power
    start = X[:6] if init == "array" else None
    plain, scaled = (
        KMeans(6, init=init if start is None else start * f, random_state=0, n_init=1).fit(X * f)
        for f in (1.0, factor)
    )
    np.testing.assert_array_equal(plain.labels_, scaled.labels_)
    np.testing.assert_array_equal(plain.cluster_centers_ * factor, scaled.cluster_centers_)
    assert plain.n_iter_ == scaled.n_iter_


@pytest.mark.parametrize("power", POWERS)
def test_scaling_rows_by_a_power_of_two_scales_distances(power: int) -> None:
    X, factor = blobs(600), 2.0**power
    model = KMeans(4, init=X[:4].copy(), max_iter=1).fit(X)
    expected = model.transform(X) * factor
    model.cluster_centers_ = model.cluster_centers_ * factor
    np.testing.assert_array_equal(model.predict(X * factor), model.labels_)
    np.testing.assert_allclose(model.transform(X * factor), expected, rtol=1e-14)


@pytest.mark.parametrize("power", POWERS)
def test_an_empty_cluster_is_relocated_at_any_magnitude(power: int) -> None:
    X = np.array([[0.0], [1.0], [2.0], [4.0], [9.0], [10.0]]) * 2.0**power
    init = np.array([[0.0], [10.0], [100.0]]) * 2.0**power
    model = KMeans(3, init=init, max_iter=1).fit(X)
    assert model.cluster_centers_.ravel() / 2.0**power == pytest.approx([1.0, 9.5, 4.0], rel=1e-14)


def test_squares_beyond_the_largest_double_are_infinite_inertia() -> None:
    model = KMeans(2, init=np.array([[0.0], [1e200]])).fit([[0.0], [1e200], [1.5e200]])
    assert model.labels_.tolist() == [0, 1, 1]
    assert model.inertia_ == np.inf
    weighted = model.fit([[0.0], [1e200], [1.5e200]], sample_weight=[1.0, 1.0, 0.0])
    np.testing.assert_allclose(weighted.cluster_centers_, [[0.0], [1e200]], rtol=1e-14)


@pytest.mark.parametrize(("dtype", "offset"), [("float32", 1e4), ("float64", 1e8)])
def test_a_far_offset_changes_no_label(dtype: str, offset: float) -> None:
    """On a grid that the offset does not round away, only the centers move along."""
    X = np.round(blobs() * 4) / 4
    init = X[:6].copy()
    near = KMeans(6, init=init.astype(dtype), tol=0).fit(X.astype(dtype))
    far = KMeans(6, init=(init + offset).astype(dtype), tol=0).fit((X + offset).astype(dtype))
    assert (near.labels_ == far.labels_).mean() > 0.99
    np.testing.assert_allclose(far.cluster_centers_ - offset, near.cluster_centers_, atol=0.05)
    np.testing.assert_array_equal(far.predict((X + offset).astype(dtype)), far.labels_)


@pytest.mark.parametrize(
    ("dtype", "offset", "factor"),
    [
        ("float32", 1e4, 1), ("float64", 1e8, 1), ("float64", 0, 1e200), ("float64", 0, 1e-170),
        ("float32", 0, 1e-42),
    ],
)  # fmt: skip
def test_labels_are_those_of_exact_arithmetic(dtype: str, offset: float, factor: float) -> None:
    """Of rows and centers as they are given, rounded to their dtype beforehand."""
    X = (np.array(blobs(400, 3)) * factor + offset).astype(dtype)
    centers = X[:8].copy()
    exact_X = [[Fraction(float(value)) for value in row] for row in X]
    exact_centers = exact_X[:8]
    sq_dist = [
        [sum((a - b) ** 2 for a, b in zip(row, center, strict=True)) for center in exact_centers]
        for row in exact_X
    ]
    expected = [row.index(min(row)) for row in sq_dist]
    model = KMeans(8, init=centers, max_iter=1, tol=0).fit(X)
    model.cluster_centers_ = centers
    assert model.predict(X).tolist() == expected


@pytest.mark.parametrize(("dtype", "least"), [("float32", 2.0**-149), ("float64", 2.0**-970)])
def test_the_smallest_values(dtype: str, least: float) -> None:
    X = (np.array([[0], [1], [2], [100], [101], [102]]) * least).astype(dtype)
    model = KMeans(2, random_state=0).fit(X)
    assert sorted(model.cluster_centers_.ravel() / least) == [1, 101]
    assert sorted(model.cluster_sizes_) == [3, 3]


def test_values_too_small_to_sum_are_refused() -> None:
    X = np.array([[1.0], [2.0], [9.0]]) * 2.0**-1074
    with pytest.raises(DataError, match=r"no feature varies by more than .* 2\*\*1071"):
        KMeans(2).fit(X)
    assert KMeans(2, random_state=0).fit(np.ldexp(X, 1071)).inertia_ == 0.5 / 64
    with pytest.warns(ConvergenceWarning):
        assert KMeans(2, random_state=0).fit(X[[0, 0]]).inertia_ == 0


def test_subnormal_values_among_others() -> None:
    X = np.array([[0.0, 0.0], [5e-324, -5e-324], [1e-310, 0.0], [1.0, 2.0], [1.0, 2.0]])
    model = KMeans(2, random_state=0).fit(X)
    assert len(set(model.labels_[:3])) == len(set(model.labels_[3:])) == 1
    assert sorted(model.cluster_sizes_) == [2, 3]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_shards_without_rows_change_nothing(tmp_path: Path, metric: str) -> None:
    """An empty file, an empty row group, and more partitions than rows."""
    X = blobs(60)
    table = pa.table({f"x{j}": column for j, column in enumerate(X.T)})
    pq.write_table(table.slice(0, 0), tmp_path / "0.parquet")
    with pq.ParquetWriter(tmp_path / "1.parquet", table.schema) as writer:
        for part in (table.slice(0, 30), table.slice(0, 0), table.slice(30)):
            writer.write_table(part)
    plain = KMeans(4, random_state=0, metric=metric).fit(X)
    shards = KMeans(4, random_state=0, metric=metric, n_partitions=70).fit(tmp_path)
    np.testing.assert_array_equal(shards.labels_, plain.labels_)
    np.testing.assert_array_equal(shards.cluster_centers_, plain.cluster_centers_)
    assert shards.inertia_ == plain.inertia_


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("n", [600, 9000])
def test_each_row_twice_is_each_weight_two(metric: str, n: int) -> None:
    X = blobs(n)
    params = {"init": X[:5].copy(), "metric": metric, "max_iter": 20, "tol": 0}
    twice = KMeans(5, **params).fit(np.repeat(X, 2, axis=0))
    weighted = KMeans(5, **params).fit(X, sample_weight=np.full(n, 2.0))
    np.testing.assert_array_equal(twice.labels_[::2], weighted.labels_)
    np.testing.assert_allclose(twice.cluster_centers_, weighted.cluster_centers_, rtol=1e-12)
    assert twice.inertia_ == pytest.approx(weighted.inertia_, rel=1e-12)


def test_more_rows_in_a_cluster_than_float32_can_count() -> None:
    """The mean of 2**24 zeros and as many ones, and one more one."""
    half = 2**24
    X = np.zeros((2 * half + 1, 1), dtype=np.float32)
    X[half:] = 1
    model = KMeans(1, init=[[0.25]], max_iter=1).fit(X)
    assert model.cluster_sizes_.tolist() == [2 * half + 1]
    assert model.cluster_centers_.tolist() == [[np.float32((half + 1) / (2 * half + 1))]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initial_centers_far_from_all_rows(dtype: str) -> None:
    X = np.linspace(0, 1e-3, 50, dtype=dtype)[:, np.newaxis]
    model = KMeans(2, init=np.array([[1e25], [2e25]], dtype=dtype)).fit(X)
    assert min(model.cluster_sizes_) >= 20


@pytest.mark.parametrize("weight", [1e-300, 1e-30, 1e30, 1e250])
def test_weights_of_any_magnitude(weight: float) -> None:
    X = blobs(600) * 1e10
    plain = KMeans(4, init=X[:4].copy()).fit(X)
    weighted = KMeans(4, init=X[:4].copy()).fit(X, sample_weight=np.full(len(X), weight))
    np.testing.assert_array_equal(plain.labels_, weighted.labels_)
    np.testing.assert_allclose(plain.cluster_centers_, weighted.cluster_centers_, rtol=1e-9)


@pytest.mark.parametrize("kind", ["numpy", "pandas", "arrow", "files"])
def test_integers_that_float64_cannot_hold_are_refused(kind: str, tmp_path: Path) -> None:
    values = np.array([2**53 + 1, 0, 5], dtype=np.int64)
    pq.write_table(pa.table({"n": values}), tmp_path / "n.parquet")
    X = {
        "files": tmp_path,
        "numpy": values[:, np.newaxis],
        "pandas": pd.DataFrame({"n": values}),
        "arrow": pa.table({"n": values}),
    }[kind]
    with pytest.raises(DataError, match="9007199254740993"):
        KMeans(2, random_state=0).fit(X)


@pytest.mark.parametrize("kind", ["numpy", "pandas", "arrow"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(kind: str, bad: float) -> None:
    X = np.array([[0.0, 1.0], [2.0, bad], [3.0, 4.0]])
    columns = {"a": X[:, 0], "b": X[:, 1]}
    rows = {"numpy": X, "pandas": pd.DataFrame(columns), "arrow": pa.table(columns)}[kind]
    with pytest.raises(ValueError, match=r"(?i)nan|inf"):
        KMeans(2).fit(rows)
