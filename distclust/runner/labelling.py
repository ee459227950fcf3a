"""The pass that writes every row's label: one call a file, on the engine.

A file's recipe is its manifest entry, so a call that is repeated after a worker's death
repeats that file and nothing else, and writes a new attempt; which attempt counts is the
driver's choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from distclust.data import Block, DataFile, Manifest, Selection, WrittenFile, write_labels
from distclust.data.footer import open_parquet
from distclust.engine.shards import Session
from distclust.errors import DataError

__all__ = ["ClusterCounts", "LabelledFile", "label_files", "labels_sha256"]

STAGE = "writing labels"
READ_ROWS = 1 << 20

Scorer = Callable[[Block], Mapping[str, npt.NDArray[Any]]]


@dataclass(frozen=True, eq=False)
class ClusterCounts:
    """Rows of each label, and the sum of their distances to their own center.

    Attributes
    ----------
    rows : ndarray of shape (n_labels,), int64
    distances : ndarray of shape (n_labels,), float64, or None
    """

    rows: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float64] | None

    def plus(self, other: ClusterCounts) -> ClusterCounts:
        """Both together; the longer one may know of more labels."""
        n = max(len(self.rows), len(other.rows))
        both = self.distances is not None and other.distances is not None
        return ClusterCounts(
            _padded(self.rows, n) + _padded(other.rows, n),
            _padded(self.distances, n) + _padded(other.distances, n) if both else None,
        )


def _padded(values: Any, n: int) -> Any:
    return np.pad(values, (0, n - len(values)))


@dataclass(frozen=True, eq=False)
class LabelledFile:
    """What a worker reports of one file."""

    written: WrittenFile
    counts: ClusterCounts


class FileSource:
    """The files of a manifest, one a partition; resident is the manifest's entry itself."""

    def __init__(self, files: Sequence[DataFile]) -> None:
        self._files = files

    def plan(self, n_partitions: int) -> list[tuple[DataFile]]:
        return [(file,) for file in self._files]

    @staticmethod
    def load(file: DataFile) -> DataFile:
        return file


class CountingScorer:
    """Scores blocks, keeps the requested columns, and counts labels on the way."""

    def __init__(self, scorer: Scorer, columns: Sequence[str]) -> None:
        self._scorer, self._columns = scorer, columns
        self.counts = ClusterCounts(np.zeros(0, dtype=np.int64), np.zeros(0))

    def __call__(self, block: Block) -> dict[str, npt.NDArray[Any]]:
        scores = self._scorer(block)
        label, distance = scores["label"], scores.get("distance")
        seen = label[label >= 0]  # a negative label is noise: it belongs to no cluster
        sums = None
        if distance is not None:
            sums = np.bincount(seen, weights=distance[label >= 0]).astype(np.float64)
        self.counts = self.counts.plus(ClusterCounts(np.bincount(seen).astype(np.int64), sums))
        return {name: scores[name] for name in self._columns}


def label_file(
    file: DataFile, scorer: Scorer, selection: Selection, columns: Sequence[str], directory: str
) -> LabelledFile:
    """Write one attempt at a file's labels, on a worker."""
    counting = CountingScorer(scorer, columns)
    written = write_labels(file, selection, counting, directory)
    return LabelledFile(written, counting.counts)


def label_files(
    session: Session,
    manifest: Manifest,
    scorer: Scorer,
    columns: Sequence[str],
    directory: str,
) -> list[LabelledFile]:
    """Label every file of a data set.

    Parameters
    ----------
    session : Session
    manifest : Manifest
    scorer : callable
        From a `Block` to its columns; sent once a worker.
    columns : sequence of str
        Those to write.
    directory : str
        Where attempt files go.

    Returns
    -------
    list of LabelledFile
        In file order.
    """
    with session.stage(STAGE):
        shards = session.shard(FileSource(manifest.files), len(manifest.files))
        sent = session.broadcast(scorer), session.broadcast(manifest.selection)
        labelled = shards.gather(label_file, *sent, tuple(columns), directory)
    for file, reply in zip(manifest.files, labelled, strict=True):
        if reply.written.n_rows != file.n_rows:
            raise DataError(
                f"{file.name}: {reply.written.n_rows} rows were labelled, but it had "
                f"{file.n_rows} when the job began; do not change the input during a job"
            )
    return labelled


def labels_sha256(files: Sequence[LabelledFile]) -> str:
    """SHA-256 of all labels as little-endian int32, in row order.

    They are read back, page checksums verified, so this also shows that they can be. The
    same as of ``labels_`` of a fit in memory: nothing of how rows are split enters.
    """
    digest = hashlib.sha256()
    for file in files:
        with open_parquet(file.written.path) as parquet:
            for batch in parquet.iter_batches(READ_ROWS, columns=["label"]):
                labels = batch.column(0).to_numpy(zero_copy_only=False)
                digest.update(labels.astype("<i4").tobytes())
    return digest.hexdigest()
