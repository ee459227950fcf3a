"""The manifest: what a Parquet dataset holds, from its footers alone.

Owns the numbering of rows (files in order, row groups in order), the check that all
files agree, and the digest that tells whether the data changed. Reads no rows, but for
one when only that tells the length of the vectors.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from distclust.data.footer import corrupt, open_parquet
from distclust.data.selection import PartitionValues, Selection, check_file, select
from distclust.data.uri import InputFile, PathLike, resolve, scrub
from distclust.errors import DataError

__all__ = ["DataFile", "Manifest", "RowGroup", "open_manifest"]

_FOOTER_THREADS = 16  # footers wait on storage, not on the CPU


@dataclass(frozen=True)
class RowGroup:
    """One row group of the dataset.

    Attributes
    ----------
    file_index, row_group : int
        Where it is: file in the manifest, row group in the file.
    n_rows : int
    row_start : int
        Global id of its first row.
    decoded_bytes : int
        Bytes of its rows as blocks: values times their width, never the file's figures.
    """

    file_index: int
    row_group: int
    n_rows: int
    row_start: int
    decoded_bytes: int


@dataclass(frozen=True)
class DataFile:
    """One file of the dataset.

    Attributes
    ----------
    path : str
        Opens the file on any machine; may hold secrets, so show `name` instead.
    index : int
        Position in the manifest.
    size : int
        Bytes on storage.
    n_rows : int
    row_start : int
        Global id of its first row.
    row_groups : tuple of RowGroup
    partition_values : tuple of (str, value)
        Hive keys of its directories that the selection uses.
    """

    path: str = field(repr=False)
    index: int
    size: int
    n_rows: int
    row_start: int
    row_groups: tuple[RowGroup, ...]
    partition_values: PartitionValues = ()

    @property
    def name(self) -> str:
        """The path with secrets removed."""
        return scrub(self.path)


@dataclass(frozen=True)
class Manifest:
    """A Parquet dataset as seen from its footers.

    Attributes
    ----------
    files : tuple of DataFile
        In input order: rows are numbered along it.
    selection : Selection
        The columns that are read.
    digest : str
        SHA-256 of the relative paths, sizes, row groups and selection.
    """

    files: tuple[DataFile, ...]
    selection: Selection
    digest: str
    home: ClassVar[str] = "files"

    @property
    def n_rows(self) -> int:
        return sum(file.n_rows for file in self.files)

    @property
    def n_features(self) -> int:
        return self.selection.n_features

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.selection.dtype)

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        return self.selection.feature_names

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all rows as blocks."""
        return sum(group.decoded_bytes for file in self.files for group in file.row_groups)


class _Footer(NamedTuple):
    file: InputFile
    metadata: Any
    schema: Any


def open_manifest(
    path: PathLike | Sequence[PathLike],
    *,
    columns: Sequence[str] | None = None,
    vector: str | None = None,
    weight: str | None = None,
    id_columns: Sequence[str] = (),
    dtype: str | None = None,
) -> Manifest:
    """Read the footers of a dataset and check that its files can be clustered together.

    Parameters
    ----------
    path : str, path, or list of those
        Files, globs (also ``**``), directories, local or as ``s3://``, ``gs://``,
        ``az://`` … URIs. Hive keys (``year=2024/``) are columns when they are named.
    columns : list of str, optional
        Numeric feature columns. By default all numeric columns of the files that are
        not ids or the weight or, if there are none, the one vector column.
    vector : str, optional
        A list column of floats or integers with equal lengths, instead of `columns`.
    weight : str, optional
        Column of sample weights.
    id_columns : list of str
        Columns copied to the output as they are.
    dtype : {"float32", "float64"}, optional
        What to decode to. By default float32 if all features are float32 or float16,
        else float64. float32 rounds integers beyond 2**24.

    Raises
    ------
    DataError
        Nothing matches, there are no rows, or a column is missing, is of a type that
        cannot be clustered, or differs between files. Names file and column.
    CorruptFile
        A file is empty, truncated, or not Parquet.
    ConfigError
        The options contradict each other, or a filesystem cannot be opened.
    """
    footers = _read_footers(resolve(path))
    hive_values = _typed_partitions([footer.file for footer in footers])
    first = footers[0]
    selection = select(
        first.file.path,
        first.schema,
        {name: _arrow_type(values) for name, values in hive_values.items()},
        columns=columns,
        vector=vector,
        weight=weight,
        id_columns=id_columns,
        dtype=dtype,
    )
    for footer in footers[1:]:
        check_file(footer.file.path, footer.schema, selection, (first.file.path, first.schema))
    _check_not_empty(footers)
    if selection.n_features == 0:
        selection = replace(selection, n_features=_vector_length(footers, selection.vector))
    partitions = _partition_values(footers, selection, hive_values)
    files = _number_rows(footers, selection, partitions)
    return Manifest(files, selection, _digest(footers, selection))


def _read_footers(files: Sequence[InputFile]) -> list[_Footer]:
    with ThreadPoolExecutor(min(_FOOTER_THREADS, len(files))) as pool:
        return list(pool.map(_read_footer, files))


def _read_footer(file: InputFile) -> _Footer:
    with open_parquet(file.path) as parquet:
        return _Footer(file, parquet.metadata, parquet.schema_arrow)


def _check_not_empty(footers: Sequence[_Footer]) -> None:
    if not any(footer.metadata.num_rows for footer in footers):
        rest = f" and {len(footers) - 1} more files" if len(footers) > 1 else ""
        raise DataError(f"{scrub(footers[0].file.path)}{rest}: zero rows; nothing to cluster")


def _vector_length(footers: Sequence[_Footer], vector: str | None) -> int:
    """Return the length of the first vector of the dataset; the reader checks the others."""
    footer = next(footer for footer in footers if footer.metadata.num_rows)
    path = footer.file.path
    with open_parquet(path) as parquet:
        try:
            batch = next(parquet.iter_batches(1, columns=[vector], use_threads=False))
        except OSError as error:
            raise corrupt(path, f"column {vector!r} does not decode", error) from error
    value = batch.column(vector)[0]
    length = len(value) if value.is_valid else 0
    if length == 0:
        found = "null" if not value.is_valid else "empty"
        raise DataError(
            f"{scrub(path)}: column {vector!r}, row 0: the vector is {found}; "
            "drop such rows before clustering"
        )
    return length


def _number_rows(
    footers: Sequence[_Footer], selection: Selection, partitions: Sequence[PartitionValues]
) -> tuple[DataFile, ...]:
    files = []
    row_start = 0
    for index, (footer, values) in enumerate(zip(footers, partitions, strict=True)):
        file_start = row_start
        groups = []
        for i in range(footer.metadata.num_row_groups):
            metadata = footer.metadata.row_group(i)
            n_rows = metadata.num_rows
            decoded = _decoded_bytes(metadata, selection)
            groups.append(RowGroup(index, i, n_rows, row_start, decoded))
            row_start += n_rows
        path, size = footer.file.path, footer.file.size
        n_rows = row_start - file_start
        files.append(DataFile(path, index, size, n_rows, file_start, tuple(groups), values))
    return tuple(files)


def _decoded_bytes(metadata: Any, selection: Selection) -> int:
    n_bytes = int(metadata.num_rows) * selection.row_nbytes
    if selection.vector is None:
        return n_bytes
    # A ragged column may hold more than its rows promise: it is refused when read.
    leaves = (metadata.column(i) for i in range(metadata.num_columns))
    prefix = f"{selection.vector}."
    n_values = sum(leaf.num_values for leaf in leaves if leaf.path_in_schema.startswith(prefix))
    return max(n_bytes, int(n_values) * np.dtype(selection.dtype).itemsize)


def _typed_partitions(
    files: Sequence[InputFile],
) -> dict[str, list[int | float | str | None]]:
    """Values of each Hive key that every file has: int, else float, else str for all."""
    keys = [file.partition_keys for file in files]
    shared = [key for key in keys[0] if all(key in other for other in keys)]
    return {key: _typed([values[key] for values in keys]) for key in shared}


def _typed(texts: Sequence[str | None]) -> list[int | float | str | None]:
    for parse in (int, float):
        try:
            return [None if text is None else parse(text) for text in texts]
        except ValueError:
            continue
    return list(texts)


def _arrow_type(values: Iterable[int | float | str | None]) -> str:
    names = {int: "int64", float: "double", str: "string"}
    return next((names[type(value)] for value in values if value is not None), "string")


def _partition_values(
    footers: Sequence[_Footer],
    selection: Selection,
    hive_values: dict[str, list[int | float | str | None]],
) -> list[PartitionValues]:
    names = [name for name, _ in selection.partition_types]
    numeric = {*selection.columns, selection.weight}
    rows = [tuple((name, hive_values[name][i]) for name in names) for i in range(len(footers))]
    for footer, row in zip(footers, rows, strict=True):
        for name, value in row:
            number = float("nan") if value is None or name not in numeric else float(value)
            lowest = 0.0 if name == selection.weight else float("-inf")
            if name in numeric and not (np.isfinite(number) and number >= lowest):
                raise DataError(
                    f"{scrub(footer.file.path)}: Hive column {name!r} is {value}; "
                    "features must be finite, weights also not negative"
                )
    return rows


def _digest(footers: Sequence[_Footer], selection: Selection) -> str:
    paths = [footer.file.path.partition("?")[0].split("/") for footer in footers]
    levels = zip(*(segments[:-1] for segments in paths), strict=False)
    n_shared = sum(1 for _ in itertools.takewhile(lambda level: len(set(level)) == 1, levels))
    content = {
        "files": [
            ("/".join(path[n_shared:]), footer.file.size, _row_group_shapes(footer.metadata))
            for path, footer in zip(paths, footers, strict=True)
        ],
        "selection": {k: v for k, v in selection.__dict__.items() if k != "allowed"},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _row_group_shapes(metadata: Any) -> list[tuple[int, int]]:
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return [(group.num_rows, group.total_byte_size) for group in groups]
