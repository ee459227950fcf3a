"""Majority votes, against scikit-learn's reading of a tie: the lowest label."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from distclust.kernels.vote import majority


@pytest.mark.parametrize("k", [1, 2, 5, 8])
def test_the_most_frequent_label_wins_and_the_lowest_of_equals(k: int) -> None:
    labels = np.random.default_rng(k).integers(-1, 3, (500, k)).astype(np.int32)
    winners, votes = majority(labels)
    expected = stats.mode(labels, axis=1)
    np.testing.assert_array_equal(winners, expected.mode)
    np.testing.assert_array_equal(votes, expected.count)
    assert winners.dtype == votes.dtype == np.int32


def test_by_hand() -> None:
    winners, votes = majority(np.array([[5, 2, 2, 5], [1, -1, 0, 1]], dtype=np.int32))
    assert (winners.tolist(), votes.tolist()) == ([2, 1], [2, 2])
