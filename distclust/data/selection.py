"""Which columns are the features, the weight and the ids, and whether a file has them.

Owns the schema rules: what is chosen by default, which types are refused, and how one
file may differ from another. Reads nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from distclust.data.decode import feature_dtype, is_numeric, is_vector, storage_type
from distclust.data.uri import scrub
from distclust.data.values import Allowed
from distclust.errors import ConfigError, DataError

__all__ = ["DTYPES", "PartitionValues", "Selection", "check_file", "select"]

DTYPES = ("float32", "float64")

PartitionValues = tuple[tuple[str, int | float | str | None], ...]
"""Hive keys of a file's directories that the selection uses, with typed values."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The columns a clustering reads.

    Attributes
    ----------
    columns : tuple of str
        Feature columns in order; empty when the features are one vector column.
    vector : str or None
        The vector column.
    weight : str or None
        The sample weight column.
    id_columns : tuple of str
        Columns copied to the output as they are.
    partition_types : tuple of (str, str)
        Those of the columns above that are Hive keys, with their Arrow type's name.
    n_features : int
    dtype : {"float32", "float64"}
        What the features are decoded to.
    allowed : Allowed
        Which features are not refused; null counts as NaN.
    """

    columns: tuple[str, ...]
    vector: str | None
    weight: str | None
    id_columns: tuple[str, ...]
    partition_types: tuple[tuple[str, str], ...]
    n_features: int
    dtype: str
    allowed: Allowed = Allowed.FINITE

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the feature columns, or None for a vector column."""
        return self.columns or None

    @property
    def row_nbytes(self) -> int:
        """Bytes of one decoded row, its weight included."""
        return self.n_features * np.dtype(self.dtype).itemsize + (8 if self.weight else 0)

    @property
    def names(self) -> tuple[str, ...]:
        """Every column used, once."""
        extra = [name for name in (self.vector, self.weight) if name is not None]
        return tuple(dict.fromkeys([*self.columns, *extra, *self.id_columns]))

    @property
    def feature_file_columns(self) -> tuple[str, ...]:
        """Columns that must be read from a file to make blocks: no ids, no Hive keys."""
        return self._of_file([*self.columns, self.vector, self.weight])

    @property
    def id_file_columns(self) -> tuple[str, ...]:
        """The id columns that are in the files: no Hive keys."""
        return self._of_file(self.id_columns)

    def _of_file(self, names: Iterable[str | None]) -> tuple[str, ...]:
        hive = dict(self.partition_types)
        return tuple(dict.fromkeys(name for name in names if name and name not in hive))


def select(
    path: str,
    schema: Any,
    partition_types: Mapping[str, str],
    *,
    columns: Sequence[str] | None,
    vector: str | None,
    weight: str | None,
    id_columns: Sequence[str],
    dtype: str | None,
) -> Selection:
    """Choose the columns from the first file's schema.

    Parameters
    ----------
    path : str
        The file, for messages.
    schema : pyarrow.Schema
    partition_types : mapping of str to str
        Hive keys of the dataset, with the Arrow type's name of their values.

    Returns
    -------
    Selection
        With ``n_features`` 0 when the length of the vectors is not in the schema.

    Raises
    ------
    ConfigError
        The request contradicts itself.
    DataError
        A column is missing or is of a type that cannot be clustered.
    """
    _check_request(columns, vector, weight, id_columns, dtype)
    hive = {name: kind for name, kind in partition_types.items() if name not in schema.names}
    if columns is None and vector is None:
        columns, vector = _default(path, schema, {weight, *id_columns})
    wanted = Selection(
        columns=tuple(columns or ()),
        vector=vector,
        weight=weight,
        id_columns=tuple(id_columns),
        partition_types=(),
        n_features=len(columns or ()),
        dtype=dtype or "float64",
    )
    kinds = {name: _kind(path, schema, hive, name) for name in wanted.names}
    _check_kinds(path, wanted, kinds)
    features = [kinds[name] for name in (*wanted.columns, *([vector] if vector else []))]
    return replace(
        wanted,
        partition_types=tuple((name, hive[name]) for name in wanted.names if name in hive),
        n_features=_vector_size(kinds[vector]) if vector else wanted.n_features,
        dtype=dtype or feature_dtype(features),
    )


def check_file(path: str, schema: Any, selection: Selection, first: tuple[str, Any]) -> None:
    """Check that a file has the selected columns, of the types of the first file.

    Parameters
    ----------
    path : str
    schema : pyarrow.Schema
    selection : Selection
    first : (str, pyarrow.Schema)
        The first file's path and schema.

    Raises
    ------
    DataError
        Naming file and column.
    """
    first_path, first_schema = first
    for name in dict.fromkeys(selection.feature_file_columns + selection.id_file_columns):
        kind = _kind(path, schema, {}, name)
        expected = first_schema.field(name).type
        if not _same(kind, expected, is_features=name not in selection.id_columns):
            raise DataError(
                f"{scrub(path)}: column {name!r} is {kind}, but {expected} in "
                f"{scrub(first_path)}; cast it so that all files agree"
            )


def _check_request(
    columns: Sequence[str] | None,
    vector: str | None,
    weight: str | None,
    id_columns: Sequence[str],
    dtype: str | None,
) -> None:
    if columns is not None and vector is not None:
        raise ConfigError("give columns or vector, not both")
    if isinstance(columns, str) or isinstance(id_columns, str):
        raise ConfigError("columns and id_columns are lists of names, not one string")
    if columns is not None and not columns:
        raise ConfigError("columns is empty: name at least one, or leave it out for all")
    for option, names in (("columns", columns or ()), ("id_columns", id_columns)):
        repeated = sorted({name for name in names if list(names).count(name) > 1})
        if repeated:
            raise ConfigError(f"{option} names {repeated[0]!r} more than once")
    if weight is not None and weight in {*(columns or ()), vector}:
        raise ConfigError(f"column {weight!r} cannot be both a feature and the weight")
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"dtype={dtype!r} should be one of {', '.join(DTYPES)}")


def _default(
    path: str, schema: Any, excluded: set[str | None]
) -> tuple[list[str] | None, str | None]:
    """Return all numeric columns of the file or, if none, its one vector column."""
    fields = [field for field in schema if field.name not in excluded]
    if numeric := [field.name for field in fields if is_numeric(field.type)]:
        return numeric, None
    vectors = [field.name for field in fields if is_vector(field.type)]
    if len(vectors) == 1:
        return None, vectors[0]
    found = f"{len(vectors)} vector columns, name one of {vectors}" if vectors else "none"
    raise DataError(
        f"{scrub(path)}: expected numeric columns or one vector column, found {found}; "
        f"its columns are {_listed(schema.names)}"
    )


def _kind(path: str, schema: Any, hive: Mapping[str, str], name: str) -> Any:
    count = len(schema.get_all_field_indices(name))
    if count > 1:
        raise DataError(f"{scrub(path)}: has {count} columns named {name!r}; rename them")
    if count:
        return schema.field(name).type
    if name in hive:
        return pa.type_for_alias(hive[name])
    known = [*schema.names, *hive]
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"it has {_listed(known)}"
    raise DataError(f"{scrub(path)}: no column {name!r}; {hint}")


def _check_kinds(path: str, wanted: Selection, kinds: Mapping[str, Any]) -> None:
    weights = [wanted.weight] if wanted.weight else []
    for name in (*wanted.columns, *weights):
        if not is_numeric(kinds[name]):
            remedy = "give it as vector instead" if is_vector(kinds[name]) else "leave it out"
            raise DataError(
                f"{scrub(path)}: column {name!r} is {kinds[name]}, expected a float, integer, "
                f"boolean or decimal column; {remedy} or convert it to numbers"
            )
    if wanted.vector is not None and not is_vector(kinds[wanted.vector]):
        raise DataError(
            f"{scrub(path)}: column {wanted.vector!r} is {kinds[wanted.vector]}, expected a "
            "list of floats or integers; name numeric columns as columns instead"
        )


def _same(kind: Any, expected: Any, *, is_features: bool) -> bool:
    if is_features and is_vector(kind) and is_vector(expected):
        # A writer may drop the list layout: only the elements and the length matter.
        elements = {storage_type(kind).value_type, storage_type(expected).value_type}
        sizes = {_vector_size(kind), _vector_size(expected)} - {0}
        return len(elements) == 1 and len(sizes) <= 1
    return bool(kind == expected)


def _vector_size(kind: Any) -> int:
    kind = storage_type(kind)
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else 0


def _listed(names: Sequence[str], limit: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
