"""distclust on each of its backends, given the driver's array or what the backend holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.contender import Contender, Fitted, Request, fitted
from benchmarks.places import Place

__all__ = ["OURS"]


class Ours(Contender):
    """K-Means on a backend."""

    libraries = ("distclust",)
    backend: Any

    def prepare(self, place: Place, X: np.ndarray) -> None:
        self.backend = place.backend()
        self.X = X

    def fit(self, request: Request) -> Fitted:
        from distclust import KMeans

        return fitted(KMeans(**request.arguments(), backend=self.backend).fit(self.X))


class OursLocal(Ours):
    """In this process."""

    name = "distclust local"


class OursMiniBatch(Ours):
    """Mini-batches in this process. An iteration is an epoch."""

    name = "distclust minibatch"
    exact = False

    def fit(self, request: Request) -> Fitted:
        from distclust import MiniBatchKMeans

        return fitted(MiniBatchKMeans(**request.arguments(), backend=self.backend).fit(self.X))


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


OURS: dict[str, type[Contender]] = {
    "local": OursLocal,
    "minibatch": OursMiniBatch,
    "ray": OursRay,
    "dask": OursDask,
}
