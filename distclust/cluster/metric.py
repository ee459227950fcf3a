"""What `metric` means: how rows are seen, centers moved, and distances told.

Kernels and passes know squared Euclidean distances only. Clustering by cosine is the
same on rows of unit length, where half the squared distance of two vectors is one minus
their cosine, with centers brought back to unit length each step. This module holds the
difference, and nothing else asks which metric it is.

Source: I. S. Dhillon and D. S. Modha, "Concept decompositions for large sparse text data
using clustering", 2001 (spherical k-means).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from distclust.data.blocks import Block, Source
from distclust.data.steps import transformed
from distclust.data.transformed import TransformedRows
from distclust.data.unit import UnitLength
from distclust.errors import ConfigError
from distclust.kernels.unit import unit_rows

__all__ = ["EUCLIDEAN", "METRICS", "Cosine", "Euclidean"]

Centers = npt.NDArray[Any]
F64 = npt.NDArray[np.float64]


class Euclidean:
    """Rows are points; a center is the mean of its rows."""

    name = "euclidean"

    def source(self, source: Source) -> Source:
        """Return the rows as workers keep them."""
        return source

    def block(self, block: Block) -> Block:
        """Return a block as workers would keep it."""
        return block

    def start(self, centers: Centers) -> Centers:
        """Return initial centers, (k, d), as the first iteration takes them.

        Raises
        ------
        ConfigError
            One of them cannot be a center.
        """
        return centers

    def moved(self, means: F64, centers: Centers) -> F64:
        """Turn the means of the clusters of `centers`, both (k, d), into their new centers."""
        return means

    def distances(self, sq_dist: F64, scale: float) -> F64:
        """Turn squared distances that are ``scale**2`` times the data's into distances."""
        return np.sqrt(sq_dist) / scale

    def inertia(self, sq_distances: float) -> float:
        """Turn a sum of squared distances into the inertia."""
        return sq_distances

    def for_sklearn(self, model: Any) -> Any:
        """Make a fitted scikit-learn K-Means predict as this metric does."""
        return model


class Cosine(Euclidean):
    """Rows are directions; a center is the direction of the sum of its rows, of length one."""

    name = "cosine"

    def source(self, source: Source) -> Source:
        return TransformedRows(source, UnitLength())

    def block(self, block: Block) -> Block:
        return transformed(UnitLength(), block)

    def start(self, centers: Centers) -> Centers:
        unit, first_zero = unit_rows(centers)
        if first_zero >= 0:
            raise ConfigError(
                f"initial center {first_zero} is all zeros, so it has no direction; "
                "metric='cosine' needs one"
            )
        return unit

    def moved(self, means: F64, centers: Centers) -> F64:
        """Do so; where rows cancel out, their center stays where it was."""
        cancelled = (means == 0).all(axis=1)
        unit, _ = unit_rows(np.where(cancelled[:, np.newaxis], centers, means))
        unit[cancelled] = centers[cancelled]
        return unit

    def distances(self, sq_dist: F64, scale: float) -> F64:
        return sq_dist / 2 / scale / scale

    def inertia(self, sq_distances: float) -> float:
        return sq_distances / 2

    def for_sklearn(self, model: Any) -> Any:
        first = Normalizer()
        first.n_features_in_ = model.n_features_in_
        if hasattr(model, "feature_names_in_"):  # the first step compares them
            first.feature_names_in_ = model.feature_names_in_
            del model.feature_names_in_
        model.inertia_ *= 2  # its distances are squared ones of unit vectors
        return make_pipeline(first, model)


EUCLIDEAN = Euclidean()
METRICS: dict[str, Euclidean] = {metric.name: metric for metric in (EUCLIDEAN, Cosine())}
