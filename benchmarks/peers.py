"""The libraries that distclust is measured beside, each with its best layout and settings."""

from __future__ import annotations

import shutil
from typing import Any, ClassVar

import numpy as np

from benchmarks.contender import Contender, Fitted, Request, fitted
from benchmarks.places import Place

__all__ = ["PEERS"]


class ScikitLearn(Contender):
    """Lloyd's algorithm, the default."""

    name = "sklearn"
    libraries = ("sklearn",)

    def fit(self, request: Request) -> Fitted:
        from sklearn.cluster import KMeans

        return fitted(KMeans(**request.arguments()).fit(self.X))


class ScikitLearnElkan(Contender):
    """Elkan's bounds: the same centers, fewer distances, (n, k) bounds in memory."""

    name = "sklearn elkan"
    libraries = ("sklearn",)

    def fit(self, request: Request) -> Fitted:
        from sklearn.cluster import KMeans

        return fitted(KMeans(algorithm="elkan", **request.arguments()).fit(self.X))


class ScikitLearnMiniBatch(Contender):
    """Mini-batches: another algorithm, of lower quality. An iteration is an epoch."""

    name = "sklearn minibatch"
    libraries = ("sklearn",)
    exact = False

    def fit(self, request: Request) -> Fitted:
        from sklearn.cluster import MiniBatchKMeans

        return fitted(MiniBatchKMeans(**request.arguments()).fit(self.X))


class ScikitLearnIntelex(Contender):
    """Intel's extension, imported by name: scikit-learn itself stays unpatched."""

    name = "sklearnex"
    libraries = ("sklearnex",)

    def prepare(self, place: Place, X: np.ndarray) -> None:
        import daal4py

        daal4py.daalinit(nthreads=place.workers)
        self.X = X

    def fit(self, request: Request) -> Fitted:
        from sklearnex.cluster import KMeans

        return fitted(KMeans(**request.arguments()).fit(self.X))


class Faiss(Contender):
    """FAISS, kept from sampling 256 points a center. It returns no labels and no inertia."""

    name = "faiss"
    libraries = ("faiss",)
    stops_alike = False

    def prepare(self, place: Place, X: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(place.workers)
        self.X = X

    def fit(self, request: Request) -> Fitted:
        import faiss

        n, d = self.X.shape
        iterations = {} if request.max_iter is None else {"niter": request.max_iter}
        model = faiss.Kmeans(
            d,
            request.n_clusters,
            nredo=1,
            seed=request.seed,
            spherical=False,
            min_points_per_centroid=1,
            max_points_per_centroid=n,
            **iterations,
        )
        model.train(self.X, init_centroids=request.centers)
        return Fitted(model.centroids, len(model.iteration_stats))


class DaskMl(Contender):
    """dask-ml on a persisted Dask array."""

    name = "dask-ml"
    libraries = ("dask_ml",)
    place = "dask"
    stops_alike = False

    def prepare(self, place: Place, X: np.ndarray) -> None:
        self.X = place.dask_array(X)

    def fit(self, request: Request) -> Fitted:
        from dask_ml.cluster import KMeans

        return fitted(KMeans(**request.arguments()).fit(self.X))


class Spark(Contender):
    """Spark MLlib on a cached DataFrame of vectors.

    Its estimator takes no initial centers: where those are given, it draws as many rows.
    """

    name = "spark"
    libraries = ("pyspark",)
    install: ClassVar[str] = "pip install pyspark, and a Java runtime"
    place = "spark"
    stops_alike = False

    def missing(self) -> str | None:
        """Say what to install, if a library or Java is not there."""
        if shutil.which("java") is None:
            return f"java is not installed: {self.install}"
        return super().missing()

    def prepare(self, place: Place, X: np.ndarray) -> None:
        self.X = place.spark_frame(X)

    def fit(self, request: Request) -> Fitted:
        from pyspark.ml.clustering import KMeans

        given: dict[str, Any] = {"maxIter": request.max_iter, "tol": request.tol}
        given["initMode"] = None if request.centers is None else "random"
        asked = {name: value for name, value in given.items() if value is not None}
        model = KMeans(k=request.n_clusters, seed=request.seed, **asked).fit(self.X)
        return Fitted(np.array(model.clusterCenters()), model.summary.numIter)


PEERS: dict[str, type[Contender]] = {
    "sklearn": ScikitLearn,
    "elkan": ScikitLearnElkan,
    "minibatch": ScikitLearnMiniBatch,
    "sklearnex": ScikitLearnIntelex,
    "faiss": Faiss,
    "dask-ml": DaskMl,
    "spark": Spark,
}
