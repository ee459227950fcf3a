"""A fitted SampleThenAssign as numbers on disk, and back; nothing read is trusted."""

from __future__ import annotations

from dataclasses import asdict
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from distclust.cluster.assigners import (
    Assigner,
    CenterAssigner,
    Centers,
    DensityAssigner,
    SampleAssigner,
)
from distclust.cluster.hdbscan import HDBSCAN
from distclust.cluster.kmeans import KMeans
from distclust.cluster.minibatch import MiniBatchKMeans
from distclust.cluster.sample_clustering import center_metric
from distclust.cluster.sampling_error import SamplingError
from distclust.errors import ConfigError, ModelError
from distclust.kernels.metrics import METRICS
from distclust.model import StoredModel

__all__ = ["CLUSTERERS", "from_stored", "to_stored"]

CLUSTERERS: dict[str, Any] = {
    "HDBSCAN": HDBSCAN,
    "KMeans": KMeans,
    "MiniBatchKMeans": MiniBatchKMeans,
}
"""Whose models can be part of this one."""

PREFIX = "clusterer__"  # of the arrays of such a model
ALWAYS = ("sample_indices_", "sample_labels_", "cluster_centers_")
LABELS, ROWS = "assigned_labels", "assigned_rows"  # of centers or sampled rows, and these


def to_stored(model: Any, assigner: Assigner) -> StoredModel:
    """Gather what a fitted estimator consists of.

    Raises
    ------
    ConfigError
        What labels rows is another library's, and would have to be pickled.
    """
    arrays = {name: getattr(model, name) for name in ALWAYS}
    if model.sample_weights_ is not None:
        arrays["sample_weights_"] = model.sample_weights_
    scalars: dict[str, Any] = {
        "n_features_in_": model.n_features_in_,
        "feature_names_in_": [str(name) for name in getattr(model, "feature_names_in_", [])],
        "clusterer": repr(model.clusterer_),
    }
    match assigner:
        case CenterAssigner(centers=centers):
            scalars["assigner"] = {"by": "centers", "metric": centers.metric.name}
            arrays |= {ROWS: centers.points, LABELS: centers.labels}
        case SampleAssigner():
            votes = len(assigner.columns) > 1
            scalars["assigner"] = {"by": "sample", "metric": assigner.metric, "votes": votes}
            arrays |= {ROWS: assigner.rows, LABELS: assigner.labels}
        case DensityAssigner():
            scalars["assigner"] = {"by": "density"}
        case _:
            raise ConfigError(
                f"labels come from {type(model.clusterer_).__name__}.predict, which cannot be "
                "saved without pickle; set assign='nearest-sample', 'knn' or 'nearest-center'"
            )
    kind = type(model.clusterer_).__name__
    if CLUSTERERS.get(kind) is type(model.clusterer_):
        own = model.clusterer_.to_stored()
        scalars["own"] = {"kind": own.kind, "params": own.params, "scalars": own.scalars}
        arrays |= {f"{PREFIX}{name}": array for name, array in own.arrays.items()}
    if hasattr(model, "sampling_error_"):
        scalars["sampling_error"] = asdict(model.sampling_error_)
    return StoredModel(
        kind=type(model).__name__, params=_plain_parameters(model), scalars=scalars, arrays=arrays
    )


def _plain_parameters(model: Any) -> dict[str, Any]:
    params = model.get_params(deep=False)
    del params["clusterer"]
    if not isinstance(params["backend"], str):
        params["backend"] = "auto"
    if not isinstance(params["random_state"], Integral):
        params["random_state"] = None
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in params.items()
    }


def from_stored(cls: type, stored: StoredModel) -> tuple[Any, Assigner]:
    """Return an estimator with its stored attributes, and what labels rows.

    Its `clusterer` is None unless it is one of distclust's.

    Raises
    ------
    ModelError
        It is not what `to_stored` makes.
    """
    scalars = dict(stored.scalars)
    nested = {name: array for name, array in stored.arrays.items() if name.startswith(PREFIX)}
    arrays = {name: array for name, array in stored.arrays.items() if name not in nested}
    _check_names(cls, stored, arrays)
    fitted = _own_clusterer(scalars, nested)
    known: Any = cls
    model = known(None if fitted is None else clone(fitted), **stored.params)
    model._validate_params()
    if fitted is not None:
        model.clusterer_ = fitted
    model.n_features_in_ = scalars["n_features_in_"]
    if scalars["feature_names_in_"]:
        model.feature_names_in_ = np.asarray(scalars["feature_names_in_"], dtype=object)
    for name in ALWAYS:
        setattr(model, name, arrays[name])
    model.sample_weights_ = arrays.get("sample_weights_")
    if "sampling_error" in scalars:
        model.sampling_error_ = SamplingError(**scalars["sampling_error"])
    return model, _assigner(model, scalars["assigner"], arrays)


def _check_names(cls: Any, stored: StoredModel, arrays: dict[str, Any]) -> None:
    """Refuse what `to_stored` does not write, before it becomes an attribute."""
    scalars = {"n_features_in_", "feature_names_in_", "clusterer", "assigner"}
    wrong = {*stored.params} ^ {*cls._get_param_names()} - {"clusterer"}
    wrong |= {*stored.scalars} - scalars - {"own", "sampling_error"} | scalars - {*stored.scalars}
    wrong |= {*arrays} - {*ALWAYS, "sample_weights_", ROWS, LABELS} | {*ALWAYS} - {*arrays}
    error = stored.scalars.get("sampling_error", {"sample_inertia": 0, "inertia": 0, "ari": 0})
    if wrong or {*error} != {"sample_inertia", "inertia", "ari"}:
        raise ModelError(f"not a {cls.__name__} as it was saved: wrong are {sorted(wrong)}")


def _own_clusterer(scalars: dict[str, Any], nested: dict[str, npt.NDArray[Any]]) -> Any:
    own = scalars.get("own")
    if own is None:
        return None
    if own.get("kind") not in CLUSTERERS:
        raise ModelError(f"its clusterer is a {own.get('kind')!r}; known are {sorted(CLUSTERERS)}")
    arrays = {name.removeprefix(PREFIX): array for name, array in nested.items()}
    return CLUSTERERS[own["kind"]].from_stored(StoredModel(**own, arrays=arrays))


def _assigner(model: Any, how: Any, arrays: dict[str, npt.NDArray[Any]]) -> Assigner:
    match how:
        case {"by": "density"} if isinstance(getattr(model, "clusterer_", None), HDBSCAN):
            return DensityAssigner(model.clusterer_.predictor())
        case {"by": "centers", "metric": "euclidean" | "cosine" as metric}:
            points, labels = _labelled_points(model, arrays)
            if (np.diff(labels) > 0).all():
                return CenterAssigner(Centers(points, labels, center_metric(metric)))
        case {"by": "sample", "metric": metric, "votes": bool(votes)} if metric in METRICS:
            points, labels = _labelled_points(model, arrays)
            k = model.n_neighbors if votes else 1
            if len(points):
                return SampleAssigner(points, labels, metric, center_metric(metric), k, votes)
    raise ModelError(f"what labels its rows is not as it was saved: {how}")


def _labelled_points(model: Any, arrays: dict[str, npt.NDArray[Any]]) -> tuple[Any, Any]:
    """Return points and their labels; kernels rely on shapes and types."""
    points, labels = arrays.get(ROWS), arrays.get(LABELS)
    good = (
        points is not None
        and labels is not None
        and points.dtype in (np.float32, np.float64)
        and labels.dtype == np.int32
        and points.shape == (len(labels), model.n_features_in_)
        and labels.shape == (len(points),)
        and bool(np.isfinite(points).all() and (labels >= -1).all())
    )
    if not good:
        raise ModelError("the points that label its rows are not as they were saved")
    return points, labels
