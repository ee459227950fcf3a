"""What a contender is asked for, what it answers, and the base of the adapters.

An adapter is given the data once (`prepare`, not timed) and is then asked for fits (`fit`,
timed whole). Its library is imported only when it takes part.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from benchmarks.places import Place

__all__ = ["Contender", "Fitted", "Library", "Request", "fitted"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One fit. What is None is left at the library's default.

    Attributes
    ----------
    n_clusters : int
    centers : ndarray of shape (k, d), float32, or None
        Where to start; None means the library's own seeding.
    max_iter : int or None
    tol : float or None
        As scikit-learn means it; 0 asks for all `max_iter` iterations.
    seed : int
    """

    n_clusters: int
    centers: np.ndarray | None = None
    max_iter: int | None = None
    tol: float | None = None
    seed: int = 0

    def arguments(self) -> dict[str, Any]:
        """Return what estimators that follow scikit-learn's conventions take."""
        given = {
            "init": None if self.centers is None else self.centers.copy(),
            "max_iter": self.max_iter,
            "tol": self.tol,
        }
        asked = {name: value for name, value in given.items() if value is not None}
        return {"n_clusters": self.n_clusters, "random_state": self.seed, **asked}


class Fitted(NamedTuple):
    """Centers, (k, d), and how many iterations it took to get them."""

    centers: np.ndarray
    n_iter: int


class Library:
    """What takes part in a comparison, of any algorithm.

    Attributes
    ----------
    name : str
        Name in tables.
    libraries : tuple of str
        Modules that have to be importable.
    install : str
        What to type if one is not.
    place : {"process", "dask", "ray", "spark"}
        Where it runs; contenders of one place take turns with each other.
    """

    name: str
    libraries: ClassVar[tuple[str, ...]]
    install: ClassVar[str] = 'pip install -e ".[bench]"'
    place: ClassVar[str] = "process"

    def missing(self) -> str | None:
        """Say what to install, if a library is not there."""
        absent = [name for name in self.libraries if importlib.util.find_spec(name) is None]
        return f"{absent[0]} is not installed: {self.install}" if absent else None


class Contender(Library):
    """Base of the adapters to K-Means.

    Attributes
    ----------
    exact : bool
        Whether it is Lloyd's algorithm from given centers; those that are not take part
        only where every library starts and stops as it likes.
    stops_alike : bool
        Whether its `tol` is scikit-learn's; where not, it is given the number of
        iterations that scikit-learn took.
    """

    exact: ClassVar[bool] = True
    stops_alike: ClassVar[bool] = True
    X: Any

    def prepare(self, place: Place, X: np.ndarray) -> None:
        """Take the data; what this costs is not timed."""
        self.X = X

    def fit(self, request: Request) -> Fitted:
        """Run the fit that is asked for."""
        raise NotImplementedError


def fitted(model: Any) -> Fitted:
    """Read a fitted estimator that follows scikit-learn's conventions."""
    return Fitted(np.asarray(model.cluster_centers_), int(model.n_iter_))
