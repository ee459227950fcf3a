"""Random matrices: entries depend on their place alone, and are distributed as they say."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from distclust.kernels.random_matrix import (
    normal_matrix,
    random_signs,
    random_subset,
    sparse_signs,
)


def dense(seed: int, shape: tuple[int, int], density: float) -> np.ndarray:
    indptr, indices, data = sparse_signs(seed, shape, density)
    return sp.csr_matrix((data, indices, indptr), shape).toarray()


def test_normal_deviates() -> None:
    deviates = normal_matrix(1, (500, 400))
    assert stats.kstest(deviates.ravel(), "norm").pvalue > 0.01
    assert abs((deviates**4).mean() - 3) < 0.1
    for lines in (deviates, deviates.T):  # entries of other rows and columns are independent
        correlations = np.corrcoef(lines)[np.triu_indices(len(lines), 1)]
        assert abs(correlations.mean()) < 1e-3
        assert abs(correlations.std() * np.sqrt(lines.shape[1]) - 1) < 0.02


@pytest.mark.parametrize("seed", [0, 5])
def test_an_entry_does_not_depend_on_the_shape(seed: int) -> None:
    np.testing.assert_array_equal(
        normal_matrix(seed, (3, 4)), normal_matrix(seed, (20, 30))[:3, :4]
    )
    np.testing.assert_array_equal(dense(seed, (3, 4), 0.4), dense(seed, (20, 30), 0.4)[:3, :4])
    np.testing.assert_array_equal(random_signs(seed, 9), random_signs(seed, 90)[:9])


def test_seeds_differ() -> None:
    assert (normal_matrix(0, (5, 5)) != normal_matrix(1, (5, 5))).all()


def test_bits_are_what_they_always_were() -> None:
    """A saved model is a seed: were this to change, it would be another projection."""
    digest = hashlib.sha256(normal_matrix(42, (7, 11)).tobytes())
    for array in sparse_signs(42, (7, 11), 0.3):
        digest.update(array.tobytes())
    digest.update(random_signs(42, 11).tobytes())
    digest.update(random_subset(42, 16, 7).tobytes())
    assert digest.hexdigest() == (
        "b98b2f3f1f46c48012a9c2d326c047ccd8b005c4ff4a61f703a248879f384ce0"
    )


@pytest.mark.parametrize("density", [1 / 3, 0.02, 1.0])
def test_sparse_signs(density: float) -> None:
    signs = dense(3, (300, 500), density)
    assert {*np.unique(signs)} <= {-1.0, 0.0, 1.0}
    n = signs.size
    assert abs((signs != 0).mean() - density) <= 4 * np.sqrt(density * (1 - density) / n)
    assert abs(signs.mean()) < 4 * np.sqrt(density / n)


def test_subset() -> None:
    subset = random_subset(0, 100, 40)
    assert len({*subset.tolist()}) == 40
    assert (np.diff(subset) > 0).all()
    assert subset.min() >= 0
    assert subset.max() < 100
