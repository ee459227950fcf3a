"""Arrays and tables in memory as a source of partitions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from distclust.data.blocks import DENSE_CELLS, PIECE_CELLS, Block, FloatArray, Partition
from distclust.data.decode import BadValue, decode_columns, feature_dtype, is_numeric
from distclust.data.values import Allowed
from distclust.errors import ConfigError, DataError

__all__ = ["ArraySource", "as_table_array"]


class ArraySource:
    """The rows of an array that is already validated.

    Parameters
    ----------
    X : ndarray of shape (n_rows, n_features), float32 or float64, C order
    weights : ndarray of shape (n_rows,), float64, optional
    feature_names : tuple of str, optional
    """

    def __init__(
        self,
        X: FloatArray,
        weights: npt.NDArray[np.float64] | None = None,
        feature_names: tuple[str, ...] | None = None,
    ) -> None:
        self.X = X
        self.weights = weights
        self.feature_names = feature_names

    @property
    def n_rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def n_features(self) -> int:
        return int(self.X.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.X.dtype

    @property
    def weighted(self) -> bool:
        return self.weights is not None

    def plan(self, n_partitions: int) -> list[tuple[Block]]:
        """Cut the rows into contiguous blocks that differ by one row at most.

        Returns
        -------
        list of (Block,)
            Views of the array; none is empty.

        Raises
        ------
        ConfigError
            `n_partitions` is less than one.
        """
        if n_partitions < 1:
            raise ConfigError(f"n_partitions={n_partitions} should be at least 1")
        n = min(n_partitions, self.n_rows)
        bounds = [i * self.n_rows // n for i in range(n + 1)]
        return [(self._block(bounds[i], bounds[i + 1]),) for i in range(n)]

    @staticmethod
    def load(block: Block) -> Partition:
        """Hold a block as a partition."""
        return Partition([block])

    @staticmethod
    def spans(block: Block) -> list[tuple[int, int]]:
        """Return first row id and number of rows of the one block."""
        return [(block.row_start, block.n_rows)]

    @staticmethod
    def stream(block: Block) -> Iterator[Block]:
        """Yield views of a few rows."""
        return block.cut(DENSE_CELLS if block.is_sparse else PIECE_CELLS)

    @staticmethod
    def place_of(row_id: int, block: Block) -> str:
        """Say where a row is."""
        return f"row {row_id} of the input"

    def allowing(self, allowed: Allowed) -> ArraySource:
        """Return the source itself: whoever validated the array decided on its values."""
        return self

    def _block(self, start: int, stop: int) -> Block:
        weights = None if self.weights is None else self.weights[start:stop]
        return Block(self.X[start:stop], start, weights)


def as_table_array(X: Any, allowed: Allowed = Allowed.FINITE) -> tuple[Any, tuple[str, ...] | None]:
    """Turn an Arrow table or a pandas or polars frame into an array.

    Parameters
    ----------
    X : pyarrow.Table, pyarrow.RecordBatch, pandas or polars DataFrame, or anything
        What is not a table is returned as it is.
    allowed : Allowed
        Where NaN is, null becomes it.

    Returns
    -------
    X : ndarray of shape (n_rows, n_features)
        C order; float32 if every column is float32 or float16, else float64.
    feature_names : tuple of str, or None
        None when `X` is not a table or its names are not all strings.

    Raises
    ------
    DataError
        A column is not numeric, or a value is not allowed. Names column and row.

    Examples
    --------
    >>> import pyarrow as pa
    >>> as_table_array(pa.table({"red": [1, 2], "blue": [0.5, 1.5]}))
    (array([[1. , 0.5],
           [2. , 1.5]]), ('red', 'blue'))
    """
    table = _as_table(X)
    if table is None:
        return X, None
    names = tuple(getattr(X, "columns", ())) if _is_pandas(X) else tuple(table.column_names)
    kinds = [field.type for field in table.schema]
    for name, kind in zip(names, kinds, strict=True):
        if not is_numeric(kind):
            raise DataError(
                f"column {name!r} is {kind}, expected floats, integers, booleans or decimals; "
                "drop it or convert it to numbers"
            )
    out = np.empty((table.num_rows, len(names)), dtype=feature_dtype(kinds))
    for j, name in enumerate(names):
        column = table.column(j).combine_chunks()
        try:
            decode_columns({str(name): column}, out[:, j : j + 1], allowed=allowed)
        except BadValue as bad:
            raise DataError(f"column {bad.column!r}, row {bad.row}: {bad.problem}") from None
    return out, names if all(isinstance(name, str) for name in names) else None


def _as_table(X: Any) -> Any:
    if isinstance(X, pa.Table):
        return X
    if isinstance(X, pa.RecordBatch):
        return pa.Table.from_batches([X])
    if _is_pandas(X):
        return _from_pandas(X)
    if hasattr(X, "__arrow_c_stream__") and hasattr(X, "columns"):
        return pa.table(X)
    return None


def _is_pandas(X: Any) -> bool:
    return hasattr(X, "iloc") and hasattr(X, "dtypes") and hasattr(X, "columns")


def _from_pandas(frame: Any) -> Any:
    """Convert by position: names of a pandas frame may repeat or not be strings."""
    arrays = []
    for j, name in enumerate(frame.columns):
        try:
            arrays.append(pa.array(frame.iloc[:, j], from_pandas=False))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"column {name!r} cannot be read as numbers: {error}") from error
    columns = [array if isinstance(array, pa.Array) else array.combine_chunks() for array in arrays]
    return pa.Table.from_arrays(columns, names=[str(name) for name in frame.columns])
