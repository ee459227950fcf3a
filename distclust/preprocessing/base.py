"""What all transformers of rows share: fitting by passes, transforming any input, saving.

A subclass says a few things:

- ``_fit(session, shards, source)`` sets its fitted attributes from passes over `shards`.
  Resident in these is a `RowStream`: no row is ever held, see `distclust.data.transformed`,
  and `reduce_blocks` merges what is made of its blocks.
- ``row_step()`` returns the fitted `RowStep`: `transform`, sources and scorers all use that.
- ``_fitted_names`` lists the attributes to save.
- ``_inverse_step()`` is for those that can be undone, and ``invertible`` says whether
  centers may be shown in the units of the raw rows.

================================================  =====================================
X                                                 ``transform(X)``
================================================  =====================================
array, frame, Arrow table, CSR matrix             as scikit-learn
Dask array or dataframe                           Dask array, lazy
path, glob, list of paths, `Manifest`, `Source`,  `TransformedRows`, lazy: X of any of our
Ray Dataset                                       estimators and transformers
================================================  =====================================
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import Tags, check_array
from sklearn.utils.validation import check_is_fitted

from distclust.backends import home_of, resolve
from distclust.data.arrays import ArraySource
from distclust.data.blocks import Block, Source
from distclust.data.chunk import rows_of
from distclust.data.decode import BadValue
from distclust.data.steps import RowStep, transformed
from distclust.data.transformed import RowStream, Streamed, TransformedRows
from distclust.data.values import Allowed
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards, partitions_for
from distclust.engine.threads import map_tiles, n_threads
from distclust.errors import ConfigError, DataError, ModelError
from distclust.inputs import check_features, feature_names, is_in_memory, open_input, opened
from distclust.model import StoredModel, write_model

__all__ = ["RowTransformer", "reduce_blocks"]

MIN_ROWS_PER_PARTITION = 4096  # smaller inputs are not worth splitting unless asked
GATHERED_BYTES = 64 << 20  # of rows that come back from a worker at a time

Found = TypeVar("Found")


def reduce_blocks(
    stream: RowStream, fn: Callable[[Block], Found], merge: Callable[[Found, Found], Found]
) -> Found:
    """Merge ``fn(block)`` of all blocks of a stream, made by this call's threads.

    Parameters
    ----------
    stream : RowStream
    fn : callable
        Of a bounded, dense block; a numba kernel that releases the GIL, at heart.
    merge : callable
        Associative and commutative, to the last bit.
    """

    def of_share(share: Iterator[Block]) -> Found | None:
        found = None
        for block in share:
            made = fn(block.dense())
            found = made if found is None else merge(found, made)
        return found

    shares = map_tiles(of_share, stream.shares(n_threads()))
    return reduce(merge, (found for found in shares if found is not None))


class RowTransformer(TransformerMixin, BaseEstimator, ABC):
    """Base of transformers whose fitted form is a `RowStep`.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
    """

    backend: str | Backend
    n_partitions: int | None

    _fitted_names: ClassVar[tuple[str, ...]] = ()
    _sklearn_class: ClassVar[type | None] = None

    @abstractmethod
    def _fit(self, session: Session, shards: Shards, source: Source) -> None:
        """Set the fitted attributes, from passes over `shards`, which hold `RowStream`."""

    @abstractmethod
    def row_step(self) -> RowStep:
        """Return what this fitted transformer does to rows, to send to workers."""

    @property
    def invertible(self) -> bool:
        """Whether `inverse_transform` gives back what `transform` was given, but for rounding."""
        return False

    def _inverse_step(self) -> RowStep:
        """Return what undoes it, as far as that is possible."""
        raise ConfigError(f"{type(self).__name__} cannot be inverted")

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn from the rows of X, without ever holding those of files.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), frame, path, or collection
        y : Ignored

        Returns
        -------
        self : estimator

        Raises
        ------
        ValueError
            Wrong parameters or data; `distclust.DataError` says where the data is wrong.
        """
        with opened(self, X, None, self.backend, reset=True, finite=self._finite) as (at, rows):
            self._fit_rows(Session(at), rows.source)
        return self

    def fit_source(self, session: Session, source: Source) -> Self:
        """Fit on a source in an existing session.

        Parameters
        ----------
        session : Session
        source : Source
            Its weights, if it has any, are not looked at.
        """
        self._validate_params()
        rows = open_input(self, source, None, session.backend, reset=True, finite=self._finite)
        self._fit_rows(session, rows.source)
        return self

    def transform(self, X: Any) -> Any:
        """Transform rows, in the form X came in.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), frame, path, or collection

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features_out), or as in `preprocessing.base`
        """
        check_is_fitted(self)
        step, home = self.row_step(), home_of(X)
        if home == "dask" and not isinstance(X, TransformedRows):
            columns = X.columns if hasattr(X, "columns") else range(X.shape[1])
            check_features(self, len(columns), feature_names(X), reset=False)
            return _map_chunks(X, step)
        at_home, in_memory = isinstance(self.backend, str) and home != "ray", is_in_memory(X)
        with opened(
            self, X, None, "local" if at_home else self.backend, reset=False, finite=self._finite
        ) as (backend, rows):
            allowed = Allowed.MISSING if in_memory else Allowed.FINITE
            source = TransformedRows(rows.source, step, allowed=allowed, home=home)
            return self._gathered(backend, source) if in_memory else source

    def transform_source(self, source: Source) -> TransformedRows:
        """Return the transformed rows of a source, lazily."""
        check_is_fitted(self)
        return TransformedRows(source, self.row_step())

    def inverse_transform(self, X: Any) -> Any:
        """Undo `transform`.

        Parameters
        ----------
        X : array of shape (n_samples, n_features_out), or Dask array

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features_in_), or Dask array
        """
        check_is_fitted(self)
        step = self._inverse_step()
        if home_of(X) == "dask":
            return _map_chunks(X, step)
        X = check_array(
            X,
            dtype=[np.float64, np.float32],
            order="C",
            accept_sparse="csr",
            ensure_all_finite=self._finite,
        )
        backend, owned = resolve(self.backend)
        try:
            rows = TransformedRows(ArraySource(X), step, allowed=Allowed.MISSING)
            return self._gathered(backend, rows)
        finally:
            if owned:
                backend.close()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model into directory `path`; `distclust.load` reads it."""
        check_is_fitted(self)
        params = {name: _plain(value) for name, value in self.get_params(deep=False).items()}
        if not isinstance(params["backend"], str):
            params["backend"] = "auto"
        if not isinstance(params.get("random_state"), int | None):
            params["random_state"] = None
        arrays, scalars = {}, {}
        for name in (*self._fitted_names, "n_features_in_"):
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                arrays[name] = value
            else:
                scalars[name] = _plain(value)
        scalars["feature_names_in_"] = [str(n) for n in getattr(self, "feature_names_in_", [])]
        kind = type(self).__name__
        write_model(path, StoredModel(kind=kind, params=params, scalars=scalars, arrays=arrays))

    @classmethod
    def from_stored(cls, stored: StoredModel) -> Self:
        """Rebuild a fitted transformer from what `save` wrote."""
        fitted = {**stored.scalars, **stored.arrays}
        known = {*cls._fitted_names, "n_features_in_", "feature_names_in_"}
        wrong = {*fitted} ^ known | {*stored.params} - {*cls._get_param_names()}
        if wrong:
            raise ModelError(f"not a {cls.__name__} as it was saved: see {sorted(wrong)}")
        model = cls(**{name: _parameter(value) for name, value in stored.params.items()})
        names = fitted.pop("feature_names_in_")
        if names:
            model.feature_names_in_ = np.asarray(names, dtype=object)
        for name, value in fitted.items():
            setattr(model, name, value)
        return model

    def to_sklearn(self) -> Any:
        """Return the fitted scikit-learn transformer of the same name."""
        check_is_fitted(self)
        if self._sklearn_class is None:
            raise ConfigError(f"scikit-learn has no {type(self).__name__}")
        known: Any = self._sklearn_class
        shared = {*known._get_param_names()} & {*self._get_param_names()}
        model = known(**{name: getattr(self, name) for name in shared})
        for name in (*self._fitted_names, "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(model, name, getattr(self, name))
        return model

    def __getstate__(self) -> Any:
        """Leave a connected backend behind: it means nothing to another process."""
        state: dict[str, Any] = super().__getstate__()
        return state if isinstance(self.backend, str) else {**state, "backend": "auto"}

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = self._allows_missing
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _allows_missing(self) -> bool:
        """Whether NaN may be in X."""
        return False

    @property
    def _finite(self) -> bool | str:
        return "allow-nan" if self._allows_missing else True

    def _fit_rows(self, session: Session, source: Source) -> None:
        with self._passes(session, source) as shards:
            self._fit(session, shards, source)

    @contextmanager
    def _passes(self, session: Session, source: Source) -> Iterator[Shards]:
        """Open the rows for passes that hold none."""
        n = self.n_partitions or _n_partitions(source, session.backend.slots)
        with session.stage(f"fitting {type(self).__name__}"):
            yield session.shard(Streamed(source), n)

    def _gathered(self, backend: Backend, source: TransformedRows) -> Any:
        """Bring transformed rows into this process, in order."""
        n_bytes = source.n_rows * source.n_features * source.dtype.itemsize
        n = max(_n_partitions(source, backend.slots), -(-n_bytes // GATHERED_BYTES))
        shards = Session(backend).shard(Streamed(source), self.n_partitions or n)
        if backend.name == "local" and not sp.issparse(getattr(source.source, "X", None)):
            made = np.empty((source.n_rows, source.n_features), source.dtype)
            for _ in shards.map(_write_rows, made):
                pass
            return made
        parts = (part for _, parts in shards.map(_rows_of_stream) for part in parts)
        first = next(parts)
        if sp.issparse(first[1]):
            in_order = sorted([first, *parts], key=lambda part: part[0])
            return sp.vstack([X for _, X in in_order], format="csr")
        out = np.empty((source.n_rows, source.n_features), source.dtype)
        for start, X in (first, *parts):
            out[start : start + len(X)] = X
        return out


def _rows_of_stream(stream: RowStream) -> list[tuple[int, Any]]:
    """Return the rows of a stream: (global id of the first, values) of each piece."""
    shares = stream.shares(n_threads())
    pieces = map_tiles(lambda share: [(block.row_start, block.X) for block in share], shares)
    return [piece for of_share in pieces for piece in of_share]


def _write_rows(stream: RowStream, out: npt.NDArray[Any]) -> None:
    """Write the rows of a stream where they belong: nothing is held, or copied, twice."""

    def write_share(share: Iterator[Block]) -> None:
        for block in share:
            out[block.row_start : block.row_start + block.n_rows] = block.X

    map_tiles(write_share, stream.shares(n_threads()))


def _n_partitions(source: Source, slots: int) -> int:
    if source.n_rows < MIN_ROWS_PER_PARTITION:
        return 1
    return partitions_for(source.n_rows, source.n_features * source.dtype.itemsize, slots)


def _map_chunks(X: Any, step: RowStep) -> Any:
    """Apply a step to the chunks of a Dask array or dataframe, lazily."""
    X = X if hasattr(X, "map_blocks") else X.to_dask_array()
    X = X.rechunk({1: -1})
    dtype = np.dtype(np.float32 if X.dtype in (np.float16, np.float32) else np.float64)
    n_features = step.n_features_out(X.shape[1])
    out = step.dtype_out(dtype)
    return X.map_blocks(
        partial(_transform_chunk, step=step, dtype=dtype),
        dtype=out,
        chunks=(X.chunks[0], (n_features,)),
        meta=np.empty((0, n_features), out),
    )


def _transform_chunk(chunk: Any, *, step: RowStep, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    try:
        allowed = Allowed.MISSING if step.accepts_missing else Allowed.FINITE
        X = rows_of(chunk, chunk.shape[1], dtype, None, None, allowed=allowed)
    except BadValue as bad:
        raise DataError(f"row {bad.row} of a chunk, column {bad.column}: {bad.problem}") from None
    made: npt.NDArray[Any] = transformed(step, Block(X, 0)).X
    return made


def _plain(value: Any) -> Any:
    """Return a JSON value."""
    return value.item() if isinstance(value, np.generic) else value


def _parameter(value: Any) -> Any:
    """Turn a JSON value into a parameter's."""
    return tuple(value) if isinstance(value, list) else value
