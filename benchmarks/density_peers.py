"""HDBSCAN of distclust and of the libraries it is measured beside.

`min_samples` counts other rows here, as in distclust, `hdbscan` and `fast_hdbscan`;
scikit-learn counts the row itself as well, so it gets one more.
"""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar

import numpy as np

from benchmarks.contender import Library
from benchmarks.places import Place

__all__ = ["ORACLES", "OURS", "PEERS", "DensityContender"]

QUADRATIC = 100_000  # rows beyond which an algorithm that looks at all pairs stays out


class DensityContender(Library):
    """Base of the adapters.

    Attributes
    ----------
    max_rows : int or None
        It takes no part in cases of more rows.
    """

    max_rows: ClassVar[int | None] = None
    place_of: Place

    def prepare(self, place: Place) -> None:
        """Take the place to run in."""
        self.place_of = place

    def fit(self, X: np.ndarray, **parameters: int) -> Any:
        """Return a model of the rows, given `min_samples` and `min_cluster_size`."""
        raise NotImplementedError

    def linkage(self, model: Any) -> np.ndarray | None:
        """Return the single linkage tree: (node, node, height, ...) for each merge, ascending."""
        if importlib.util.find_spec("hdbscan") is None:  # whose classes hold the tree
            return None
        return np.asarray(model.single_linkage_tree_.to_numpy())


class Hdbscan(DensityContender):
    """The package `hdbscan` by default: its spanning tree may be approximate."""

    name = "hdbscan"
    libraries = ("hdbscan",)
    options: ClassVar[dict[str, Any]] = {}

    def fit(self, X: np.ndarray, **parameters: int) -> Any:
        import hdbscan

        jobs = self.place_of.workers
        return hdbscan.HDBSCAN(core_dist_n_jobs=jobs, **parameters, **self.options).fit(X)


class HdbscanExact(Hdbscan):
    """Borůvka's algorithm on a kd-tree, told to be exact."""

    name = "hdbscan exact"
    options: ClassVar[dict[str, Any]] = {
        "algorithm": "boruvka_kdtree",
        "approx_min_span_tree": False,
    }


class HdbscanPrims(Hdbscan):
    """Prim's algorithm: exact, and looks at all pairs of rows."""

    name = "hdbscan prims"
    options: ClassVar[dict[str, Any]] = {"algorithm": "prims_kdtree"}
    max_rows = QUADRATIC


class FastHdbscan(DensityContender):
    """The package `fast_hdbscan`: float32 inside, and other neighbors in many dimensions."""

    name = "fast_hdbscan"
    libraries = ("fast_hdbscan",)

    def fit(self, X: np.ndarray, **parameters: int) -> Any:
        import fast_hdbscan
        import numba

        numba.set_num_threads(self.place_of.workers)
        return fast_hdbscan.HDBSCAN(**parameters).fit(X)


class ScikitLearn(DensityContender):
    """Prim's algorithm on a kd-tree: exact, and looks at all pairs of rows."""

    name = "sklearn"
    libraries = ("sklearn",)
    max_rows = QUADRATIC

    def fit(self, X: np.ndarray, *, min_samples: int, min_cluster_size: int) -> Any:
        from sklearn.cluster import HDBSCAN

        return HDBSCAN(
            min_cluster_size=min_cluster_size,
            min_samples=min_samples + 1,
            n_jobs=self.place_of.workers,
            copy=True,
        ).fit(X)

    def linkage(self, model: Any) -> np.ndarray:
        tree = model._single_linkage_tree_
        return np.stack([tree[name] for name in ("left_node", "right_node", "value")], axis=1)


class Ours(DensityContender):
    """distclust on a backend; Ray and Dask are sent the rows in every fit."""

    libraries = ("distclust",)
    backend: ClassVar[str] = "local"

    def __init__(self, n_partitions: int | None = None) -> None:
        self.n_partitions = n_partitions
        of_partitions = "" if n_partitions is None else f" P={n_partitions}"
        self.name = f"distclust {self.backend}{of_partitions}"

    def fit(self, X: np.ndarray, **parameters: int) -> Any:
        from distclust import HDBSCAN

        model = HDBSCAN(
            **parameters, n_partitions=self.n_partitions, backend=self.place_of.backend()
        )
        return model.fit(X)


class OursRay(Ours):
    """Actors."""

    libraries = ("distclust", "ray")
    place = backend = "ray"


class OursDask(Ours):
    """Tasks."""

    libraries = ("distclust", "distributed")
    place = backend = "dask"


PEERS: dict[str, type[DensityContender]] = {
    "hdbscan": Hdbscan,
    "exact": HdbscanExact,
    "prims": HdbscanPrims,
    "fast_hdbscan": FastHdbscan,
    "sklearn": ScikitLearn,
}
OURS: dict[str, type[Ours]] = {"local": Ours, "ray": OursRay, "dask": OursDask}
ORACLES = ("hdbscan exact", "hdbscan prims", "sklearn")  # the first that is there
