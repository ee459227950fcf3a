"""Rows scaled to norm one."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.preprocessing import Normalizer as SklearnNormalizer
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions

from distclust.data.blocks import Block, Source
from distclust.data.steps import RowStep
from distclust.engine.protocol import Backend
from distclust.engine.shards import Session, Shards
from distclust.kernels.unit import NORMS, scaled_rows
from distclust.preprocessing.base import RowTransformer

__all__ = ["Normalizer"]


@dataclass(frozen=True)
class Normalize(RowStep):
    """Divides each row by its norm."""

    norm: str

    @property
    def keeps_sparse(self) -> bool:
        return True

    def __call__(self, block: Block) -> Block:
        X = block.X
        if block.is_sparse:
            X = X.copy()
            X.sum_duplicates()  # columns in order, each once
            X.data = scaled_rows(X.data, X.indptr, self.norm)
        else:
            ends = np.arange(block.n_rows + 1) * X.shape[1]
            X = scaled_rows(np.ascontiguousarray(X).ravel(), ends, self.norm).reshape(X.shape)
        return Block(X, block.row_start, block.weights)


class Normalizer(OneToOneFeatureMixin, RowTransformer):
    """Scale each row to norm one, as `sklearn.preprocessing.Normalizer`.

    Norms are summed in float64 in the order of the features, so that neither the
    partitioning nor the backend can change a bit. Methods accept what
    `distclust.preprocessing.base` lists.

    Parameters
    ----------
    norm : {"l1", "l2", "max"}, default="l2"
    backend : {"auto", "local", "ray", "dask"} or Backend, default="auto"
        Where to run. ``"auto"`` goes where X lives.
    n_partitions : int, optional
        Parts the rows are split into.

    Attributes
    ----------
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Examples
    --------
    >>> Normalizer().fit_transform([[3.0, 4.0], [0.0, 0.0]])
    array([[0.6, 0.8],
           [0. , 0. ]])
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "norm": [StrOptions(set(NORMS))],
        "backend": [str, object],
        "n_partitions": [None, Interval(Integral, 1, None, closed="left")],
    }
    _sklearn_class = SklearnNormalizer

    def __init__(
        self,
        norm: str = "l2",
        *,
        backend: str | Backend = "auto",
        n_partitions: int | None = None,
    ) -> None:
        self.norm = norm
        self.backend = backend
        self.n_partitions = n_partitions

    def _fit(self, session: Session, shards: Shards, source: Source) -> None:
        """There is nothing to learn."""

    def row_step(self) -> Normalize:
        """Return what this does to rows, to send to workers."""
        return Normalize(self.norm)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags
