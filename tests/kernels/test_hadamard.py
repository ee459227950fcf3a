"""The subsampled randomised Hadamard transform, beside the matrix that it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import hadamard

from distclust.kernels.hadamard import BUTTERFLY, hadamard_project, hadamard_rows
from distclust.kernels.random_matrix import random_signs, random_subset


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "d"), [(16, 1), (16, 16), (32, 17), (64, 50), (128, 128), (1024, 1000)]
)
def test_is_a_product_with_signs(size: int, d: int, dtype: str) -> None:
    X = np.random.default_rng(d).integers(-50, 50, (9, d)).astype(dtype)  # sums are exact
    signs, subset = random_signs(1, d).astype(dtype), random_subset(1, size, min(size, 7))
    matrix = hadamard(size)[subset, :d]
    np.testing.assert_array_equal(hadamard_rows(subset, d), matrix)
    found = hadamard_project(X, signs, subset, 0.5, size)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, (X * signs) @ matrix.T * 0.5)


def test_every_value_is_a_sum_of_two_others_in_a_fixed_network() -> None:
    X = np.random.default_rng(0).standard_normal((1, 4 * BUTTERFLY))
    line = X[0].copy()
    half = 1
    while half < len(line):
        pairs = line.reshape(-1, 2, half)
        sums = [pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]]
        line, half = np.stack(sums, axis=1).ravel(), 2 * half
    every = np.arange(len(line))
    found = hadamard_project(X, np.ones(len(line)), every, 1.0, len(line))
    np.testing.assert_array_equal(found[0], line)
