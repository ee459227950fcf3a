"""Rows as 16-bit integers: what they say is within their bounds, and labels are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from distclust.kernels.assign import CenterTable, center_table, nearest_labels
from distclust.kernels.coded import CodedCenters, Codes, coded_words, encode
from distclust.kernels.drift import Travelled
from distclust.kernels.lloyd import ClusterStats, Counts, Memory, lloyd_step
from distclust.kernels.scaling import FixedPoint, Frame, extremes

N = 700  # more than one vector, and a part of one


def rows(d: int, dtype: str, seed: int = 0, n: int = N) -> npt.NDArray[Any]:
    """Overlapping rows of features of different scales."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 10, d) + 100
    return np.ascontiguousarray(X, dtype=dtype)


def frame_of(X: npt.NDArray[Any]) -> Frame:
    middle = X.mean(axis=0, dtype=np.float64).astype(X.dtype).astype(np.float64)
    return Frame.around(middle, float(np.sqrt(((X - middle) ** 2).sum(axis=1).max())))


def coded(X: npt.NDArray[Any], frame: Frame) -> Codes:
    words = np.full((len(X), coded_words(X.shape[1])), -1, np.int32)  # what is not written shows
    return Codes(frame, words, encode(X, frame, words))


def decoded(codes: Codes, d: int) -> npt.NDArray[np.float64]:
    """Return the rows that codes stand for, as seen through the frame."""
    units = codes.words.view(np.float32)[:, -2].astype(np.float64)
    return codes.words[:, :-2].copy().view(np.int16)[:, :d] * units[:, np.newaxis]


def labels_by_codes(
    X: npt.NDArray[Any], table: CenterTable, frame: Frame
) -> tuple[npt.NDArray[np.int32], Counts]:
    """Take one step from nothing."""
    rounding = FixedPoint.around(frame.offset, extremes(X, None), weighted=False)
    k, d = table.exact.shape
    memory = Memory.blank(len(X))
    codes = coded(X, frame)
    centers = codes.words, CodedCenters.of(table, codes.error)
    counts = lloyd_step(
        X, None, table, rounding, Travelled.none(), memory, ClusterStats.empty(k, d), coded=centers
    )
    return memory.labels, counts


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [16, 17, 50])
def test_codes_are_rows_to_half_a_unit(d: int, dtype: str) -> None:
    X = rows(d, dtype)
    X[3] = X.mean(axis=0)
    X[4] = frame_of(X).offset  # no norm at all
    frame = frame_of(X)
    codes = coded(X, frame)
    floats = codes.words.view(np.float32)
    seen = (X.astype(np.float64) - frame.offset) * frame.scale
    away = np.abs(decoded(codes, d) - seen) / floats[:, -2:-1]
    assert (away <= 0.51).all()
    farthest = np.sqrt((away**2).sum(axis=1)).max()
    assert farthest <= codes.error < 1.1 * farthest + 0.1
    np.testing.assert_allclose(floats[:, -1], (seen**2).sum(axis=1), rtol=1e-5, atol=1e-12)
    if d % 2:
        assert (codes.words[:, :-2].copy().view(np.int16)[:, -1] == 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("d", "k"), [(16, 2), (17, 9), (50, 10), (50, 23)])
def test_labels_are_canonical(d: int, k: int, dtype: str) -> None:
    X = rows(d, dtype)
    frame, table = frame_of(X), center_table(X[:k], frame_of(X))
    labels, counts = labels_by_codes(X, table, frame)
    np.testing.assert_array_equal(labels, nearest_labels(X, table))
    assert counts.seen == N
    assert counts.doubtful < N / 20


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_codes_cannot_tell_apart_is_looked_at_again(dtype: str) -> None:
    """Centers nearer to each other than a unit, centers twice, and rows far out."""
    X = rows(20, dtype)
    X[:7] *= 1000
    centers = np.repeat(X[10:14], 3, axis=0)
    centers[1::3] += np.array(1e-4, dtype)
    frame = frame_of(X)
    table = center_table(centers, frame)
    labels, counts = labels_by_codes(X, table, frame)
    np.testing.assert_array_equal(labels, nearest_labels(X, table))
    assert counts.doubtful > N / 2
    assert not np.isin(labels, [2, 5, 8, 11]).any()  # of equals, the first


@pytest.mark.parametrize("every", [1, 3, 40])
def test_rows_in_doubt_wait_for_more_across_tiles(every: int) -> None:
    """All are looked at, however many there are in a tile of 2,048."""
    X = rows(20, "float32", n=7001)
    X[::every] = X[5]  # as far from either of two centers
    centers = X[10:16].copy()
    centers[2] = centers[4] = X[5] + np.float32(1e-4)
    frame = frame_of(X)
    table = center_table(centers, frame)
    labels, counts = labels_by_codes(X, table, frame)
    np.testing.assert_array_equal(labels, nearest_labels(X, table))
    assert counts.doubtful >= len(range(0, 7001, every))


@pytest.mark.parametrize("far", [1e15, 1e25])
def test_centers_far_away(far: float) -> None:
    X = rows(18, "float32")
    centers = X[:6].copy()
    centers[2], centers[4, 0] = far, -far
    frame = frame_of(X)
    table = center_table(centers, frame)
    labels, counts = labels_by_codes(X, table, frame)
    np.testing.assert_array_equal(labels, nearest_labels(X, table))
    assert counts.doubtful == N or far < 1e18


def test_products_are_exact_at_the_greatest() -> None:
    """One feature of the norm's whole size: the largest integers there are."""
    X = np.zeros((N, 16), np.float32)
    X[:, 5] = np.where(np.arange(N) % 2, 1.0, -1.0)
    frame = Frame(np.zeros(16), 1.0)
    table = center_table(X[:2].copy(), frame)
    labels, counts = labels_by_codes(X, table, frame)
    np.testing.assert_array_equal(labels, np.arange(N) % 2)
    assert counts.doubtful == 0


@pytest.mark.thorough
@pytest.mark.parametrize(("cpu", "features"), [("haswell", "+avx2,+fma"), ("nehalem", "+sse4.2")])
def test_processors_without_the_instruction(cpu: str, features: str, tmp_path: Path) -> None:
    """The other tests of this module, and of memory in K-Means, compiled for other processors."""
    others = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    env = {**os.environ, **others, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [__file__, str(Path(__file__).with_name("test_lloyd.py"))]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
