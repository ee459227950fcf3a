"""Principal components of any number of rows, from second moments that are exact.

Two passes: the extremes of each feature, which choose a grid, and the products of all pairs
of features, which are integers on it (`distclust.kernels.gram`). What they add up to is the
same on any partitioning, backend and number of threads; one eigendecomposition of it, in the
calling process and on one BLAS thread, does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.decomposition import PCA as SklearnPCA
from sklearn.utils._param_validation import Interval, RealNotInt

from distclust.data.blocks import Block, Source
from distclust.data.transformed import RowStream
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards
from distclust.engine.threads import map_tiles, n_threads, worker_threads
from distclust.errors import ConfigError, DataError
from distclust.kernels.gram import (
    GramScale,
    GramSum,
    SecondMoments,
    covariance,
    merge_second_moments,
)
from distclust.kernels.scaling import Extremes, extremes, merge_extremes
from distclust.preprocessing.base import RowTransformer, reduce_blocks
from distclust.preprocessing.linear import Multiply

__all__ = ["PCA"]

F64 = npt.NDArray[np.float64]


class PCA(ClassNamePrefixFeaturesOutMixin, RowTransformer):
    """Project on the directions of greatest variance, as `sklearn.decomposition.PCA`.

    Second moments are exact, wherever the rows lie: 1e8 added to every value changes
    nothing that float64 still holds. Each thread of a worker holds six float64 arrays of
    shape (n_features, n_features) while it sums. Methods accept what
    `distclust.preprocessing.base` lists.

    Parameters
    ----------
    n_components : int, float or None, default=None
        How many; None means ``min(n_samples, n_features)``, and a number between 0 and 1 as
        many as explain more than this share of the variance.
    whiten : bool, default=False
        Whether to scale what comes out to unit variance.
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives.
    n_partitions : int, optional
        Parts the rows are split into.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_features_in_), float64
        Directions of greatest variance first. The entry of greatest magnitude is positive.
    explained_variance_ : ndarray of shape (n_components_,)
    explained_variance_ratio_ : ndarray of shape (n_components_,)
    singular_values_ : ndarray of shape (n_components_,)
    mean_ : ndarray of shape (n_features_in_,)
    n_components_ : int
    noise_variance_ : float
        Mean variance of the directions left out.
    n_samples_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Notes
    -----
    Variances of directions that have less than about ``1e-15`` of the greatest are rounding,
    as those of any eigendecomposition are. The last bits of an eigendecomposition also are
    those of the LAPACK of the calling process: fit once, and share what was fitted.

    Examples
    --------
    >>> pca = PCA(n_components=1).fit([[-1.0, -1.0], [-2.0, -1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> pca.explained_variance_ratio_.round(4), pca.components_.round(4)
    (array([0.9792]), array([[0.8507, 0.5257]]))
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_components": [
            Interval(Integral, 0, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "whiten": ["boolean"],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }
    _fitted_names = (
        "components_",
        "explained_variance_",
        "explained_variance_ratio_",
        "singular_values_",
        "mean_",
        "n_components_",
        "noise_variance_",
        "n_samples_",
    )
    _sklearn_class = SklearnPCA

    components_: F64
    explained_variance_: F64
    mean_: F64

    def __init__(
        self,
        n_components: int | float | None = None,
        *,
        whiten: bool = False,
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.backend = backend
        self.n_partitions = n_partitions

    def _fit(self, session: Session, shards: Shards, source: Source) -> None:
        n, d = source.n_rows, source.n_features
        if n < 2:
            raise DataError(
                f"Found array with {n} sample(s) (shape={(n, d)}) while a minimum of 2 is "
                "required by PCA."
            )
        most = min(n, d)
        if self.n_components is not None and self.n_components > most:
            raise ConfigError(
                f"n_components={self.n_components} must be between 0 and "
                f"min(n_samples, n_features)={most} with svd_solver='covariance_eigh'"
            )
        scale = GramScale.of(shards.reduce(stream_extremes, merge_extremes))
        sent = session.broadcast(scale)
        found = shards.reduce(stream_second_moments, merge_second_moments, sent)
        self._decompose(*covariance(found, scale), n)

    def _decompose(self, mean: F64, covariances: F64, n: int) -> None:
        """Set the fitted attributes."""
        if not np.isfinite(covariances).all():
            raise DataError(
                "a variance is beyond the range of float64; multiply all values by a power of "
                "two, say 2**-512"
            )
        with worker_threads(1):  # LAPACK's bits must not depend on how many it would use
            variances, vectors = np.linalg.eigh(covariances)
        most = min(n, len(mean))
        variances = np.maximum(variances[::-1][:most], 0.0)
        components = np.ascontiguousarray(vectors[:, ::-1].T)[:most]
        greatest = np.abs(components).argmax(axis=1)
        components *= np.sign(components[np.arange(most), greatest])[:, np.newaxis]
        total = variances.sum()
        ratios = variances / total if total > 0 else np.zeros(most)
        k = self._chosen_components(ratios)
        self.mean_, self.n_samples_, self.n_components_ = mean, n, k
        self.components_ = components[:k].copy()
        self.explained_variance_ = variances[:k].copy()
        self.explained_variance_ratio_ = ratios[:k].copy()
        self.singular_values_ = np.sqrt(variances[:k] * (n - 1))
        self.noise_variance_ = float(variances[k:].mean()) if k < most else 0.0

    def _chosen_components(self, ratios: F64) -> int:
        if self.n_components is None:
            return len(ratios)
        if self.n_components >= 1 or self.n_components == 0:
            return int(self.n_components)
        enough = np.searchsorted(np.cumsum(ratios), self.n_components, side="right") + 1
        return min(int(enough), len(ratios))

    def row_step(self) -> Multiply:
        """Return what this does to rows, to send to workers."""
        prefix = type(self).__name__.lower()
        return Multiply(self.components_ / self._scale, self.mean_, prefix=prefix)

    @property
    def invertible(self) -> bool:
        """Whether centers may be shown as rows: where components were left out, their mean is."""
        return True

    def _inverse_step(self) -> Multiply:
        return Multiply((self.components_ * self._scale).T.copy(), shift=self.mean_)

    @property
    def _scale(self) -> F64:
        """What whitening divides by, (n_components_, 1)."""
        if not self.whiten:
            return np.ones((self.n_components_, 1))
        least = np.finfo(np.float64).eps  # as scikit-learn clips it
        return np.maximum(np.sqrt(self.explained_variance_), least)[:, np.newaxis]

    @property
    def _n_features_out(self) -> int:
        return self.n_components_


def stream_extremes(stream: RowStream) -> Extremes:
    """Find the extremes of one partition's rows."""
    return reduce_blocks(stream, lambda block: extremes(block.X, None), merge_extremes)


def stream_second_moments(stream: RowStream, scale: GramScale) -> SecondMoments:
    """Sum the products of all pairs of features over one partition's rows."""

    def of_share(share: Iterator[Block]) -> SecondMoments:
        total = GramSum(scale)
        for block in share:
            total.add(block.dense().X)
        return total.total()

    return reduce(merge_second_moments, map_tiles(of_share, stream.shares(n_threads())))
