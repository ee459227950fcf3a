"""From Arrow columns to rows of floats, finding every value that is not a number.

Owns which Arrow types can be features and how each is converted. Knows columns and rows
but no files: `BadValue` carries the position, and the caller says where that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from distclust.data.blocks import FloatArray
from distclust.data.values import Allowed

__all__ = [
    "BadValue",
    "decode_columns",
    "decode_vectors",
    "decode_weights",
    "feature_dtype",
    "is_numeric",
    "is_vector",
    "storage_type",
]

EXACT_INTEGERS = 2**53  # beyond, float64 skips integers: two ids could become one value


class BadValue(Exception):
    """A value that cannot be clustered.

    Attributes
    ----------
    column : str
    row : int
        Position in the arrays that were given.
    problem : str
        What is wrong and what to do about it, to stand after "row 7: ".
    """

    def __init__(self, column: str, row: int, problem: str) -> None:
        super().__init__(column, row, problem)
        self.column = column
        self.row = row
        self.problem = problem


def is_numeric(kind: Any) -> bool:
    """Whether a column of this Arrow type can be a feature: float, int, bool or decimal."""
    types = pa.types
    return bool(
        types.is_floating(kind)
        or types.is_integer(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
    )


def storage_type(kind: Any) -> Any:
    """Return the Arrow type that holds the values of an extension type, or the type itself."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def is_vector(kind: Any) -> bool:
    """Whether this Arrow type is a list, of any layout, of floats or integers."""
    kind = storage_type(kind)
    types = pa.types
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return False
    return bool(types.is_floating(kind.value_type) or types.is_integer(kind.value_type))


def feature_dtype(kinds: Sequence[Any]) -> str:
    """Return the float type that holds all the features, by scikit-learn's rule.

    float32 only if every type is float32 or float16, else float64.
    """
    small = (pa.float16(), pa.float32())
    values = [storage_type(kind).value_type if is_vector(kind) else kind for kind in kinds]
    return "float32" if all(value in small for value in values) else "float64"


def decode_columns(
    columns: Mapping[str, Any], out: FloatArray, *, allowed: Allowed = Allowed.FINITE
) -> None:
    """Write one Arrow array per feature into the columns of `out`.

    Parameters
    ----------
    columns : mapping of str to (pyarrow.Array of length n_rows, or float)
        In feature order; a number stands for a constant column.
    out : ndarray of shape (n_rows, n_features)
        OUT: filled.
    allowed : Allowed
        Where NaN is, null becomes it.

    Raises
    ------
    BadValue
        For a null, NaN or infinity that is not allowed, overflow, or an integer that float64
        cannot hold.
    """
    for j, (name, column) in enumerate(columns.items()):
        with np.errstate(over="ignore"):  # found below, with its row
            if isinstance(column, pa.Array):
                out[:, j] = _values(name, column, out.dtype, allowed)
            else:
                out[:, j] = column
    good = allowed.good(out)
    if allowed is Allowed.ANY and np.isinf(out).any():
        for j, (name, column) in enumerate(columns.items()):
            if isinstance(column, pa.Array):
                good[:, j] = _kept(_values(name, column, out.dtype, allowed), out[:, j])
    if not good.all():
        row, j = divmod(int(np.argmin(good)), out.shape[1])
        name, column = list(columns.items())[j]
        value = column[row].as_py() if isinstance(column, pa.Array) else column
        raise BadValue(name, row, _not_finite(value, out.dtype))


def decode_vectors(
    name: str, array: Any, out: FloatArray, *, allowed: Allowed = Allowed.FINITE
) -> None:
    """Write a column of equally long vectors into the rows of `out`.

    Parameters
    ----------
    name : str
        The column, for messages.
    array : pyarrow.Array of length n_rows
        FixedSizeList, List or LargeList of floats or integers.
    out : ndarray of shape (n_rows, n_features)
        OUT: filled.
    allowed : Allowed
        Where NaN is, null elements become it; a null vector remains an error.

    Raises
    ------
    BadValue
        For a null or ragged vector, or a bad element.
    """
    array = array.storage if isinstance(array, pa.ExtensionArray) else array
    n_features = out.shape[1]
    if array.null_count:
        row = _first(array.is_null())
        raise BadValue(name, row, "the vector is null; drop such rows before clustering")
    _check_lengths(name, array, n_features)
    flat = array.flatten()  # honours slices, which `.values` does not
    try:
        values = _values(name, flat, out.dtype, allowed)
    except BadValue as error:
        row, element = divmod(error.row, n_features)
        raise BadValue(name, row, f"element {element}: {error.problem}") from None
    with np.errstate(over="ignore"):
        out[...] = values.reshape(out.shape)
    good = allowed.good(out)
    if allowed is Allowed.ANY:
        good = _kept(values.reshape(out.shape), out)
    if not good.all():
        position = int(np.argmin(good))
        row, element = divmod(position, n_features)
        problem = _not_finite(flat[position].as_py(), out.dtype)
        raise BadValue(name, row, f"element {element}: {problem}")


def decode_weights(name: str, array: Any) -> npt.NDArray[np.float64]:
    """Return sample weights as float64 of shape (n_rows,): finite and not negative.

    Raises
    ------
    BadValue
        For a null, NaN, infinite or negative weight.
    """
    weights = np.empty((len(array), 1))
    decode_columns({name: array}, weights)
    if (weights < 0).any():
        row = int(np.argmax(weights < 0))
        problem = f"weight {weights[row, 0]} is negative; sample weights must be 0 or more"
        raise BadValue(name, row, problem)
    return weights[:, 0]


def _first(mask: Any) -> int:
    return int(np.argmax(mask.to_numpy(zero_copy_only=False)))


def _kept(values: npt.NDArray[Any], out: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Say which values did not overflow when they were written to `out`."""
    kept: npt.NDArray[np.bool_] = ~np.isinf(out) | ~np.isfinite(values)
    return kept


def _values(
    name: str, array: Any, dtype: np.dtype[Any], allowed: Allowed = Allowed.FINITE
) -> npt.NDArray[Any]:
    """Return the numbers of an array as NumPy keeps them, with nulls as NaN if allowed."""
    if array.null_count and allowed is not Allowed.FINITE:
        return _with_missing(name, array, dtype)
    if array.null_count:
        row = _first(array.is_null())
        raise BadValue(name, row, "the value is null; drop or fill such rows before clustering")
    if pa.types.is_decimal(array.type):
        array = pc.cast(array, pa.float64())
    values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8 and dtype == np.float64:
        _check_exact(name, values)
    return values


def _with_missing(name: str, array: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if pa.types.is_floating(array.type):
        values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)  # nulls are NaN
        return values
    known = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    filled = np.full(len(array), np.nan, dtype=dtype)
    try:
        filled[known] = _values(name, array.drop_null(), dtype)
    except BadValue as bad:
        raise BadValue(name, int(known[bad.row]), bad.problem) from None
    return filled


def _check_exact(name: str, values: npt.NDArray[Any]) -> None:
    if not values.size:
        return
    if values.max() <= EXACT_INTEGERS and values.min() >= -EXACT_INTEGERS:
        return
    row = int(np.argmax((values > EXACT_INTEGERS) | (values < -EXACT_INTEGERS)))
    problem = (
        f"integer {values[row]} is beyond 2**53, so float64 cannot hold it exactly; "
        "subtract an offset or scale the column, or leave it out if it is an identifier"
    )
    raise BadValue(name, row, problem)


def _check_lengths(name: str, array: Any, n_features: int) -> None:
    if pa.types.is_fixed_size_list(array.type):
        lengths = np.full(len(array), array.type.list_size)
    else:
        lengths = np.diff(array.offsets.to_numpy())
    wrong = lengths != n_features
    if wrong.any():
        row = int(np.argmax(wrong))
        problem = (
            f"the vector has length {lengths[row]}, expected {n_features}; "
            "all vectors must have the same length"
        )
        raise BadValue(name, row, problem)


def _not_finite(value: Any, dtype: np.dtype[Any]) -> str:
    number = float(value)
    if np.isnan(number):
        return "the value is NaN; drop or fill such rows before clustering"
    if np.isinf(number):
        return f"the value is {number}; drop or clip such rows before clustering"
    return f"the value {value} is too large for {dtype}; use dtype float64 or scale the column"
