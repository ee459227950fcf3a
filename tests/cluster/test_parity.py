"""From the same initial centers, scikit-learn's answer; where it differs, an exact tie."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from sklearn import datasets
from sklearn.cluster import KMeans as SklearnKMeans

from distclust import KMeans
from tests.cluster.helpers import blobs, row_weights

SETS: dict[str, tuple[Any, int]] = {
    "iris": (lambda: datasets.load_iris().data, 3),
    "wine": (lambda: datasets.load_wine().data, 3),
    "breast cancer": (lambda: datasets.load_breast_cancer().data, 2),
    "blobs": (lambda: datasets.make_blobs(2000, 4, centers=5, random_state=0)[0], 5),
    "overlapping": (lambda: np.random.default_rng(0).normal(size=(3000, 6)), 12),
}


def initial(X: np.ndarray, k: int, seed: int = 0) -> np.ndarray:
    return X[np.random.default_rng(seed).choice(len(X), k, replace=False)].astype(np.float64)


def theirs(k: int, init: np.ndarray, **params: Any) -> SklearnKMeans:
    return SklearnKMeans(k, init=init, n_init=1, algorithm="lloyd", **params)


def assert_same_fit(ours: KMeans, reference: SklearnKMeans) -> None:
    np.testing.assert_array_equal(ours.labels_, reference.labels_)
    np.testing.assert_allclose(
        ours.cluster_centers_, reference.cluster_centers_, rtol=1e-10, atol=1e-10
    )
    assert ours.inertia_ == pytest.approx(reference.inertia_, rel=1e-10)
    assert ours.n_iter_ == reference.n_iter_


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("tol", [0.0, 1e-4])
@pytest.mark.parametrize("weighted", [False, True])
def test_float64_fit_equals_scikit_learn(name: str, tol: float, weighted: bool) -> None:
    load, k = SETS[name]
    X = load()
    weights = np.random.default_rng(1).uniform(0.5, 2, len(X)) if weighted else None
    for seed in (0, 1):
        init = initial(X, k, seed)
        reference = theirs(k, init, tol=tol).fit(X, sample_weight=weights)
        ours = KMeans(k, init=init, tol=tol, n_partitions=3).fit(X, sample_weight=weights)
        assert_same_fit(ours, reference)


@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_stopping_early_equals_scikit_learn(max_iter: int) -> None:
    X = np.array(blobs())
    init = initial(X, 6)
    reference = theirs(6, init, max_iter=max_iter, tol=0).fit(X)
    ours = KMeans(6, init=init, max_iter=max_iter, tol=0).fit(X)
    assert_same_fit(ours, reference)
    assert ours.n_iter_ == max_iter


def test_float32_fit_agrees_with_scikit_learn() -> None:
    X = np.array(blobs(dtype="float32"))
    init = initial(X, 6)
    reference = theirs(6, init.astype(np.float32)).fit(X)
    ours = KMeans(6, init=init).fit(X)
    assert ours.cluster_centers_.dtype == np.float32
    assert (ours.labels_ == reference.labels_).mean() > 0.999
    np.testing.assert_allclose(ours.cluster_centers_, reference.cluster_centers_, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_transform_score_and_predict_agree_with_scikit_learn(dtype: str) -> None:
    X, weights = np.array(blobs(dtype=dtype)), row_weights()
    init = initial(X, 6).astype(dtype)
    ours, reference = KMeans(6, init=init).fit(X), theirs(6, init).fit(X)
    reference.cluster_centers_ = ours.cluster_centers_.copy()
    rel = 1e-5 if dtype == "float32" else 1e-12
    found = ours.transform(X)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, reference.transform(X), rtol=rel * 10, atol=rel * 10)
    np.testing.assert_array_equal(found.argmin(axis=1), ours.predict(X))
    assert ours.score(X) == pytest.approx(reference.score(X), rel=rel)
    assert ours.score(X) == -ours.inertia_
    expected = reference.score(X, sample_weight=weights)
    assert ours.score(X, sample_weight=weights) == pytest.approx(expected, rel=rel)
    np.testing.assert_array_equal(ours.predict(X), reference.predict(X))
    np.testing.assert_array_equal(ours.fit_transform(X), ours.transform(X))
    np.testing.assert_array_equal(ours.fit_predict(X), ours.labels_)


# Integer data, where rows can be equally far from two centers -----------------------------


def exact_sq_dist(row: np.ndarray, members: np.ndarray) -> Fraction:
    """Squared distance of an integer row to the mean of integer rows, without rounding."""
    n, total = len(members), members.sum(axis=0)
    return sum(
        (Fraction(int(x)) - Fraction(int(t), n)) ** 2 for x, t in zip(row, total, strict=True)
    )


def first_difference_is_a_tie(X: np.ndarray, k: int, init: np.ndarray, steps: int) -> int | None:
    """Run both one step at a time; at the first differing label, demand an exact tie.

    Centers of a step are means of the integer rows of the step before (the rows that
    both agreed on), so distances are known as fractions. Returns the step, or None.
    """
    integers = X.astype(np.int64)
    agreed: np.ndarray | None = None
    for step in range(steps + 1):
        params = {"tol": 0.0, "max_iter": max(step, 1)}
        if step == 0:
            ours = KMeans(k, init=init, max_iter=1).fit(X)
            reference = theirs(k, init, max_iter=1).fit(X)
            mean = X.mean(axis=0)  # where scikit-learn fits from
            ours.cluster_centers_, reference.cluster_centers_ = init, init - mean
            mine, other = ours.predict(X), reference.predict(X - mean)
        else:
            mine = KMeans(k, init=init, **params).fit(X).labels_
            other = theirs(k, init, **params).fit(X).labels_
        different = np.flatnonzero(mine != other)
        if len(different):
            row = int(different[0])
            a, b = int(mine[row]), int(other[row])
            groups = (
                [init[[c]].astype(np.int64) for c in (a, b)]
                if agreed is None
                else [integers[agreed == c] for c in (a, b)]
            )
            one, two = (exact_sq_dist(integers[row], group) for group in groups)
            assert one == two, f"row {row}: {float(one)} to center {a}, {float(two)} to {b}"
            return step
        agreed = mine
    return None


@pytest.mark.parametrize("seed", range(3))
def test_digits_differ_from_scikit_learn_only_by_a_tie(seed: int) -> None:
    X = datasets.load_digits().data
    first_difference_is_a_tie(X, 10, initial(X, 10, seed), steps=6)


@pytest.mark.parametrize("k", [4, 16])
def test_pixels_differ_from_scikit_learn_only_by_a_tie(k: int) -> None:
    pytest.importorskip("PIL")
    X = datasets.load_sample_image("china.jpg").reshape(-1, 3)[::7].astype(np.float64)
    distinct = np.unique(X, axis=0)
    first_difference_is_a_tie(X, k, initial(distinct, k), steps=4)


def test_a_tie_of_pixels_goes_to_the_lowest_index() -> None:
    """Both centers are 50 away from the row between them."""
    X = np.array([[0.0], [100.0], [50.0]])
    for init in ([[0.0], [100.0]], [[100.0], [0.0]]):
        model = KMeans(2, init=np.array(init)).fit(X)
        assert model.labels_[2] == 0
        assert model.cluster_centers_[0] == (init[0][0] + 50) / 2
