"""Saved models back to estimators."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from distclust.cluster.bisecting import BisectingKMeans
from distclust.cluster.hdbscan import HDBSCAN
from distclust.cluster.kmeans import KMeans
from distclust.cluster.minibatch import MiniBatchKMeans
from distclust.cluster.pipeline import PIPELINE, pipeline_of
from distclust.cluster.sample_then_assign import SampleThenAssign
from distclust.errors import ModelError
from distclust.model import read_model
from distclust.preprocessing import PCA, Normalizer, RobustScaler, SimpleImputer, StandardScaler
from distclust.random_projection import (
    GaussianRandomProjection,
    HadamardRandomProjection,
    SparseRandomProjection,
)

__all__ = ["load"]

KINDS: dict[str, Any] = {
    estimator.__name__: estimator
    for estimator in (
        BisectingKMeans,
        GaussianRandomProjection,
        HDBSCAN,
        HadamardRandomProjection,
        KMeans,
        MiniBatchKMeans,
        Normalizer,
        PCA,
        RobustScaler,
        SampleThenAssign,
        SimpleImputer,
        SparseRandomProjection,
        StandardScaler,
    )
}


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model that an estimator's ``save`` wrote; nothing in it is executed.

    Parameters
    ----------
    path : path
        The model's directory.

    Returns
    -------
    estimator
        Fitted, but without ``labels_``; a `sklearn.pipeline.Pipeline` of such where that was
        saved, as by jobs with preprocessing.

    Raises
    ------
    ModelError
        There is no model, or it was changed, or it is of an unknown kind or version.
    """
    stored = read_model(path)
    if stored.kind == PIPELINE:
        return pipeline_of(stored, load, Path(path))
    if stored.kind not in KINDS:
        raise ModelError(f"{path} holds a {stored.kind!r}; known are {sorted(KINDS)}")
    return KINDS[stored.kind].from_stored(stored)
