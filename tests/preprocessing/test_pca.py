"""PCA: equal to scikit-learn's, also far from the origin."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import datasets
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.utils.estimator_checks import parametrize_with_checks

import distclust
from distclust.preprocessing.pca import PCA

ATTRIBUTES = (
    "explained_variance_",
    "explained_variance_ratio_",
    "singular_values_",
    "noise_variance_",
    "mean_",
)


@parametrize_with_checks([PCA(), PCA(n_components=1, whiten=True)])
def test_scikit_learn_conventions(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@cache
def data(name: str) -> np.ndarray:
    if name == "blobs":
        return datasets.make_blobs(5000, 20, centers=4, random_state=0)[0]
    return getattr(datasets, f"load_{name}")().data


def close(found: Any, expected: Any, tolerance: float) -> None:
    """Compare relatively to what is greatest."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


DATA = ["iris", "wine", "breast_cancer", "digits", "blobs"]


@pytest.mark.parametrize("offset", [0.0, 1e8])
@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("name", DATA)
def test_equals_scikit_learns(name: str, whiten: bool, offset: float) -> None:
    """Of the directions whose variances float64 can tell from rounding.

    Far from the origin scikit-learn's own digits are gone: it is given the same rows, moved
    back exactly.
    """
    X = data(name) + offset
    back = X - offset
    full = SklearnPCA(svd_solver="full").fit(back)
    k = int((full.explained_variance_ > 1e-4 * full.explained_variance_[0]).sum())
    ours, theirs = PCA(k, whiten=whiten), SklearnPCA(k, whiten=whiten, svd_solver="full")
    found, expected = ours.fit_transform(X), theirs.fit_transform(back)
    for attribute in ATTRIBUTES:
        moved = offset if attribute == "mean_" else 0
        close(getattr(ours, attribute), getattr(theirs, attribute) + moved, 1e-9)
    close(ours.components_, theirs.components_, 1e-9)
    scale = np.sqrt(ours.explained_variance_[-1]) if whiten else 1.0
    rounding = np.linalg.norm(np.spacing(ours.mean_)) / scale  # of a mean, in float64
    tolerance = 1e-9 * np.abs(expected).max() + (rounding if offset else 0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    restored = theirs.inverse_transform(expected) + offset
    close(ours.inverse_transform(found), restored, 1e-9)
    assert ours.n_components_ == theirs.n_components_
    assert ours.n_samples_ == theirs.n_samples_


def test_an_offset_changes_nothing() -> None:
    """Integers move exactly: so do all sums."""
    X = data("digits")
    near, far = PCA().fit(X), PCA().fit(X + 1e8)
    np.testing.assert_array_equal(near.components_, far.components_)
    np.testing.assert_array_equal(near.explained_variance_, far.explained_variance_)
    close(far.transform(X + 1e8), near.transform(X), 1e-9)


@pytest.mark.parametrize("n_components", [0, 1, 3, 13, None, 0.5, 0.9, 0.99999999])
def test_how_many_components(n_components: Any) -> None:
    X = data("wine")
    ours, theirs = PCA(n_components).fit(X), SklearnPCA(n_components).fit(X)
    assert ours.n_components_ == theirs.n_components_
    assert ours.transform(X).shape == theirs.transform(X).shape
    assert ours.noise_variance_ == pytest.approx(theirs.noise_variance_, rel=1e-9)


def test_more_features_than_rows() -> None:
    X = data("digits")[:20]
    ours, theirs = PCA().fit(X), SklearnPCA(svd_solver="full").fit(X)
    assert ours.components_.shape == (20, 64)
    close(ours.explained_variance_, theirs.explained_variance_, 1e-9)
    close(ours.components_[:19], theirs.components_[:19], 1e-9)


@pytest.mark.parametrize("n_components", [-1, 1.5, 14, "all"])
def test_bad_numbers_of_components(n_components: Any) -> None:
    X = data("wine")
    with pytest.raises(ValueError, match="n_components") as found:
        PCA(n_components).fit(X)
    if n_components == 14:
        with pytest.raises(ValueError, match="n_components") as expected:
            SklearnPCA(n_components, svd_solver="covariance_eigh").fit(X)
        assert str(found.value) == str(expected.value)


def test_one_row() -> None:
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        PCA().fit(np.ones((1, 3)))


def test_a_variance_beyond_float64() -> None:
    with pytest.raises(ValueError, match="multiply all values by a power of two"):
        PCA().fit(np.array([[1e200], [-1e200]]))


def test_constant_features() -> None:
    pca = PCA(whiten=True).fit(np.full((5, 2), 7.0))
    np.testing.assert_array_equal(pca.explained_variance_ratio_, [0, 0])
    np.testing.assert_array_equal(pca.transform(np.full((1, 2), 7.0)), [[0, 0]])


def test_float32_rows() -> None:
    X = data("digits").astype(np.float32)
    ours = PCA(10).fit(X)
    found = ours.transform(X)
    assert found.dtype == np.float32
    expected = SklearnPCA(10, svd_solver="full").fit_transform(X.astype(np.float64))
    close(found, expected, 1e-6)
    far = (X + 4096).astype(np.float32)  # no bit is lost, nor may one be here
    np.testing.assert_array_equal(PCA(10).fit(far).transform(far), found)


def test_sparse_rows() -> None:
    X = data("digits")
    dense, sparse = PCA(5).fit(X), PCA(5).fit(sp.csr_matrix(X))
    np.testing.assert_array_equal(sparse.components_, dense.components_)
    np.testing.assert_array_equal(sparse.transform(sp.csr_matrix(X)), dense.transform(X))


@pytest.mark.parametrize("whiten", [False, True])
def test_saved_and_to_sklearn(whiten: bool, tmp_path: Path) -> None:
    X = data("wine")
    pca = PCA(4, whiten=whiten).fit(X)
    pca.save(tmp_path)
    loaded = distclust.load(tmp_path)
    np.testing.assert_array_equal(loaded.transform(X), pca.transform(X))
    np.testing.assert_array_equal(
        loaded.inverse_transform(X[:, :4]), pca.inverse_transform(X[:, :4])
    )
    theirs = pca.to_sklearn()
    close(theirs.transform(X), pca.transform(X), 1e-10)
    close(theirs.get_covariance(), SklearnPCA(4, whiten=whiten).fit(X).get_covariance(), 1e-9)
    assert list(theirs.get_feature_names_out()) == list(pca.get_feature_names_out())
