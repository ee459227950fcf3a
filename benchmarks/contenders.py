"""Who takes part: one small adapter a library, and distclust on each of its backends.

An adapter is given the data once (`prepare`, not timed) and then asked for fits from given
centers with a given number of iterations (`fit`, timed whole). Its library is imported only
when it takes part.
"""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar, NamedTuple

import numpy as np

from benchmarks.places import Place

__all__ = ["OURS", "PEERS", "Contender", "Fitted"]


class Fitted(NamedTuple):
    """Centers, (k, d), and how many iterations it took to get them."""

    centers: np.ndarray
    n_iter: int


class Contender:
    """Base of the adapters.

    Attributes
    ----------
    name : str
        Name in tables.
    libraries : tuple of str
        Modules that have to be importable.
    place : {"process", "dask", "ray"}
        Where it runs; contenders of one place take turns with each other.
    """

    name: ClassVar[str]
    libraries: ClassVar[tuple[str, ...]]
    place: ClassVar[str] = "process"
    X: Any

    def missing(self) -> str | None:
        """Say what to install, if a library is not there."""
        absent = [name for name in self.libraries if importlib.util.find_spec(name) is None]
        return f'{absent[0]} is not installed: pip install -e ".[bench]"' if absent else None

    def prepare(self, place: Place, X: np.ndarray) -> None:
        """Take the data; what this costs is not timed."""
        self.X = X

    def fit(self, centers: np.ndarray, n_iter: int) -> Fitted:
        """Run `n_iter` Lloyd iterations from `centers`."""
        raise NotImplementedError


class ScikitLearn(Contender):
    """Lloyd's algorithm, the default."""

    name = "sklearn"
    libraries = ("sklearn",)

    def fit(self, centers: np.ndarray, n_iter: int) -> Fitted:
        from sklearn.cluster import KMeans

        model = KMeans(len(centers), init=centers, n_init=1, max_iter=n_iter, tol=0)
        model.fit(self.X)
        return Fitted(model.cluster_centers_, model.n_iter_)


class ScikitLearnIntelex(Contender):
    """Intel's extension, imported by name: scikit-learn itself stays unpatched."""

    name = "sklearnex"
    libraries = ("sklearnex",)

    def prepare(self, place: Place, X: np.ndarray) -> None:
        import daal4py

        daal4py.daalinit(nthreads=place.workers)
        self.X = X

    def fit(self, centers: np.ndarray, n_iter: int) -> Fitted:
        from sklearnex.cluster import KMeans

        model = KMeans(len(centers), init=centers, n_init=1, max_iter=n_iter, tol=0)
        model.fit(self.X)
        return Fitted(model.cluster_centers_, model.n_iter_)


class Faiss(Contender):
    """FAISS, kept from sampling 256 points a center. It returns no labels and no inertia."""

    name = "faiss"
    libraries = ("faiss",)

    def prepare(self, place: Place, X: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(place.workers)
        self.X = X

    def fit(self, centers: np.ndarray, n_iter: int) -> Fitted:
        import faiss

        n, d = self.X.shape
        model = faiss.Kmeans(
            d,
            len(centers),
            niter=n_iter,
            nredo=1,
            spherical=False,
            min_points_per_centroid=1,
            max_points_per_centroid=n,
        )
        model.train(self.X, init_centroids=centers)
        return Fitted(model.centroids, len(model.iteration_stats))


class DaskMl(Contender):
    """dask-ml on a persisted Dask array."""

    name = "dask-ml"
    libraries = ("dask_ml",)
    place = "dask"

    def prepare(self, place: Place, X: np.ndarray) -> None:
        self.X = place.dask_array(X)

    def fit(self, centers: np.ndarray, n_iter: int) -> Fitted:
        from dask_ml.cluster import KMeans

        model = KMeans(len(centers), init=centers, max_iter=n_iter, tol=0)
        model.fit(self.X)
        return Fitted(np.asarray(model.cluster_centers_), model.n_iter_)


class Ours(Contender):
    """distclust on one of its backends, given the driver's array."""

    libraries = ("distclust",)
    backend: Any

    def prepare(self, place: Place, X: np.ndarray) -> None:
        self.backend = place.backend()
        self.X = X

    def fit(self, centers: np.ndarray, n_iter: int) -> Fitted:
        from distclust import KMeans

        model = KMeans(
            n_clusters=len(centers),
            init=centers,
            n_init=1,
            max_iter=n_iter,
            tol=0,
            backend=self.backend,
        )
        model.fit(self.X)
        return Fitted(model.cluster_centers_, model.n_iter_)


class OursLocal(Ours):
    """In this process."""

    name = "distclust local"


class OursRay(Ours):
    """Actors; the driver's array is sent to them in every fit."""

    name = "distclust ray"
    libraries = ("distclust", "ray")
    place = "ray"


class OursDask(Ours):
    """The persisted Dask array that dask-ml gets, or the driver's array."""

    name = "distclust dask"
    libraries = ("distclust", "distributed")
    place = "dask"

    def prepare(self, place: Place, X: np.ndarray) -> None:
        super().prepare(place, X)
        self.X = place.dask_array(X) if place.dask_input == "persisted" else X


PEERS: dict[str, type[Contender]] = {
    "sklearn": ScikitLearn,
    "dask-ml": DaskMl,
    "faiss": Faiss,
    "sklearnex": ScikitLearnIntelex,
}
OURS: dict[str, type[Contender]] = {"local": OursLocal, "ray": OursRay, "dask": OursDask}
