"""Random projections: scikit-learn's semantics, distances kept, matrices made anew."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import random_projection as sklearn_projections
from sklearn.datasets import load_digits
from sklearn.exceptions import DataDimensionalityWarning, NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import distclust
from distclust.random_projection import (
    GaussianRandomProjection,
    HadamardRandomProjection,
    SparseRandomProjection,
)

KINDS = [GaussianRandomProjection, SparseRandomProjection, HadamardRandomProjection]


@parametrize_with_checks([kind(n_components=2) for kind in KINDS])
def test_scikit_learn_conventions(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


def dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sp.issparse(matrix) else matrix


def rows(n: int = 60, d: int = 40, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, d)).astype(dtype)


# What comes out --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_times_the_matrix(kind: Any, dtype: str) -> None:
    X = rows(dtype=dtype)
    projection = kind(n_components=7, random_state=3).fit(X)
    found = projection.transform(X)
    assert found.dtype == X.dtype
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(found, X @ dense(projection.components_).T, atol=tolerance)
    assert list(projection.get_feature_names_out())[-1] == f"{kind.__name__.lower()}6"


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_is_a_matrix(kind: Any) -> None:
    first, again, other = (kind(n_components=5, random_state=s).fit(rows()) for s in (0, 0, 1))
    np.testing.assert_array_equal(dense(first.components_), dense(again.components_))
    assert (dense(first.components_) != dense(other.components_)).any()


@pytest.mark.parametrize(
    "projection",
    [
        GaussianRandomProjection(random_state=0),
        SparseRandomProjection(random_state=0),
        SparseRandomProjection(density=1 / 3, random_state=0),
        HadamardRandomProjection(random_state=0),
    ],
    ids=["Gaussian", "Li", "Achlioptas", "Hadamard"],
)
@pytest.mark.parametrize("of", ["noise", "digits", "spikes"])
def test_distances_are_kept(projection: Any, of: str) -> None:
    """At the Johnson-Lindenstrauss size, 99 of 100 squared distances are within eps."""
    n, d, eps = 300, 3000, 0.2
    rng = np.random.default_rng(1)
    X = rng.standard_normal((n, d))
    if of == "digits":  # neighboring pixels alike, many zeros, and far from the origin
        X = np.tile(load_digits().data[:n], (1, 47))[:, :d] + 100.0
    elif of == "spikes":  # few nonzeros: what a sparse matrix sees least of
        X = np.where(rng.random((n, d)) < 0.02, X, 0.0)
    Y = projection.set_params(eps=eps).fit_transform(X)
    assert Y.shape == (n, sklearn_projections.johnson_lindenstrauss_min_dim(n, eps=eps))
    a, b = rng.integers(n, size=(2, 10_000))
    a, b = a[a != b], b[a != b]
    before, after = (((Z[a] - Z[b]) ** 2).sum(axis=1) for Z in (X, Y))
    assert (np.abs(after / before - 1) <= eps).mean() >= 0.99


def test_entries_are_as_scikit_learn_draws_them() -> None:
    shape, m = (5, 2000), 400
    X = np.zeros(shape)
    gaussian = GaussianRandomProjection(m, random_state=0).fit(X).components_
    assert abs(gaussian.std() * np.sqrt(m) - 1) < 0.01
    sparse = SparseRandomProjection(m, density=0.1, random_state=0).fit(X)
    assert sp.issparse(sparse.components_)
    assert abs(sparse.components_.nnz / (2000 * m) - 0.1) < 0.005
    np.testing.assert_allclose(np.abs(sparse.components_.data), np.sqrt(10 / m))
    assert sparse.set_params(density="auto").fit(X).density_ == 1 / np.sqrt(2000)
    hadamard = HadamardRandomProjection(m, random_state=0).fit(X).components_
    np.testing.assert_allclose(np.abs(hadamard), 1 / np.sqrt(m))


# Parameters and messages -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GaussianRandomProjection, sklearn_projections.GaussianRandomProjection),
        (SparseRandomProjection, sklearn_projections.SparseRandomProjection),
    ],
)
@pytest.mark.parametrize(
    ("n", "params"),
    [(1, {}), (1000, {"eps": 0.1}), (50, {"eps": 0.0}), (50, {"n_components": 0})],
    ids=["one row", "too many components", "eps", "none"],
)
def test_errors_are_scikit_learns(ours: Any, theirs: Any, n: int, params: Any) -> None:
    with pytest.raises(ValueError) as expected:  # noqa: PT011 - its message is what is compared
        theirs(**params).fit(np.ones((n, 20)))
    with pytest.raises(ValueError) as found:  # noqa: PT011 - ditto
        ours(**params).fit(np.ones((n, 20)))
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("kind", KINDS)
def test_more_components_than_features(kind: Any) -> None:
    with pytest.warns(DataDimensionalityWarning, match="higher than the number of features"):
        assert kind(n_components=12).fit_transform(rows(d=10)).shape == (60, 12)


def test_a_hadamard_transform_has_only_so_many_values() -> None:
    too_many = HadamardRandomProjection(n_components=65)
    with (
        pytest.warns(DataDimensionalityWarning),
        pytest.raises(ValueError, match="should be at most 64: the Hadamard transform of 40"),
    ):
        too_many.fit(rows())


@pytest.mark.parametrize("kind", KINDS)
def test_no_matrix_before_a_fit(kind: Any) -> None:
    with pytest.raises(NotFittedError):
        _ = kind().components_


# Back, and elsewhere ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ahead", [False, True])
def test_inverse(kind: Any, ahead: bool) -> None:
    X = rows()
    projection = kind(n_components=9, compute_inverse_components=ahead, random_state=0).fit(X)
    assert hasattr(projection, "inverse_components_") == ahead
    Y = projection.transform(X)
    back = projection.inverse_transform(Y)
    np.testing.assert_allclose(back, Y @ np.linalg.pinv(dense(projection.components_)).T)
    np.testing.assert_allclose(projection.transform(back), Y, atol=1e-12)
    np.testing.assert_allclose(projection.to_sklearn().inverse_transform(Y), back, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_to_sklearn(kind: Any) -> None:
    X = rows()
    projection = kind(n_components=9, random_state=0).fit(X)
    theirs = projection.to_sklearn()
    assert type(theirs).__module__.startswith("sklearn.random_projection")
    np.testing.assert_allclose(theirs.transform(X), projection.transform(X), atol=1e-13)
    assert theirs.get_feature_names_out().shape == (9,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("random_state", [0, None, np.random.RandomState(5)])
def test_a_saved_projection_is_a_seed(kind: Any, random_state: Any, tmp_path: Path) -> None:
    X = rows()
    projection = kind(3, compute_inverse_components=True, random_state=random_state).fit(X)
    projection.save(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["arrays"] == {}
    loaded = distclust.load(tmp_path)
    np.testing.assert_array_equal(loaded.transform(X), projection.transform(X))
    np.testing.assert_array_equal(loaded.inverse_components_, projection.inverse_components_)


# Sparse rows -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("dense_output", [False, True])
def test_sparse_rows(kind: Any, dtype: str, dense_output: bool) -> None:
    X = rows(dtype=dtype)
    X[np.abs(X) < 1] = 0
    projection = kind(n_components=7, random_state=0)
    if kind is SparseRandomProjection:
        projection.set_params(dense_output=dense_output)
    expected, found = projection.fit_transform(X), projection.transform(sp.csr_matrix(X))
    assert sp.issparse(found) == (kind is SparseRandomProjection and not dense_output)
    np.testing.assert_array_equal(dense(found), expected)


@pytest.mark.parametrize("kind", [GaussianRandomProjection, SparseRandomProjection])
def test_sparse_rows_out_of_order(kind: Any) -> None:
    X = sp.csr_matrix((np.array([1.0, 2.0, 3.0]), np.array([7, 2, 7]), np.array([0, 3])), (1, 40))
    projection = kind(n_components=7, random_state=0).fit(X)
    found = projection.transform(X)
    np.testing.assert_array_equal(dense(found), dense(projection.transform(X.toarray())))
    assert X.nnz == 3  # the input is left as it was


def test_zeros_of_a_sparse_matrix_may_be_skipped() -> None:
    X = rows(d=500)
    sparse = SparseRandomProjection(n_components=200, density=0.05, random_state=0).fit(X)
    products = X[:, None, :] * sparse.components_.toarray()
    np.testing.assert_allclose(sparse.transform(X), products.sum(axis=2), atol=1e-12)


def test_few_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        GaussianRandomProjection(n_components=3, random_state=0).fit_transform(rows())
