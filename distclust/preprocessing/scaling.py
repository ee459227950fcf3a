"""Columns shifted and scaled: by mean and variance, or by median and quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sklearn.base import OneToOneFeatureMixin, _fit_context
from sklearn.preprocessing import RobustScaler as SklearnRobustScaler
from sklearn.preprocessing import StandardScaler as SklearnStandardScaler
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval

from distclust.data.blocks import Block, Source
from distclust.data.steps import RowStep
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards
from distclust.errors import ConfigError, DataError
from distclust.inputs import opened
from distclust.kernels.affine import scale_rows, unscale_rows
from distclust.preprocessing.base import RowTransformer
from distclust.preprocessing.moments import Moments
from distclust.preprocessing.statistics import quantiles

__all__ = ["RobustScaler", "StandardScaler"]

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scale(RowStep):
    """Subtracts `shift` and divides by `scale`, or undoes that; None leaves it out."""

    shift: F64 | None  # (n_features,)
    scale: F64 | None  # (n_features,)
    inverse: bool = False

    @property
    def accepts_missing(self) -> bool:
        return True

    @property
    def keeps_sparse(self) -> bool:
        return self.shift is None

    def __call__(self, block: Block) -> Block:
        X, kernel = block.X, unscale_rows if self.inverse else scale_rows
        if block.is_sparse:
            if self.scale is not None:
                scale = self.scale[X.indices]
                data = kernel(X.data[np.newaxis], np.zeros(len(scale)), scale)[0]
                X = type(X)((data, X.indices, X.indptr), shape=X.shape)
        else:
            d = X.shape[1]
            shift = np.zeros(d) if self.shift is None else self.shift
            X = kernel(X, shift, np.ones(d) if self.scale is None else self.scale)
        return Block(X, block.row_start, block.weights)


class Scaler(OneToOneFeatureMixin, RowTransformer):
    """What scalers share."""

    @property
    def _allows_missing(self) -> bool:
        return True

    @property
    def _shift(self) -> F64 | None:
        """What is subtracted from each feature."""
        raise NotImplementedError

    @property
    def _centers(self) -> bool:
        """Whether anything is."""
        raise NotImplementedError

    scale_: F64 | None

    def row_step(self) -> Scale:
        """Return what this does to rows, to send to workers."""
        return Scale(self._shift, self.scale_)

    @property
    def invertible(self) -> bool:
        return True

    def _inverse_step(self) -> Scale:
        return Scale(self._shift, self.scale_, inverse=True)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self._centers
        return tags


class StandardScaler(Scaler):
    """Scale each feature to mean zero and variance one, as `sklearn.preprocessing.StandardScaler`.

    Sums and sums of squares are exact integers, and mean and variance are rounded once: the
    same bits on any backend and any number of workers, and all digits also far from zero.
    One pass over the rows, none of which is held; they may also come in several calls of
    `partial_fit`, with the bits of one `fit` of all. Methods accept what
    `distclust.preprocessing.base` lists; NaN is left out in `fit` and stays in `transform`.

    Parameters
    ----------
    with_mean, with_std : bool, default=True
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives.
    n_partitions : int, optional
        Parts the rows are split into.

    Attributes
    ----------
    mean_, var_, scale_ : ndarray of shape (n_features_in_,), float64, or None
        None as in scikit-learn, where neither is asked for.
    n_samples_seen_ : int, or ndarray of shape (n_features_in_,) where values are missing
        With weights, their sums: float.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Notes
    -----
    A feature is constant, and is not scaled, if its variance is exactly zero; scikit-learn
    allows for its rounding errors, and so takes features for constant whose variation is
    tiny against their mean.

    Sample weights are exact as well: a row of weight 3 is three rows. A saved model keeps
    mean and variance, not the sums: a `partial_fit` after loading goes on from these.

    Examples
    --------
    >>> StandardScaler().fit_transform([[1e8, 0.0], [1e8 + 2, 0.0]])
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "with_mean": ["boolean"],
        "with_std": ["boolean"],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }
    _fitted_names = ("mean_", "var_", "scale_", "n_samples_seen_")
    _sklearn_class = SklearnStandardScaler

    mean_: F64 | None
    var_: F64 | None
    n_samples_seen_: Any
    _moments: Moments

    def __init__(
        self,
        *,
        with_mean: bool = True,
        with_std: bool = True,
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.with_mean = with_mean
        self.with_std = with_std
        self.backend = backend
        self.n_partitions = n_partitions

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn mean and variance from the rows of X, without ever holding those of files.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), frame, path, or collection
        y : Ignored
        sample_weight : array of shape (n_samples,), or a column's name for files

        Returns
        -------
        self : StandardScaler

        Raises
        ------
        ValueError
            Wrong parameters or data; `distclust.DataError` says where the data is wrong.
        """
        self._forget()
        fitted: Self = self.partial_fit(X, y, sample_weight)
        return fitted

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Learn from more rows; parameters are those of `fit`."""
        reset = not hasattr(self, "n_samples_seen_")
        with opened(self, X, sample_weight, self.backend, reset=reset, finite=self._finite) as (
            at,
            rows,
        ):
            weighted = sample_weight is not None
            with self._passes(Session(at), rows.source) as shards:
                found = Moments.of_rows(shards, squares=self.with_std, weighted=weighted)
        self._learn(found if reset else self._known_moments().plus(found))
        return self

    def _fit(self, session: Session, shards: Shards, source: Source) -> None:
        self._learn(Moments.of_rows(shards, squares=self.with_std, weighted=False))

    def _learn(self, moments: Moments) -> None:
        totals = moments.totals()
        if not moments.counted and not totals.any():
            raise DataError("every sample weight is 0; at least one row must weigh something")
        variances = moments.variances() if self.with_std else None
        if variances is not None and np.isinf(variances).any():
            raise DataError(
                f"the variance of feature {int(np.argmax(np.isinf(variances)))} exceeds "
                "float64; divide its values by a large number first"
            )
        self.mean_ = moments.means() if self.with_mean or self.with_std else None
        self.var_ = variances
        self.scale_ = None
        if variances is not None:
            self.scale_ = np.where(variances == 0, 1.0, np.sqrt(variances))
        equal = bool((totals == totals[0]).all())
        self.n_samples_seen_ = totals[0].item() if equal else totals
        self._moments = moments

    def _known_moments(self) -> Moments:
        """Return the sums so far; of a model that was loaded, some that have its variances."""
        if not hasattr(self, "_moments"):
            n_seen, nothing = self.n_samples_seen_, np.zeros(self.n_features_in_)
            self._moments = Moments.of_fitted(
                n_seen,
                nothing if self.mean_ is None else self.mean_,
                nothing if self.var_ is None else self.var_,
                counted=np.asarray(n_seen).dtype.kind == "i",
            )
        return self._moments

    def _forget(self) -> None:
        for name in (*self._fitted_names, "_moments"):
            if hasattr(self, name):
                delattr(self, name)

    @property
    def _shift(self) -> F64 | None:
        return self.mean_ if self.with_mean else None

    @property
    def _centers(self) -> bool:
        return bool(self.with_mean)


class RobustScaler(Scaler):
    """Center and scale each feature by quantiles, as `sklearn.preprocessing.RobustScaler`.

    Quantiles are exact, found by counting (`distclust.preprocessing.statistics`), in a few
    passes over the rows, none of which is held: the same bits on any backend and any number
    of workers. Methods accept what `distclust.preprocessing.base` lists; NaN is left out in
    `fit` and stays in `transform`.

    Parameters
    ----------
    with_centering, with_scaling : bool, default=True
    quantile_range : tuple (q_min, q_max), 0.0 <= q_min <= q_max <= 100.0, default=(25.0, 75.0)
    unit_variance : bool, default=False
        Scale so that normally distributed features get variance one.
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives.
    n_partitions : int, optional
        Parts the rows are split into.

    Attributes
    ----------
    center_, scale_ : ndarray of shape (n_features_in_,), float64, or None
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Examples
    --------
    >>> RobustScaler().fit_transform([[0.0], [1.0], [2.0], [3.0], [1000.0]]).ravel()
    array([ -1. ,  -0.5,   0. ,   0.5, 499. ])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "with_centering": ["boolean"],
        "with_scaling": ["boolean"],
        "quantile_range": [tuple, list],
        "unit_variance": ["boolean"],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }
    _fitted_names = ("center_", "scale_")
    _sklearn_class = SklearnRobustScaler

    center_: F64 | None

    def __init__(
        self,
        *,
        with_centering: bool = True,
        with_scaling: bool = True,
        quantile_range: tuple[float, float] = (25.0, 75.0),
        unit_variance: bool = False,
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.with_centering = with_centering
        self.with_scaling = with_scaling
        self.quantile_range = quantile_range
        self.unit_variance = unit_variance
        self.backend = backend
        self.n_partitions = n_partitions

    def _fit(self, session: Session, shards: Shards, source: Source) -> None:
        q_min, q_max = self.quantile_range
        if not 0 <= q_min <= q_max <= 100:
            raise ConfigError(f"Invalid quantile range: {self.quantile_range}")
        wanted = (0.5, q_min / 100, q_max / 100)
        found, _ = quantiles(shards, source.n_features, wanted)
        median, low, high = found.T
        self.center_ = median if self.with_centering else None
        self.scale_ = None
        if self.with_scaling:
            spread = high - low
            spread = np.where(spread < 10 * np.finfo(np.float64).eps, 1.0, spread)
            if self.unit_variance:
                spread = spread / (norm.ppf(q_max / 100) - norm.ppf(q_min / 100))
            self.scale_ = spread

    @property
    def _shift(self) -> F64 | None:
        return self.center_

    @property
    def _centers(self) -> bool:
        return bool(self.with_centering)
