"""Where contenders run: this process, or a Dask, Ray or Spark cluster on this machine.

Only one place is open at a time, so that idle clusters take no cycles from what is timed.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["PLACES", "Place", "opened"]

PLACES = ("process", "dask", "ray", "spark")


class Place:
    """An open place, and what its contenders share there.

    Attributes
    ----------
    kind : {"process", "dask", "ray", "spark"}
    workers : int
        Threads in this process, or one-thread worker processes of a cluster.
    client : distributed.Client, pyspark.sql.SparkSession or None
    """

    def __init__(
        self, kind: str, workers: int, chunks_per_worker: int, dask_input: str, client: Any = None
    ) -> None:
        self.kind = kind
        self.workers = workers
        self.chunks_per_worker = chunks_per_worker
        self.dask_input = dask_input
        self.client = client
        self._array: Any = None
        self._array_of: np.ndarray | None = None

    @cached_property
    def _backend(self) -> Any:
        import distclust

        if self.kind == "process":
            return distclust.connect("local", workers=self.workers, threads_per_worker=1)
        if self.kind == "dask":
            return distclust.connect("dask", client=self.client)
        return distclust.connect("ray", workers=self.workers, threads_per_worker=1)

    def backend(self) -> Any:
        """Return distclust's backend here, connected at the first call."""
        return self._backend

    def dask_array(self, X: np.ndarray) -> Any:
        """Return `X` in the memory of the Dask workers, evenly; the same array for everyone."""
        if self._array_of is not X:
            self.forget()
            self._array, self._array_of = self._scattered(X), X
        return self._array

    def _scattered(self, X: np.ndarray) -> Any:
        import dask.array as da
        from distributed import wait

        homes = sorted(self.client.scheduler_info()["workers"]) * self.chunks_per_worker
        blocks = []
        for home, rows in zip(homes, np.array_split(X, len(homes)), strict=True):
            future = self.client.scatter(rows, workers=[home])
            blocks.append(da.from_delayed(future, shape=rows.shape, dtype=rows.dtype))
        array = da.concatenate(blocks).persist()
        wait(array)
        return array

    def spark_frame(self, X: np.ndarray) -> Any:
        """Return `X` in Spark's memory: a cached DataFrame with a column of vectors."""
        import pyarrow as pa
        import pyarrow.parquet as pq
        from pyspark.ml.functions import array_to_vector

        with tempfile.TemporaryDirectory() as folder:
            values = pa.array(X.astype(np.float64).ravel())
            rows = pa.FixedSizeListArray.from_arrays(values, X.shape[1])
            path = f"{folder}/rows.parquet"
            pq.write_table(pa.table({"x": rows.cast(pa.list_(pa.float64()))}), path)
            vectors = self.client.read.parquet(path).select(array_to_vector("x").alias("features"))
            frame = vectors.repartition(self.workers).persist()
            frame.count()
        return frame

    def forget(self) -> None:
        """Drop what was held for the last case."""
        self._array = self._array_of = None
        if self.kind == "spark":
            self.client.catalog.clearCache()

    def close(self) -> None:
        """Close our backend, if one was connected."""
        if "_backend" in vars(self):
            self._backend.close()


@contextlib.contextmanager
def opened(kind: str, workers: int, chunks_per_worker: int, dask_input: str) -> Iterator[Place]:
    """Open a place, and close it in the end."""
    with contextlib.ExitStack() as stack:
        clients = {"dask": _dask, "spark": _spark}
        client = stack.enter_context(clients[kind](workers)) if kind in clients else None
        place = Place(kind, workers, chunks_per_worker, dask_input, client)
        stack.callback(place.close)
        yield place


@contextlib.contextmanager
def _dask(workers: int) -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def _spark(workers: int) -> Iterator[Any]:
    from pyspark.sql import SparkSession

    settings = {
        "spark.driver.memory": "6g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.log.level": "ERROR",
    }
    session = SparkSession.builder.master(f"local[{workers}]").config(map=settings).getOrCreate()
    try:
        yield session
    finally:
        session.stop()
