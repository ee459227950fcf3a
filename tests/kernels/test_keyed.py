"""Random numbers that belong to rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distclust.kernels.keyed import keyed_below, keyed_uniform

N = 100_000
MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def mixed(z: int) -> int:
    """The finaliser of splitmix64, in Python's integers."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def unmixed(z: int) -> int:
    """The inverse of `mixed`."""
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        z ^= (z >> shift) ^ (z >> 2 * shift)
        z = z * pow(factor, -1, 2**64) & MASK
    return z


def test_numbers_are_pinned() -> None:
    """A saved seed means the same rows in every later version."""
    key = mixed(mixed(7 + GOLDEN) + 2 * GOLDEN & MASK)
    expected = [mixed(mixed(key + row * GOLDEN & MASK) + GOLDEN & MASK) for row in (10, 11, 12)]
    found = keyed_uniform(7, 2, 10, 3)
    np.testing.assert_allclose(found, [z / 2**64 for z in expected], rtol=0, atol=2.0**-51)


@given(
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**31),
    st.integers(0, 2**60),
    st.integers(0, 300),
    st.lists(st.integers(0, 300), max_size=4),
)
def test_cutting_rows_into_partitions_changes_nothing(
    seed: int, stage: int, start: int, n_rows: int, cuts: list[int]
) -> None:
    whole = keyed_uniform(seed, stage, start, n_rows)
    bounds = [0, *sorted(min(cut, n_rows) for cut in cuts), n_rows]
    parts = [
        keyed_uniform(seed, stage, start + low, high - low)
        for low, high in itertools.pairwise(bounds)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(("seed", "stage", "start"), [(0, 0, 0), (1, 0, 0), (0, 1, 10**12)])
def test_numbers_are_uniform(seed: int, stage: int, start: int) -> None:
    numbers = keyed_uniform(seed, stage, start, N)
    assert 0 < numbers.min() <= numbers.max() < 1
    assert len(np.unique(numbers)) == N
    assert stats.kstest(numbers, "uniform").pvalue > 1e-3
    low_bits = np.mod(numbers * 2**40, 1.0)  # not only the leading bits are random
    assert stats.kstest(low_bits, "uniform").pvalue > 1e-3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, 0, 0), (0, 1, 0)),  # another stage
        ((0, 3, 0), (0, 4, 0)),
        ((0, 0, 0), (1, 0, 0)),  # another seed
        ((0, 1, 0), (1, 0, 0)),  # seed and stage are not interchangeable
        ((0, 0, 0), (0, 0, 1)),  # the next row
        ((0, 0, 0), (0, 0, 2**32)),
    ],
)
def test_seeds_stages_and_rows_are_independent(
    one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    a, b = keyed_uniform(*one, N), keyed_uniform(*other, N)
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(N)
    both = np.histogram2d(a, b, bins=8, range=((0, 1), (0, 1)))[0]
    assert stats.chisquare(both.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("bits", [0, MASK], ids=["all zeros", "all ones"])
def test_the_interval_is_open(bits: int) -> None:
    """Of the rows with these random bits, the first: its logarithm is finite and not zero."""
    key = mixed(mixed(GOLDEN))
    rows = (
        (unmixed(unmixed(bits ^ low) - GOLDEN & MASK) - key) * pow(GOLDEN, -1, 2**64) & MASK
        for low in range(2048)
    )
    row = next(row for row in rows if row < 2**62)
    assert 0 < keyed_uniform(0, 0, row, 1)[0] < 1


@pytest.mark.parametrize("n_rows", [0, 1, 1023, 1024, 5000])
@pytest.mark.parametrize("limit", [0.0, 0.01, 0.5, 2.0, np.inf])
def test_numbers_below_a_limit(n_rows: int, limit: float) -> None:
    numbers = keyed_uniform(3, 5, 10**9, n_rows)
    which, found = keyed_below(3, 5, 10**9, n_rows, limit)
    np.testing.assert_array_equal(which, np.flatnonzero(numbers < limit))
    np.testing.assert_array_equal(found, numbers[which])
