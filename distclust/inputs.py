"""What users give as X, as a source of partitions; and labels back in the same form.

================================================  =====================================
X                                                 labels
================================================  =====================================
array, Arrow table, pandas or polars frame        numpy array
path, glob, list of paths, `Manifest`, `Source`   numpy array, up to `LABELS_IN_MEMORY`
Dask array or dataframe                           Dask array with the same chunks
Ray Dataset                                       Ray Dataset with a ``label`` column
================================================  =====================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, get_tags
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from distclust.backends import home_of, resolve
from distclust.backends.local import LocalBackend
from distclust.data.arrays import ArraySource, as_table_array
from distclust.data.blocks import Source
from distclust.data.collections import CollectionSource
from distclust.data.decode import EXACT_INTEGERS
from distclust.data.manifest import Manifest, open_manifest
from distclust.data.parquet import ParquetSource
from distclust.data.transformed import TransformedRows
from distclust.data.values import Allowed
from distclust.engine.protocol import Backend, Future
from distclust.engine.shards import Session, Shards, partitions_for, threads_here
from distclust.engine.threads import map_tiles, worker_threads
from distclust.errors import ConfigError, DataError

__all__ = [
    "LABELS_IN_MEMORY",
    "Input",
    "check_features",
    "feature_names",
    "is_in_memory",
    "open_input",
    "opened",
    "opened_fitted",
    "shard_rows",
]

MIN_ROWS_PER_PARTITION = 4096  # smaller inputs are not worth splitting unless asked
ALLOWED = {True: Allowed.FINITE, "allow-nan": Allowed.MISSING, False: Allowed.ANY}
FLOATS = (np.float32, np.float64)
FEW_VALUES = 1 << 21  # rows of no more are not worth waking workers
LARGE = 1 << 23  # bytes of an array that is worth several threads' look
LABELS_IN_MEMORY = 250_000_000  # rows; a gigabyte of int32 labels


@dataclass(frozen=True, kw_only=True, eq=False)
class Input:
    """A source, and how labels of its rows are given back.

    Attributes
    ----------
    source : Source
    in_memory : ndarray or CSR matrix, or None
        The validated rows, when this process holds them.
    assemble : callable or None
        For rows that live on a cluster: makes a collection of one future a partition.
    """

    source: Source
    in_memory: Any = None
    assemble: Callable[[Sequence[Future]], Any] | None = None

    def gather(self, pieces: list[tuple[int, npt.NDArray[Any]]]) -> npt.NDArray[Any]:
        """Put (global id of the first row, values) pairs in row order."""
        n_rows = self.source.n_rows
        if n_rows > LABELS_IN_MEMORY:
            raise DataError(
                f"labels of {n_rows} rows are not held in memory (limit {LABELS_IN_MEMORY}); "
                "have a job write them to files: distclust run JOB.yaml"
            )
        in_order = sorted(pieces, key=lambda piece: piece[0])
        gathered: npt.NDArray[Any] = np.concatenate([values for _, values in in_order])
        return gathered


def is_in_memory(X: Any) -> bool:
    """Whether X is held by this process: an array, a table, a sequence of rows."""
    return home_of(X) == "memory" and not _is_source(X)


@contextmanager
def opened(
    estimator: BaseEstimator,
    X: Any,
    sample_weight: Any,
    wanted: str | Backend,
    *,
    reset: bool,
    finite: bool | str = True,
) -> Iterator[tuple[Backend, Input]]:
    """Open X on the backend that `wanted` means, which is closed afterwards if made here.

    Of the local one, the thread that asks does the calls on a few rows of this process, unless
    these are to be split.
    """
    backend, owned = resolve(wanted, X)
    split = getattr(estimator, "n_partitions", None) is not None
    try:
        rows = open_input(estimator, X, sample_weight, backend, reset=reset, finite=finite)
        with _where_it_pays(backend, rows, split) as at:
            yield at, rows
    finally:
        if owned:
            backend.close()


def _where_it_pays(backend: Backend, rows: Input, split: bool) -> AbstractContextManager[Backend]:
    """Return the backend, or a part of it that wakes no workers for a few rows, if not `split`."""
    few = rows.source.n_rows * rows.source.n_features <= FEW_VALUES
    if isinstance(backend, LocalBackend) and rows.in_memory is not None and few and not split:
        return backend.here()
    return nullcontext(backend)


@contextmanager
def opened_fitted(
    estimator: Any, X: Any, sample_weight: Any = None
) -> Iterator[tuple[Backend, Input]]:
    """Open X for a fitted estimator: rows of this process stay in it, unless a Backend is given."""
    check_is_fitted(estimator)
    at_home = isinstance(estimator.backend, str) and is_in_memory(X)
    wanted = "local" if at_home else estimator.backend
    with opened(estimator, X, sample_weight, wanted, reset=False) as backend_and_rows:
        yield backend_and_rows


def shard_rows(session: Session, source: Source, n_partitions: int | None) -> Shards:
    """Place rows in as many partitions as asked, or as many as are worth while."""
    if n_partitions is not None:
        return session.shard(source, n_partitions)
    if source.n_rows < MIN_ROWS_PER_PARTITION:
        return session.shard(source, 1)
    row_nbytes = source.n_features * source.dtype.itemsize
    slots = session.backend.slots
    return session.shard(source, partitions_for(source.n_rows, row_nbytes, slots))


def open_input(
    estimator: BaseEstimator,
    X: Any,
    sample_weight: Any,
    backend: Backend,
    *,
    reset: bool,
    finite: bool | str = True,
) -> Input:
    """Turn X into a source of float32 or float64 rows, validated as scikit-learn does.

    Parameters
    ----------
    estimator : BaseEstimator
        Receives ``n_features_in_`` and ``feature_names_in_`` if `reset`, else is asked
        whether X agrees with them.
    X : object
        See the table above.
    sample_weight : array, or the name of a column of the files, or None
    backend : Backend
        Where a collection of a cluster has to live.
    reset : bool
        True when fitting.
    finite : bool or "allow-nan"
        As scikit-learn's ``ensure_all_finite``, wherever rows are: False lets NaN and
        infinity through, ``"allow-nan"`` only NaN. Nulls count as NaN.
    """
    if is_in_memory(X):
        threads = threads_here(backend)
        array = _array_source(estimator, X, sample_weight, threads, reset=reset, finite=finite)
        return Input(source=array, in_memory=array.X)
    if isinstance(X, TransformedRows):
        rows = Input(source=X, assemble=_assembling(X.source, backend))
    elif home_of(X) in ("dask", "ray"):
        rows = _collection_input(X, sample_weight, backend)
    else:
        known = None if reset else getattr(estimator, "feature_names_in_", None)
        rows = Input(source=_file_source(X, sample_weight, known))
    source = rows.source
    names = None if isinstance(X, TransformedRows) else source.feature_names  # as of an array
    check_features(estimator, source.n_features, names, reset=reset)
    allowed = ALLOWED[finite]
    return rows if allowed is Allowed.FINITE else replace(rows, source=source.allowing(allowed))


def _array_source(
    estimator: BaseEstimator,
    X: Any,
    sample_weight: Any,
    threads: int,
    *,
    reset: bool,
    finite: bool | str,
) -> ArraySource:
    if isinstance(X, pa.Table | pa.RecordBatch):  # scikit-learn would not see the names
        X, names = as_table_array(X, ALLOWED[finite])
        X = check_array(X, dtype=[np.float64, np.float32], order="C", ensure_all_finite=finite)
        check_features(estimator, X.shape[1], names, reset=reset)
    else:
        _check_integers(X)
        if finite and _is_surely_finite(X, threads):
            finite = False  # nothing is left to look for
        X = validate_data(
            estimator,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            order="C",
            accept_sparse="csr" if get_tags(estimator).input_tags.sparse else False,
            accept_large_sparse=False,
            ensure_all_finite=finite,
        )
    if isinstance(sample_weight, str):
        raise ConfigError(
            f"sample_weight={sample_weight!r} names a column, which only files have; pass an array"
        )
    weights = None
    if sample_weight is not None:
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    return ArraySource(X, weights)


def _file_source(X: Any, sample_weight: Any, known_names: Any) -> Source:
    if sample_weight is not None and not isinstance(sample_weight, str):
        raise ConfigError("for files, sample_weight is the name of one of their columns")
    if isinstance(X, Manifest):
        return ParquetSource(X)
    if _is_source(X):
        source: Source = X
        return source
    paths = X.files if hasattr(X, "files") else X  # a pyarrow FileSystemDataset
    columns = None if known_names is None else list(known_names)
    return ParquetSource(open_manifest(paths, columns=columns, weight=sample_weight))


def _collection_input(X: Any, sample_weight: Any, backend: Backend) -> Input:
    home: Any = backend  # adopt and assemble go beyond the seven verbs
    chunks = home.adopt(X, sample_weight=sample_weight) if hasattr(home, "adopt") else None
    if chunks is None:
        raise ConfigError(
            f"backend {backend.name!r} cannot read a {type(X).__module__}.{type(X).__name__}; "
            "use the backend it lives on, or backend='auto'"
        )
    source = CollectionSource(chunks)
    return Input(source=source, assemble=_assembling(source, backend))


def _assembling(source: Source, backend: Backend) -> Callable[[Sequence[Future]], Any] | None:
    """Return how labels of rows that live on a cluster become a collection there."""
    if not isinstance(source, CollectionSource):
        return None
    home: Any = backend
    return lambda parts: home.assemble(source.chunks, source.pieces(parts))


def _is_surely_finite(X: Any, threads: int) -> bool:
    """Whether a large array has finite values alone, as `threads` threads see at once.

    Others are left to scikit-learn, which says what is wrong and knows small arrays as soon.
    """
    if type(X) is not np.ndarray or X.dtype not in FLOATS or X.nbytes < LARGE or X.ndim != 2:
        return False
    bounds = [len(X) * i // threads for i in range(threads + 1)]

    def is_finite(rows: slice) -> bool:
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(X[rows].sum()))

    with worker_threads(threads):
        return all(map_tiles(is_finite, map(slice, bounds, bounds[1:])))


def _check_integers(X: Any) -> None:
    """Refuse integers that float64 would silently round."""
    columns: list[Any] = [np.asarray(X[n]) for n in X.columns] if hasattr(X, "columns") else [X]
    for column in columns:
        values: Any = getattr(column, "data", None) if hasattr(column, "toarray") else column
        if getattr(values, "dtype", None) in (np.int64, np.uint64) and values.size:
            worst = max(int(values.max()), int(values.min()), key=abs)
            if abs(worst) > EXACT_INTEGERS:
                raise DataError(
                    f"integer {worst} is beyond 2**53, so float64 cannot hold it exactly; "
                    "subtract an offset or scale the values"
                )


def check_features(
    estimator: BaseEstimator, n_features: int, names: tuple[str, ...] | None, *, reset: bool
) -> None:
    """Set, or compare, what scikit-learn's `validate_data` would."""
    if reset:
        estimator.n_features_in_ = n_features
        if names is not None:
            estimator.feature_names_in_ = np.asarray(names, dtype=object)
        elif hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
        return
    known = getattr(estimator, "feature_names_in_", None)
    if known is not None and names is not None and list(known) != list(names):
        raise DataError(
            "The feature names should match those that were passed during fit.\n"
            f"Expected {list(known)}, in this order; got {list(names)}."
        )
    if n_features != estimator.n_features_in_:
        raise DataError(
            f"X has {n_features} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )


def feature_names(X: Any) -> tuple[str, ...] | None:
    """Return the names of the columns of a frame, if all of them are text."""
    names = tuple(getattr(X, "columns", ()))
    return names if names and all(isinstance(name, str) for name in names) else None


def _is_source(X: Any) -> bool:
    return isinstance(X, Manifest) or (hasattr(X, "plan") and hasattr(X, "load"))
