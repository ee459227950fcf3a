"""Sums of doubles that do not depend on order or grouping."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distclust.kernels.exact_sum import exact_sum, exact_value

finite = st.floats(allow_nan=False, allow_infinity=False)
UNIT = Fraction(1, 2**1074)
LARGEST = np.finfo(np.float64).max
SMALLEST = 5e-324


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0.0),
        ([0.0, -0.0], 0.0),
        ([1.0, 2.0, 3.5], 6.5),
        ([1e100, 1.0, -1e100], 1.0),
        ([0.1] * 10, 1.0),
        ([SMALLEST], SMALLEST),
        ([SMALLEST] * 3, 3 * SMALLEST),
        ([-SMALLEST, 1.0, -1.0], -SMALLEST),
        ([2.0**-1022, -SMALLEST], 2.0**-1022 - SMALLEST),
        ([LARGEST], LARGEST),
        ([LARGEST, LARGEST, -LARGEST], LARGEST),
        ([-LARGEST, 2.0**970, -(2.0**970)], -LARGEST),
        ([1.0, 2.0**-53, 2.0**-106], 1.0 + 2.0**-52),  # just above a tie: rounds up
        ([1.0, 2.0**-53], 1.0),  # a tie: rounds to even
    ],
)
def test_known_sums(values: list[float], expected: float) -> None:
    assert exact_value(exact_sum(np.array(values))) == expected


def test_sum_is_an_integer_multiple_of_the_smallest_double() -> None:
    assert exact_sum(np.array([SMALLEST])) == 1
    assert exact_sum(np.array([-1.0])) == -(2**1074)
    assert exact_sum(np.array([LARGEST])) == (2**53 - 1) * 2 ** (971 + 1074)


@given(st.lists(finite, max_size=60))
def test_equals_rational_arithmetic(values: list[float]) -> None:
    total = exact_sum(np.array(values, dtype=np.float64))
    assert total * UNIT == sum(map(Fraction, values))


@given(st.lists(st.floats(-1e300, 1e300), max_size=60))
def test_rounds_as_fsum_does(values: list[float]) -> None:
    assert exact_value(exact_sum(np.array(values, dtype=np.float64))) == math.fsum(values)


@given(st.lists(finite, max_size=40), st.randoms(use_true_random=False), st.integers(0, 40))
def test_order_and_grouping_do_not_matter(values: list[float], random, cut: int) -> None:
    whole = exact_sum(np.array(values, dtype=np.float64))
    random.shuffle(values)
    left, right = np.array(values[:cut], dtype=np.float64), np.array(values[cut:], dtype=np.float64)
    assert exact_sum(left) + exact_sum(right) == whole


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, 1.0 + 2.0**-52, SMALLEST])
def test_many_equal_values_carry_correctly(value: float) -> None:
    n = 200_000
    assert exact_sum(np.full(n, value)) * UNIT == n * Fraction(value)


@pytest.mark.parametrize(("sign", "expected"), [(1, math.inf), (-1, -math.inf)])
def test_sum_beyond_the_largest_double_is_infinite(sign: int, expected: float) -> None:
    assert exact_value(exact_sum(sign * np.full(2, LARGEST))) == expected
    assert exact_value(exact_sum(np.array([expected]))) == expected  # squares may overflow


def test_strided_and_read_only_values() -> None:
    values = np.arange(20, dtype=np.float64)
    values.flags.writeable = False
    assert exact_value(exact_sum(values)) == 190.0
    assert exact_value(exact_sum(values[::2])) == 90.0
