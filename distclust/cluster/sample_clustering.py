"""A clusterer of any library on a sample, and what gives all rows its labels.

Runs in this process: samples are small. The clusterer keeps to one BLAS and one OpenMP
thread, so that it finds the same wherever it runs.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from distclust.cluster import metric as center_metrics
from distclust.cluster.assigners import (
    NOISE,
    Assigner,
    CenterAssigner,
    Centers,
    DensityAssigner,
    PredictAssigner,
    SampleAssigner,
    single_threaded,
)
from distclust.cluster.base import CenterEstimator
from distclust.cluster.hdbscan import HDBSCAN
from distclust.cluster.metric import EUCLIDEAN, Euclidean
from distclust.cluster.row_sample import Sample
from distclust.data.blocks import Block
from distclust.errors import ConfigError
from distclust.kernels.metrics import METRICS

__all__ = ["ASSIGN", "Clustered", "assigner_for", "center_metric", "cluster_sample", "metric_of"]

ASSIGN = ("auto", "predict", "nearest-center", "nearest-sample", "knn")

F64 = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]


class Clustered(NamedTuple):
    """A sample and its clusters."""

    sample: Sample
    clusterer: Any  # fitted
    labels: Labels  # (m,); noise is -1
    centers: Centers


def cluster_sample(clusterer: Any, sample: Sample, seed: int, metric: str | None) -> Clustered:
    """Fit a copy of the clusterer.

    Parameters
    ----------
    clusterer : estimator
    sample : Sample
    seed : int
        For whatever `random_state` it leaves open.
    metric : str or None
        Of `metric_of`.
    """
    fitted = clone(clusterer)
    for name, value in fitted.get_params().items():
        if value is None and name.rpartition("__")[2] == "random_state":
            fitted.set_params(**{name: seed})
    given = {}
    if sample.weights is not None:
        if has_fit_parameter(fitted, "sample_weight"):
            given["sample_weight"] = sample.weights
        else:
            warnings.warn(
                f"{type(fitted).__name__}.fit takes no sample_weight: to it all sampled rows weigh "
                "the same. With sampling='coreset', which draws far rows more often, or with "
                "weighted rows, take a clusterer that does",
                UserWarning,
                stacklevel=4,
            )
    with single_threaded():
        if hasattr(fitted, "fit_predict"):
            labels = fitted.fit_predict(sample.rows, **given)
        else:
            labels = fitted.fit(sample.rows, **given).labels_
    labels = np.maximum(np.asarray(labels), NOISE).astype(np.int32)
    centers = _centers(fitted, sample, labels, center_metric(metric_of(fitted, metric)))
    return Clustered(sample, fitted, labels, centers)


def metric_of(clusterer: Any, given: str | None) -> str:
    """Return the metric of distances: the one given, or the clusterer's own, or the Euclidean."""
    own = getattr(clusterer, "metric", None)
    return given or (own if isinstance(own, str) and own in METRICS else "euclidean")


def center_metric(name: str) -> Euclidean:
    """Return how distances to centers are measured: only cosines are another way."""
    return center_metrics.METRICS.get(name, EUCLIDEAN)


def _centers(clusterer: Any, sample: Sample, labels: Labels, metric: Euclidean) -> Centers:
    """Return the clusterer's own centers, or the weighted means of its clusters."""
    own = getattr(clusterer, "cluster_centers_", None)
    if own is not None and np.shape(own)[1:] == sample.rows.shape[1:]:
        return Centers(np.asarray(own), np.arange(len(own), dtype=np.int32), metric)
    present = np.unique(labels[labels != NOISE])
    rows = metric.block(Block(sample.rows, 0)).X
    weights = np.ones(len(rows)) if sample.weights is None else sample.weights
    means = np.empty((len(present), rows.shape[1]))
    first = np.empty_like(means)
    for which, label in enumerate(present):
        own_rows = labels == label
        means[which] = np.average(rows[own_rows].astype(np.float64), 0, weights[own_rows])
        first[which] = rows[own_rows.argmax()]
    return Centers(metric.moved(means, first), present, metric)


def assigner_for(clustered: Clustered, assign: str, metric: str | None, k: int) -> Assigner:
    """Choose what labels all rows.

    Parameters
    ----------
    clustered : Clustered
    assign : str
        Of `ASSIGN`.
    metric : str or None
        Of `metric_of`.
    k : int
        Sampled rows that vote with ``assign="knn"``.
    """
    clusterer = clustered.clusterer
    if assign == "auto":
        assign = "predict" if hasattr(clusterer, "predict") else "nearest-sample"
    name = metric_of(clusterer, metric)
    if assign == "predict":
        return _own_prediction(clustered)
    if assign == "nearest-center":
        if name not in center_metrics.METRICS:
            raise ConfigError(
                f"assign='nearest-center' knows no {name} distance; set metric='euclidean' or "
                "'cosine', or assign='nearest-sample'"
            )
        return CenterAssigner(clustered.centers)
    rows, votes = clustered.sample.rows, assign == "knn"
    near = k if votes else 1
    return SampleAssigner(rows, clustered.labels, name, center_metric(name), near, votes)


def _own_prediction(clustered: Clustered) -> Assigner:
    clusterer = clustered.clusterer
    if not hasattr(clusterer, "predict"):
        raise ConfigError(
            f"{type(clusterer).__name__} has no predict; set assign='nearest-sample', 'knn' or "
            "'nearest-center'"
        )
    if isinstance(clusterer, CenterEstimator):
        return CenterAssigner(clustered.centers)
    if isinstance(clusterer, HDBSCAN):
        return DensityAssigner(clusterer.predictor())
    centers = clustered.centers if hasattr(clusterer, "cluster_centers_") else None
    return PredictAssigner(clusterer, clustered.sample.rows[0], centers)
