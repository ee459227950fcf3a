from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distclust.data import ArraySource, as_table_array
from distclust.errors import ConfigError, DataError


@given(n_rows=st.integers(1, 50), n_partitions=st.integers(1, 70))
def test_a_plan_cuts_views_of_almost_equal_length(n_rows: int, n_partitions: int) -> None:
    X = np.arange(n_rows * 2.0).reshape(n_rows, 2)
    source = ArraySource(X, weights=X[:, 0].copy())
    blocks = [block for (block,) in source.plan(n_partitions)]
    sizes = [block.n_rows for block in blocks]
    assert len(blocks) == min(n_rows, n_partitions)
    assert max(sizes) - min(sizes) <= 1
    assert [block.row_start for block in blocks] == [sum(sizes[:i]) for i in range(len(sizes))]
    assert all(np.shares_memory(block.X, X) for block in blocks)
    np.testing.assert_array_equal(np.concatenate([block.X for block in blocks]), X)
    for block in blocks:
        assert block.weights is not None
        np.testing.assert_array_equal(block.weights, block.X[:, 0])
        assert source.load(block).blocks == [block]


def test_a_source_describes_itself() -> None:
    source = ArraySource(np.zeros((3, 2), np.float32), feature_names=("a", "b"))
    assert (source.n_rows, source.n_features, source.dtype) == (3, 2, np.float32)
    assert source.feature_names == ("a", "b")
    assert not source.weighted
    assert source.plan(1)[0][0].weights is None
    with pytest.raises(ConfigError, match="n_partitions=0"):
        source.plan(0)


COLUMNS = {"red": [1, 2], "blue": [0.5, 1.5], "on": [True, False]}


@pytest.mark.parametrize("make", [pa.table, pa.record_batch, pd.DataFrame, pl.DataFrame])
def test_tables_become_arrays_with_names(make: Any) -> None:
    X, names = as_table_array(make(COLUMNS))
    assert names == ("red", "blue", "on")
    assert X.dtype == np.float64
    assert X.flags.c_contiguous
    np.testing.assert_array_equal(X, [[1, 0.5, 1], [2, 1.5, 0]])


@pytest.mark.parametrize("make", [pa.table, pd.DataFrame, pl.DataFrame])
def test_float32_tables_stay_float32(make: Any) -> None:
    X, _ = as_table_array(make({"a": np.ones(3, np.float32), "b": np.ones(3, np.float32)}))
    assert X.dtype == np.float32


@pytest.mark.parametrize("make", [pa.table, pd.DataFrame, pl.DataFrame])
@pytest.mark.parametrize(
    ("value", "problem"), [(float("nan"), "NaN"), (float("inf"), "inf"), (None, "null|NaN")]
)
def test_a_bad_value_names_column_and_row(make: Any, value: Any, problem: str) -> None:
    frame = make({"a": [1.0, 2.0, 3.0], "b": [1.0, value, 3.0]})
    with pytest.raises(DataError, match=f"^column 'b', row 1: the value is ({problem})"):
        as_table_array(frame)


@pytest.mark.parametrize("make", [pa.table, pd.DataFrame, pl.DataFrame])
def test_a_column_of_text_is_named(make: Any) -> None:
    with pytest.raises(DataError, match=r"^column 'b' is .*string"):
        as_table_array(make({"a": [1.0], "b": ["x"]}))


def test_pandas_specialities() -> None:
    frame = pd.DataFrame({"a": pd.array([1, 2], "Int64"), "b": [1.0, 2.0]}, index=["r", "s"])
    np.testing.assert_array_equal(as_table_array(frame)[0], [[1, 1], [2, 2]])
    frame.loc["s", "a"] = pd.NA
    with pytest.raises(DataError, match="column 'a', row 1: the value is null"):
        as_table_array(frame)
    assert as_table_array(pd.DataFrame(np.eye(2)))[1] is None
    repeated = pd.DataFrame(np.eye(2), columns=["a", "a"])
    np.testing.assert_array_equal(as_table_array(repeated)[0], np.eye(2))
    mixed = pd.DataFrame({"a": [1, object()]}, dtype=object)
    with pytest.raises(DataError, match="column 'a' cannot be read as numbers"):
        as_table_array(mixed)


def test_large_integers_are_refused() -> None:
    with pytest.raises(DataError, match=r"column 'n', row 1: integer .* beyond 2\*\*53"):
        as_table_array(pa.table({"n": [0, 2**60]}))


@pytest.mark.parametrize("X", [np.eye(2), [[1.0, 2.0]], "a path", None])
def test_what_is_no_table_is_returned_as_it_is(X: Any) -> None:
    assert as_table_array(X)[0] is X
    assert as_table_array(X)[1] is None
