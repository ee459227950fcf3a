"""Centers are never farther from where they were than their drift says."""

from __future__ import annotations

import numpy as np
import pytest

from distclust.kernels.drift import MOST_REFERENCES, MOST_STEPS, Drift
from distclust.kernels.grouped import BOUNDS, MOST_UNITS, Groups, group_centers

K, D, SCALE = 40, 3, 0.25


def walk(n_steps: int, *, there_and_back: bool = False) -> np.ndarray:
    """Centers at each of some steps, (n_steps, k, d)."""
    rng = np.random.default_rng(0)
    speed = 10.0 ** rng.integers(-9, 2, size=(K, 1))
    steps = rng.normal(size=(n_steps, K, D)) * speed
    steps[:, 3] = 0  # never moves
    if there_and_back:
        steps[1::2] = -steps[0 : n_steps - 1 : 2]
    steps[0] = rng.normal(size=(K, D)) * 20
    return np.cumsum(steps, axis=0)


def distances(centers: np.ndarray, now: np.ndarray) -> np.ndarray:
    return np.sqrt((((centers - now) * SCALE) ** 2).sum(axis=2))


def drift_of(n_rows: int) -> Drift:
    return Drift.none(n_rows, K, D, SCALE)


@pytest.mark.parametrize("n_rows", [0, 2000, 10**6])
@pytest.mark.parametrize("there_and_back", [False, True])
def test_own_is_at_least_how_far_a_center_is(n_rows: int, there_and_back: bool) -> None:
    drift = drift_of(n_rows)
    n_steps = min(40, len(drift.through))
    for step, now in enumerate(centers := walk(n_steps, there_and_back=there_and_back)):
        found = drift.travelled(now)
        assert found.step == step
        exact = distances(centers[:step], now)
        assert (found.own[:step] >= exact).all()
        assert (found.own[:step, 3] == 0).all()
        drift.remember(now)
    assert len(drift.references) == drift.most_references


def test_recent_steps_are_known_exactly_and_earlier_ones_nearly() -> None:
    """However long the way was."""
    drift = drift_of(10**6)
    for now in (centers := walk(100, there_and_back=True)):
        drift.remember(now)
    assert drift.most_references == MOST_REFERENCES
    exact, found = distances(centers, now), drift.travelled(now).own
    way = np.cumsum(distances(np.diff(centers[::-1], axis=0), np.zeros((K, D))), axis=0)[::-1]
    np.testing.assert_allclose(found[-3:], exact[-3:], rtol=1e-5, atol=1e-30)
    assert found[:-1, 5].sum() < way[:, 5].sum() / 2  # the sum of its steps


def test_others_are_the_farthest_of_all_others() -> None:
    drift = drift_of(10**6)
    for now in walk(5):
        drift.remember(now)
    _, own, others = drift.travelled(now)
    for center in range(K):
        np.testing.assert_array_equal(others[:, center], np.delete(own, center, axis=1).max(axis=1))


def test_groups_go_as_far_as_the_farthest_of_theirs() -> None:
    drift, groups = drift_of(10**6), group_centers(walk(1)[0], 50.0)
    for now in walk(5):
        drift.remember(now)
    _, own, others = drift.travelled(now, groups)
    assert others.shape == (5, BOUNDS)
    for group in range(groups.n_groups):
        units = own[:, groups.group_of == group].max(axis=1) * np.float64(groups.per_unit)
        assert (others[:, group] >= np.minimum(units, MOST_UNITS)).all()
        assert (others[:, group] <= units * (1 + 1e-5) + 1.01).all()
    assert (others[:, groups.n_groups :] == 0).all()


@pytest.mark.parametrize("far", [1e30, 1e200])
def test_groups_that_went_farther_than_units_go(far: float) -> None:
    drift, groups = drift_of(1000), Groups(*group_centers(walk(1)[0], 1.0)[:2], per_unit=1e4)
    drift.remember(np.zeros((K, D)))
    travelled = drift.travelled(np.full((K, D), far), groups)
    assert (travelled.others[:, : groups.n_groups] == MOST_UNITS).all()


def test_a_drift_is_full_when_a_byte_is() -> None:
    drift, centers = drift_of(10**6), walk(MOST_STEPS)
    for step, now in enumerate(centers):
        assert not drift.is_full
        assert drift.travelled(now).step == step
        drift.remember(now)
    assert drift.is_full
    anew = drift.anew()
    assert anew.travelled(now).own.shape == (1, K)
    anew.remember(now)
    assert (anew.travelled(now + 3).own >= 3 * SCALE * np.sqrt(D)).all()
    np.testing.assert_allclose(anew.travelled(now + 3).own, 3 * SCALE * np.sqrt(D), rtol=1e-5)


def test_what_is_not_a_number_is_any_way_off() -> None:
    drift, groups = drift_of(1000), group_centers(walk(1)[0], 1.0)
    drift.remember(walk(1)[0])
    lost = walk(1)[0]
    lost[7] = np.nan
    for bounds_on in (None, groups):
        _, own, others = drift.travelled(lost, bounds_on)
        assert (own[:, 7] == np.inf).all()
        assert others[0, 0 if bounds_on is None else groups.group_of[7]] >= MOST_UNITS
