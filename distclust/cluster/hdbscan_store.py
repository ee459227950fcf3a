"""A fitted HDBSCAN as numbers on disk, and back; nothing read is trusted."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from distclust.errors import ModelError
from distclust.kernels.edges import SpanningTree
from distclust.model import StoredModel

__all__ = ["from_stored", "to_stored"]

ARRAYS = {"edge_u", "edge_v", "edge_weights", "core_distances_"}
SCALARS = {"min_samples_", "certified_fraction_", "n_features_in_", "feature_names_in_"}
UNLIMITED = "cluster_selection_epsilon_max"  # infinite by default, which JSON cannot say


def to_stored(model: Any, edges: SpanningTree, X: npt.NDArray[Any] | None) -> StoredModel:
    """Gather what a fitted estimator consists of."""
    params = {name: _plain(value) for name, value in model.get_params(deep=False).items()}
    if not isinstance(params["backend"], str):
        params["backend"] = "auto"
    arrays = {
        "edge_u": edges.u,
        "edge_v": edges.v,
        "edge_weights": edges.weights,
        "core_distances_": model.core_distances_,
    }
    return StoredModel(
        kind=type(model).__name__,
        params=params,
        scalars={
            "min_samples_": model.min_samples_,
            "certified_fraction_": model.certified_fraction_,
            "n_features_in_": model.n_features_in_,
            "feature_names_in_": [str(name) for name in getattr(model, "feature_names_in_", [])],
        },
        arrays=arrays if X is None else {**arrays, "X": X},
    )


def from_stored(
    cls: type, stored: StoredModel
) -> tuple[Any, SpanningTree, npt.NDArray[Any] | None]:
    """Return an estimator with its stored attributes, its edges and its rows.

    Raises
    ------
    ModelError
        It is not what `to_stored` makes.
    """
    arrays, scalars, params = dict(stored.arrays), dict(stored.scalars), dict(stored.params)
    known: Any = cls
    unknown = {*params} - {*known._get_param_names()} | {*arrays} - {*ARRAYS, "X"}
    unknown |= {*scalars} ^ SCALARS | ARRAYS - {*arrays}
    if unknown:
        raise ModelError(f"not a {cls.__name__} as it was saved: wrong are {sorted(unknown)}")
    if params.get(UNLIMITED, 0) is None:
        params[UNLIMITED] = math.inf
    model = known(**params)
    model._validate_params()
    edges = SpanningTree(arrays["edge_u"], arrays["edge_v"], arrays["edge_weights"])
    X = arrays.get("X")
    _check(edges, arrays["core_distances_"], X, scalars)
    model.core_distances_ = arrays["core_distances_"]
    names = scalars.pop("feature_names_in_")
    if names:
        model.feature_names_in_ = np.asarray(names, dtype=object)
    for name, value in scalars.items():
        setattr(model, name, value)
    return model, edges, X


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and math.isinf(value) else value


def _check(
    edges: SpanningTree,
    core: npt.NDArray[Any],
    X: npt.NDArray[Any] | None,
    scalars: dict[str, Any],
) -> None:
    """Refuse edges that are no sorted spanning tree: kernels rely on that."""
    n_rows, features = len(core), scalars["n_features_in_"]
    dtypes = [array.dtype for array in (*edges, core)]
    good = (
        dtypes == [np.int64, np.int64, np.float64, np.float64]
        and all(array.shape == (n_rows - 1,) for array in edges)
        and bool((edges.u >= 0).all() and (edges.u < edges.v).all() and (edges.v < n_rows).all())
        and bool((edges.weights[1:] >= edges.weights[:-1]).all() and (edges.weights >= 0).all())
        and isinstance(scalars["min_samples_"], Integral)
        and isinstance(scalars["certified_fraction_"], Real)
        and isinstance(features, Integral)
        and (X is None or (X.shape == (n_rows, features) and X.dtype in (np.float32, np.float64)))
    )
    if good and n_rows > 1:
        graph = csr_array((np.ones(n_rows - 1), (edges.u, edges.v)), shape=(n_rows, n_rows))
        good = connected_components(graph, directed=False, return_labels=False) == 1
    if not good:
        raise ModelError("its edges are not a spanning tree of its rows; fit and save again")
