"""Distributed clustering: one job on local threads, Ray or Dask, the same bits everywhere."""

from __future__ import annotations

from distclust.backends import connect
from distclust.cluster.bisecting import BisectingKMeans
from distclust.cluster.hdbscan import HDBSCAN
from distclust.cluster.kmeans import KMeans
from distclust.cluster.minibatch import MiniBatchKMeans
from distclust.cluster.pipeline import save
from distclust.cluster.registry import load
from distclust.cluster.sample_then_assign import SampleThenAssign
from distclust.data.manifest import open_manifest
from distclust.errors import (
    ClusterError,
    ConfigError,
    DataError,
    DistclustError,
    ModelError,
    TaskFailed,
    WorkerLost,
)

__version__ = "0.1.0"

__all__ = [
    "HDBSCAN",
    "BisectingKMeans",
    "ClusterError",
    "ConfigError",
    "DataError",
    "DistclustError",
    "KMeans",
    "MiniBatchKMeans",
    "ModelError",
    "SampleThenAssign",
    "TaskFailed",
    "WorkerLost",
    "__version__",
    "connect",
    "load",
    "open_manifest",
    "save",
]
