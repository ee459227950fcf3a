"""From a chunk of a native collection, an array or a table, to rows of floats.

Owns which columns of it are the features, and finding what cannot be clustered; which
chunk it is, and which rows of the input, `distclust.data.collections` knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from distclust.data.blocks import FloatArray
from distclust.data.decode import (
    EXACT_INTEGERS,
    BadValue,
    decode_columns,
    decode_vectors,
    decode_weights,
    is_numeric,
    is_vector,
)
from distclust.data.values import Allowed
from distclust.errors import DataError

__all__ = ["as_table", "check_array", "checked_weights", "column_array", "rows_of", "selected"]

CHECKED_ROWS = 65_536  # rows whose finiteness is looked at in one go
REMEDY = "drop or fill such rows before clustering"


def rows_of(
    chunk: Any,
    n_features: int,
    dtype: np.dtype[Any],
    columns: Sequence[str] | None,
    vector: str | None,
    *,
    allowed: Allowed,
) -> FloatArray:
    """Return the rows of a chunk as floats; an array that already is that is not copied.

    Parameters
    ----------
    chunk : ndarray, Arrow table or pandas frame
    n_features : int
    dtype : dtype
    columns : sequence of str or None
        Columns of a table to read; None reads all.
    vector : str or None
        The column whose lists are the rows, instead.
    allowed : Allowed
        Where NaN is, null is read as it.

    Raises
    ------
    BadValue
        For what cannot be clustered.
    """
    if isinstance(chunk, np.ndarray):
        check_array(chunk, allowed)
        return np.ascontiguousarray(chunk, dtype=dtype)
    table, vector = selected(chunk, columns, vector)
    X = np.empty((table.num_rows, n_features), dtype=dtype)
    if vector is None:
        features = {name: column_array(table, name) for name in table.column_names}
        decode_columns(features, X, allowed=allowed)
    else:
        decode_vectors(vector, column_array(table, vector), X, allowed=allowed)
    return X


def check_array(X: npt.NDArray[Any], allowed: Allowed = Allowed.FINITE) -> None:
    """Refuse values that are not allowed, or that float64 cannot hold.

    Raises
    ------
    BadValue
    """
    for start in range(0, len(X), CHECKED_ROWS):
        rows = X[start : start + CHECKED_ROWS]
        if X.dtype.kind == "f":
            with np.errstate(over="ignore", invalid="ignore"):
                if np.isfinite(rows.sum()):  # far sooner seen than that each value is finite
                    continue
            bad, problem = ~allowed.good(rows), REMEDY
        else:
            bad = (rows > EXACT_INTEGERS) | (rows < -EXACT_INTEGERS)
            problem = "float64 cannot hold it exactly"
        if bad.any():
            row, column = (int(i) for i in np.argwhere(bad)[0])
            raise BadValue(str(column), start + row, f"the value is {rows[row, column]}; {problem}")


def selected(
    chunk: Any, columns: Sequence[str] | None, vector: str | None
) -> tuple[Any, str | None]:
    """Return the table of the features of a chunk, and the vector column if that is it."""
    table = as_table(chunk)
    names = [vector] if vector is not None else list(columns or table.column_names)
    for name in names:
        if name not in table.column_names:
            raise DataError(f"there is no column {name!r} among {table.column_names}")
    table = table.select(names)
    if len(names) == 1 and is_vector(table.field(0).type):
        return table, names[0]
    for field in table.schema:
        if not is_numeric(field.type):
            raise DataError(
                f"column {field.name!r} is {field.type}, expected numbers or one column of "
                "vectors: name the columns to use"
            )
    return table, None


def as_table(chunk: Any) -> Any:
    """Return an Arrow or pandas chunk as an Arrow table."""
    if isinstance(chunk, pa.Table):
        return chunk
    if not hasattr(chunk, "iloc"):
        raise DataError(f"chunks are {type(chunk).__name__}, expected arrays or tables")
    frame = chunk.to_frame() if chunk.ndim == 1 else chunk
    names = [str(name) for name in frame.columns]
    try:
        columns = [pa.array(frame.iloc[:, j], from_pandas=False) for j in range(len(names))]
    except pa.ArrowException as error:
        raise DataError(f"a column cannot be read as numbers: {error}") from error
    return pa.table(columns, names)


def column_array(table: Any, name: str) -> Any:
    """Return a column as one array, out of the extension type it may be in."""
    chunks = table.column(name).chunks
    parts = [part.storage if isinstance(part, pa.ExtensionArray) else part for part in chunks]
    return pa.concat_arrays(parts) if parts else pa.array([], table.schema.field(name).type)


def checked_weights(weights: Any, n_rows: int) -> npt.NDArray[np.float64] | None:
    if weights is None:
        return None
    if np.shape(weights) != (n_rows,):
        raise DataError(f"sample_weight has shape {np.shape(weights)}, expected ({n_rows},)")
    return decode_weights("sample_weight", pa.array(np.asarray(weights)))
