"""Random projections: fewer features, with distances nearly as they were.

The matrix is never sent anywhere, or saved: it is regenerated from its seed wherever rows
are projected, with the same bits (`distclust.kernels.random_matrix`). Each sum of a product
is made in one order with one rounding a term (`distclust.kernels.product`), without BLAS,
so a projected row is the same on any backend, partitioning, thread or processor.

How many components keep the squared distances of n rows to a factor of 1 +- eps says the
lemma of W. Johnson and J. Lindenstrauss (S. Dasgupta and A. Gupta, "An elementary proof of
a theorem of Johnson and Lindenstrauss", 2003): ``n_components="auto"``.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy import linalg
from sklearn import random_projection as sklearn_projections
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.random_projection import johnson_lindenstrauss_min_dim
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from distclust.data.blocks import Source
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards
from distclust.engine.threads import worker_threads
from distclust.errors import ConfigError
from distclust.model import StoredModel
from distclust.preprocessing.base import RowTransformer
from distclust.preprocessing.linear import Multiply
from distclust.preprocessing.random_steps import (
    GaussianStep,
    HadamardStep,
    RandomStep,
    SparseStep,
    transform_size,
)

__all__ = ["GaussianRandomProjection", "HadamardRandomProjection", "SparseRandomProjection"]


class _RandomProjection(ClassNamePrefixFeaturesOutMixin, RowTransformer):
    """Base of random projections: nothing is learnt but the shape of the data."""

    n_components: int | str
    eps: float
    compute_inverse_components: bool
    random_state: Any
    n_components_: int
    seed_: int
    inverse_components_: npt.NDArray[np.float64]

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "eps": [Interval(Real, 0, None, closed="neither")],
        "compute_inverse_components": ["boolean"],
        "random_state": ["random_state"],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }
    _fitted_names: ClassVar[tuple[str, ...]] = ("n_components_", "seed_")

    @abstractmethod
    def row_step(self) -> RandomStep:
        """Return what this does to rows, to send to workers."""

    def _fit(self, session: Session, shards: Shards, source: Source) -> None:
        """Look at the shape, and at no row."""
        self.n_components_ = self._chosen_components(source.n_rows, source.n_features)
        seeds = check_random_state(self.random_state)
        self.seed_ = int(seeds.randint(np.iinfo(np.int32).max))
        self._invert()

    def _chosen_components(self, n_samples: int, n_features: int) -> int:
        if self.n_components == "auto":
            chosen = int(johnson_lindenstrauss_min_dim(n_samples=n_samples, eps=self.eps))
            told = (
                f"eps={self.eps:f} and n_samples={n_samples} lead to a target dimension of {chosen}"
            )
            if chosen <= 0:
                raise ConfigError(f"{told} which is invalid")
            if chosen > n_features:
                raise ConfigError(
                    f"{told} which is larger than the original space with n_features={n_features}"
                )
            return chosen
        chosen = int(self.n_components)
        if chosen > n_features:
            warnings.warn(
                "The number of components is higher than the number of features: n_features < "
                f"n_components ({n_features} < {chosen}). The dimensionality of the problem will "
                "not be reduced.",
                DataDimensionalityWarning,
                stacklevel=2,
            )
        return chosen

    @property
    def components_(self) -> Any:
        """The matrix, made again each time it is asked for, (n_components_, n_features_in_)."""
        check_is_fitted(self)
        return self.row_step().matrix()

    def _invert(self) -> None:
        if self.compute_inverse_components:
            self.inverse_components_ = self._pseudo_inverse()

    def _pseudo_inverse(self) -> npt.NDArray[np.float64]:
        matrix = self.components_
        with worker_threads(1):  # BLAS's bits must not depend on how many it would use
            inverse: npt.NDArray[np.float64] = linalg.pinv(
                matrix.toarray() if sp.issparse(matrix) else matrix, check_finite=False
            )
        return inverse

    def _inverse_step(self) -> Multiply:
        if self.compute_inverse_components:
            return Multiply(self.inverse_components_)
        return Multiply(self._pseudo_inverse())

    @classmethod
    def from_stored(cls, stored: StoredModel) -> Self:
        """Rebuild a fitted projection from what `save` wrote: its matrix is made again."""
        model = super().from_stored(stored)
        model._invert()
        return model

    def to_sklearn(self) -> Any:
        """Return the fitted scikit-learn projection with the same matrix."""
        model = super().to_sklearn()
        del model.seed_
        model.components_ = self.components_
        model._n_features_out = self.n_components_
        if self.compute_inverse_components:
            model.inverse_components_ = self.inverse_components_
        return model

    @property
    def _n_features_out(self) -> int:
        return self.n_components_


class GaussianRandomProjection(_RandomProjection):
    """Project on directions drawn at random, as `sklearn.random_projection`'s.

    Entries of the matrix are normal, with variance ``1 / n_components``. Methods accept what
    `distclust.preprocessing.base` lists; files are projected while they are read, and never
    held as they are.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        ``"auto"`` is as many as the Johnson-Lindenstrauss lemma asks for.
    eps : float, default=0.1
        How far squared distances may be off, relatively, with ``"auto"``.
    compute_inverse_components : bool, default=False
        Whether to compute in `fit`, rather than in each `inverse_transform`, the matrix's
        pseudo-inverse.
    random_state : int, RandomState instance or None, default=None
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives.
    n_partitions : int, optional
        Parts the rows are split into.

    Attributes
    ----------
    n_components_ : int
    components_ : ndarray of shape (n_components_, n_features_in_)
        Made again from `seed_` each time it is asked for.
    seed_ : int
        What the matrix is made of, for any number of rows.
    inverse_components_ : ndarray of shape (n_features_in_, n_components_)
        With `compute_inverse_components`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(size=(25, 3000))
    >>> GaussianRandomProjection(random_state=0).fit_transform(X).shape
    (25, 2759)
    """

    _sklearn_class = sklearn_projections.GaussianRandomProjection

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        eps: float = 0.1,
        compute_inverse_components: bool = False,
        random_state: Any = None,
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.eps = eps
        self.compute_inverse_components = compute_inverse_components
        self.random_state = random_state
        self.backend = backend
        self.n_partitions = n_partitions

    def row_step(self) -> GaussianStep:
        """Return what this does to rows, to send to workers."""
        prefix = type(self).__name__.lower()
        return GaussianStep(self.seed_, self.n_features_in_, self.n_components_, prefix)


class SparseRandomProjection(_RandomProjection):
    """Project with a sparse random matrix, as `sklearn.random_projection`'s.

    With ``s = 1 / density``, an entry is ``sqrt(s / n_components)`` with probability
    ``1 / 2s``, as likely its negative, else zero: D. Achlioptas, "Database-friendly random
    projections", 2003, with ``density=1 / 3``; P. Li, T. Hastie and K. Church, "Very sparse
    random projections", 2006, with ``density="auto"``. Methods accept what
    `distclust.preprocessing.base` lists; files are projected while they are read.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        ``"auto"`` is as many as the Johnson-Lindenstrauss lemma asks for.
    density : float or "auto", default="auto"
        Share of nonzero entries, in ]0, 1]; ``"auto"`` is ``1 / sqrt(n_features)``.
    eps : float, default=0.1
        How far squared distances may be off, relatively, with ``n_components="auto"``.
    dense_output : bool, default=False
        Whether sparse rows become dense ones.
    compute_inverse_components : bool, default=False
        Whether to compute in `fit`, rather than in each `inverse_transform`, the matrix's
        pseudo-inverse.
    random_state : int, RandomState instance or None, default=None
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives.
    n_partitions : int, optional
        Parts the rows are split into.

    Attributes
    ----------
    n_components_ : int
    components_ : CSR matrix of shape (n_components_, n_features_in_)
        Made again from `seed_` each time it is asked for.
    density_ : float
    seed_ : int
    inverse_components_ : ndarray of shape (n_features_in_, n_components_)
        With `compute_inverse_components`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(size=(25, 3000))
    >>> projection = SparseRandomProjection(n_components=10, random_state=0).fit(X)
    >>> projection.transform(X).shape, round(projection.density_, 4)
    ((25, 10), 0.0183)
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_RandomProjection._parameter_constraints,
        "density": [Interval(Real, 0.0, 1.0, closed="right"), StrOptions({"auto"})],
        "dense_output": ["boolean"],
    }
    _fitted_names = ("n_components_", "seed_", "density_")
    _sklearn_class = sklearn_projections.SparseRandomProjection

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        density: float | str = "auto",
        eps: float = 0.1,
        dense_output: bool = False,
        compute_inverse_components: bool = False,
        random_state: Any = None,
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.density = density
        self.eps = eps
        self.dense_output = dense_output
        self.compute_inverse_components = compute_inverse_components
        self.random_state = random_state
        self.backend = backend
        self.n_partitions = n_partitions

    def _fit(self, session: Session, shards: Shards, source: Source) -> None:
        auto = 1 / np.sqrt(source.n_features)
        self.density_ = float(auto if self.density == "auto" else self.density)
        super()._fit(session, shards, source)

    def row_step(self) -> SparseStep:
        """Return what this does to rows, to send to workers."""
        prefix = type(self).__name__.lower()
        shape = self.n_features_in_, self.n_components_
        return SparseStep(self.seed_, *shape, prefix, self.density_, self.dense_output)


class HadamardRandomProjection(_RandomProjection):
    """Project with a subsampled randomised Hadamard transform: fast for many features.

    Features get random signs, a Hadamard transform mixes them in ``d log2(d)`` additions,
    and a random subset of what comes out is kept (N. Ailon and B. Chazelle, "The fast
    Johnson-Lindenstrauss transform", 2009; J. Tropp, "Improved analysis of the subsampled
    randomized Hadamard transform", 2011). With 512 features and more that is several times
    faster than `GaussianRandomProjection`; distances are kept about as well. scikit-learn
    has no such projection, but `to_sklearn` returns its `SparseRandomProjection` with the
    same matrix, whose entries are all ``+-1 / sqrt(n_components)``.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        At most the power of two that the features are filled up to. ``"auto"`` is as many as
        the Johnson-Lindenstrauss lemma asks for.
    eps : float, default=0.1
        How far squared distances may be off, relatively, with ``"auto"``.
    compute_inverse_components : bool, default=False
        Whether to compute in `fit`, rather than in each `inverse_transform`, the matrix's
        pseudo-inverse.
    random_state : int, RandomState instance or None, default=None
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives.
    n_partitions : int, optional
        Parts the rows are split into.

    Attributes
    ----------
    n_components_ : int
    components_ : ndarray of shape (n_components_, n_features_in_)
        Made again from `seed_` each time it is asked for.
    seed_ : int
    inverse_components_ : ndarray of shape (n_features_in_, n_components_)
        With `compute_inverse_components`.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Examples
    --------
    >>> X = np.random.default_rng(0).uniform(size=(25, 1000))
    >>> HadamardRandomProjection(n_components=64, random_state=0).fit_transform(X).shape
    (25, 64)
    """

    _sklearn_class = sklearn_projections.SparseRandomProjection

    def __init__(
        self,
        n_components: int | str = "auto",
        *,
        eps: float = 0.1,
        compute_inverse_components: bool = False,
        random_state: Any = None,
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.eps = eps
        self.compute_inverse_components = compute_inverse_components
        self.random_state = random_state
        self.backend = backend
        self.n_partitions = n_partitions

    def _chosen_components(self, n_samples: int, n_features: int) -> int:
        chosen, most = super()._chosen_components(n_samples, n_features), transform_size(n_features)
        if chosen > most:
            raise ConfigError(
                f"n_components={chosen} should be at most {most}: the Hadamard transform of "
                f"{n_features} features has no more values"
            )
        return chosen

    def row_step(self) -> HadamardStep:
        """Return what this does to rows, to send to workers."""
        prefix = type(self).__name__.lower()
        return HadamardStep(self.seed_, self.n_features_in_, self.n_components_, prefix)

    def to_sklearn(self) -> Any:
        """Return a fitted `sklearn.random_projection.SparseRandomProjection` with this matrix."""
        model = super().to_sklearn().set_params(density=1.0)
        model.density_ = 1.0
        return model
