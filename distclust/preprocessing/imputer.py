"""Missing values filled with a statistic of their column."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.impute import MissingIndicator
from sklearn.impute import SimpleImputer as SklearnSimpleImputer
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from distclust.data.blocks import Block, Source
from distclust.data.steps import RowStep
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards
from distclust.errors import ConfigError, DataError
from distclust.kernels.affine import fill_rows
from distclust.preprocessing.base import RowTransformer
from distclust.preprocessing.statistics import most_frequent, quantiles, sums

__all__ = ["SimpleImputer"]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
INDICATOR = "missingindicator"  # scikit-learn's, before the name of the feature
STRATEGIES = ("mean", "median", "most_frequent", "constant")


@dataclass(frozen=True, eq=False)
class Fill(RowStep):
    """Puts `values` where something is missing, and leaves out columns whose value is NaN.

    After these come columns of ones and zeros: where those of `indicated` are missing.
    """

    values: F64  # (n_features_in,)
    missing: float
    indicated: I64

    @property
    def accepts_missing(self) -> bool:
        return bool(np.isnan(self.missing))

    @property
    def kept(self) -> npt.NDArray[np.int64]:
        return np.flatnonzero(~np.isnan(self.values))

    def __call__(self, block: Block) -> Block:
        X = fill_rows(block.X, self.missing, self.values, self.kept)
        if len(self.indicated):
            given = block.X[:, self.indicated]
            absent = np.isnan(given) if np.isnan(self.missing) else given == self.missing
            X = np.concatenate([X, absent.astype(X.dtype)], axis=1)
        return Block(X, block.row_start, block.weights)

    def n_features_out(self, n_features: int) -> int:
        return len(self.kept) + len(self.indicated)

    def feature_names_out(self, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is None:
            return None
        indicators = (f"{INDICATOR}_{names[j]}" for j in self.indicated)
        return (*(names[j] for j in self.kept), *indicators)


@dataclass(frozen=True, eq=False)
class Restore(RowStep):
    """Undoes a `Fill` that indicates what was missing."""

    fill: Fill

    def __call__(self, block: Block) -> Block:
        kept, indicated = self.fill.kept, self.fill.indicated
        X = np.full((block.n_rows, len(self.fill.values)), self.fill.missing, block.X.dtype)
        X[:, kept] = block.X[:, : len(kept)]
        absent = np.zeros(X.shape, dtype=bool)
        absent[:, indicated] = block.X[:, len(kept) :] != 0
        X[absent] = self.fill.missing
        return Block(X, block.row_start, block.weights)

    def n_features_out(self, n_features: int) -> int:
        return len(self.fill.values)


class SimpleImputer(RowTransformer):
    """Fill missing values with a statistic of their column, as `sklearn.impute.SimpleImputer`.

    Missing are NaN, nulls of tables and files (also in columns of integers) or, instead, a
    number that stands for them. Statistics are exact, and the same bits on any backend and
    any number of workers; no rows are held. Methods accept what
    `distclust.preprocessing.base` lists.

    Parameters
    ----------
    missing_values : float, default=nan
        A number other than NaN makes NaN an error.
    strategy : {"mean", "median", "most_frequent", "constant"}, default="mean"
        Of equally frequent values the least is taken. A feature of more than 65,536
        different values has no ``"most_frequent"`` here: an error.
    fill_value : float, optional
        For ``"constant"``; 0 unless given.
    add_indicator : bool, default=False
        Whether a column of ones and zeros follows for each feature of which some value was
        missing in `fit`: where values are. They are named ``missingindicator_`` and the
        feature's name.
    keep_empty_features : bool, default=False
        Whether features without any value are filled with 0 (or `fill_value`), or left out.
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives.
    n_partitions : int, optional
        Parts the rows are split into.

    Attributes
    ----------
    statistics_ : ndarray of shape (n_features_in_,), float64
        What each feature is filled with; NaN if it is left out.
    indicator_ : sklearn.impute.MissingIndicator or None
        Of the features that have a column of ones and zeros.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Examples
    --------
    >>> SimpleImputer().fit_transform([[1.0, 2.0], [np.nan, 4.0], [3.0, np.nan]])
    array([[1., 2.],
           [2., 4.],
           [3., 3.]])
    >>> SimpleImputer(add_indicator=True).fit_transform([[1.0, 2.0], [np.nan, 4.0]])
    array([[1., 2., 0.],
           [1., 4., 1.]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "missing_values": [Real],
        "strategy": [StrOptions(set(STRATEGIES))],
        "fill_value": [None, Real],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }
    _fitted_names = ("statistics_", "indicated_")
    _sklearn_class = SklearnSimpleImputer

    statistics_: F64
    indicated_: I64

    def __init__(
        self,
        *,
        missing_values: float = np.nan,
        strategy: str = "mean",
        fill_value: float | None = None,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.missing_values = missing_values
        self.strategy = strategy
        self.fill_value = fill_value
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.backend = backend
        self.n_partitions = n_partitions

    @property
    def _allows_missing(self) -> bool:
        return bool(np.isnan(self.missing_values))

    def _fit(self, session: Session, shards: Shards, source: Source) -> None:
        found = self._statistics(shards, source)
        if self.keep_empty_features:
            found = np.where(np.isnan(found), 0.0, found)
        empty = np.flatnonzero(np.isnan(found))
        if len(empty) == len(found):
            raise DataError("no feature has any value; nothing is left to fill")
        if len(empty):
            named = getattr(self, "feature_names_in_", np.arange(len(found)))[empty]
            warnings.warn(
                f"Skipping features without any observed values: {named}. At least one "
                f"non-missing value is needed for imputation with strategy={self.strategy!r}.",
                UserWarning,
                stacklevel=4,
            )
        self.statistics_ = found
        self.indicated_ = np.empty(0, dtype=np.int64)
        if self.add_indicator:
            counts = sums(shards, float(self.missing_values), squares=False).counts
            self.indicated_ = np.flatnonzero(counts < source.n_rows)

    def _statistics(self, shards: Shards, source: Source) -> F64:
        missing, d = float(self.missing_values), source.n_features
        if self.strategy == "constant":
            value = 0.0 if self.fill_value is None else float(self.fill_value)
            if self.keep_empty_features:
                return np.full(d, value)
            return np.where(sums(shards, missing, squares=False).counts == 0, np.nan, value)
        if self.strategy == "mean":
            return sums(shards, missing, squares=False).means()
        if self.strategy == "median":
            return quantiles(shards, d, (0.5,), missing)[0][:, 0]
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(d)])
        return most_frequent(shards, missing, list(names))

    def row_step(self) -> Fill:
        """Return what this does to rows, to send to workers."""
        return Fill(self.statistics_, float(self.missing_values), self.indicated_)

    @property
    def indicator_(self) -> MissingIndicator | None:
        """What scikit-learn has under this name."""
        return self.to_sklearn().indicator_

    @property
    def invertible(self) -> bool:
        """Whether the same features come out, so that means of rows are in the units they had."""
        return not (np.isnan(self.statistics_).any() or len(self.indicated_))

    def _inverse_step(self) -> RowStep:
        if self.add_indicator:
            return Restore(self.row_step())
        if not self.invertible:
            raise ConfigError(
                "features were left out, and cannot be put back; add_indicator=True says where "
                "values were missing"
            )
        return Fill(np.zeros_like(self.statistics_), np.inf, self.indicated_)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return the names of the features that are not left out, and of indicators."""
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        return np.asarray(self.row_step().feature_names_out(tuple(names)), dtype=object)

    def to_sklearn(self) -> Any:
        """Return the fitted scikit-learn transformer of the same name."""
        model = super().to_sklearn()
        del model.indicated_
        rows = np.tile(self.statistics_, (2, 1))
        rows[1, self.indicated_] = np.nan
        rows[np.isnan(rows)] = self.missing_values
        model.fit(rows)  # sets what scikit-learn's methods rely on
        model.statistics_ = self.statistics_
        if hasattr(self, "feature_names_in_"):
            model.feature_names_in_ = self.feature_names_in_
        return model

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags
