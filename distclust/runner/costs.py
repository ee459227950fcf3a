"""What a job will cost, in bytes and floating-point operations: pure formulas.

`distclust.runner.plan` feeds them the shapes of a data set; nothing here reads data or
looks at a machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from distclust.cluster.minibatch_steps import TILE
from distclust.data.blocks import PIECE_CELLS, PIECE_ROWS
from distclust.data.reader import BATCH_NBYTES
from distclust.data.storage import RUNTIME_BYTES
from distclust.kernels.coded import coded_words
from distclust.kernels.drift import MOST_REFERENCES, MOST_STEPS
from distclust.kernels.grouped import groups_of_row
from distclust.kernels.kdtree import SIEVED
from distclust.kernels.tile import TILE_ROWS

__all__ = [
    "AlgorithmCost",
    "WorkerMemory",
    "bisecting_cost",
    "hdbscan_cost",
    "kmeans_cost",
    "minibatch_cost",
    "sample_cost",
    "worker_memory",
]

ROW_STATE_BYTES = 13  # label, two bounds and their step; in seeding, nearest candidate and distance
PASSING_BYTES = 48  # of each row of a partition, in seeding: random numbers, costs, copies of them
BATCH_ROWS = 1 << 16  # rows decoded at a time, fewer when they are wide
DECODE_COPIES = 2  # a batch as Arrow has it, and as it is converted
COLUMN_BUFFER_BYTES = 2 << 20  # a read buffer and a page of each column


@dataclass(frozen=True, kw_only=True)
class AlgorithmCost:
    """What one iteration of an algorithm moves, computes and holds.

    Attributes
    ----------
    to_worker_bytes : int
        Sent by the driver to each worker, an iteration.
    to_driver_bytes : int
        In the reply of one partition, an iteration.
    flops_per_row : int
        Floating-point operations a row, an iteration, with nothing skipped.
    thread_bytes : int
        Scratch memory of one kernel thread.
    state_bytes : int
        Model state in each worker, whatever the number of rows.
    copies_rows : bool
        Whether the rows of a partition are copied once they are loaded.
    row_state_bytes : int
        Kept of each row beside its values.
    rows_per_iteration : int or None
        How many rows an iteration looks at, on all workers; None means all.
    driver_bytes : int
        Held by the driver at most, besides replies.
    """

    to_worker_bytes: int
    to_driver_bytes: int
    flops_per_row: int
    thread_bytes: int
    state_bytes: int
    copies_rows: bool = False
    row_state_bytes: int = ROW_STATE_BYTES
    rows_per_iteration: int | None = None
    driver_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class WorkerMemory:
    """Parts of the predicted peak memory of one process, in bytes.

    Attributes
    ----------
    resident : int
        The rows it keeps in memory, with what it knows of each.
    passing : int
        Pieces of rows that its threads look at, and what a call makes of each row.
    loading : int
        Batches being decoded and preprocessed at the same time, before they become blocks.
    kernels : int
        Scratch memory of its threads.
    state : int
        Centers and sums.
    runtime : int
        The interpreter and its libraries.
    on_disk : int
        Rows and row state beyond its limit, on its scratch disk: no part of the peak.
    """

    resident: int
    passing: int
    loading: int
    kernels: int
    state: int
    runtime: int
    on_disk: int

    @property
    def peak(self) -> int:
        """All that is in memory at once: an upper estimate."""
        rows = self.resident + self.passing
        return rows + self.loading + self.kernels + self.state + self.runtime


def worker_memory(
    *,
    held_bytes: int,
    held_rows: int,
    row_bytes_limit: int,
    row_values: int,
    kept_values: int,
    prefetched_bytes: int,
    step_bytes: int = 0,
    largest_partition_rows: int,
    largest_partition_bytes: int,
    calls_at_once: int,
    threads_per_call: int,
    cost: AlgorithmCost,
) -> WorkerMemory:
    """Predict the peak memory of one worker process.

    Parameters
    ----------
    held_bytes, held_rows : int
        Decoded bytes and rows of all partitions the process holds.
    row_bytes_limit : int
        What of them, with their state, may be in memory: `Room.row_bytes`.
    row_values, kept_values : int
        Values read in each row, and kept of it: features and weight.
    prefetched_bytes : int
        Of the largest row group where storage is remote and read ahead; 0 for local files.
    step_bytes : int
        What preprocessing needs in each call, besides batches of rows and what is kept.
    largest_partition_rows : int
        What a call may make something of.
    largest_partition_bytes : int
        Decoded; what is held twice while rows are copied.
    calls_at_once : int
        Partitions it loads or works on at the same time.
    threads_per_call : int
        Kernel threads in each of them.
    cost : AlgorithmCost

    Examples
    --------
    >>> cost = AlgorithmCost(to_worker_bytes=0, to_driver_bytes=0, flops_per_row=0,
    ...                      thread_bytes=1000, state_bytes=500)
    >>> memory = worker_memory(held_bytes=10_000, held_rows=100, row_bytes_limit=9000,
    ...                        row_values=3, kept_values=3, prefetched_bytes=0,
    ...                        largest_partition_rows=25, largest_partition_bytes=2500,
    ...                        calls_at_once=2, threads_per_call=3, cost=cost)
    >>> memory.resident, memory.on_disk, memory.passing
    (9000, 2300, 12400)
    >>> memory.loading, memory.kernels, memory.state
    (18874368, 6000, 1000)
    """
    batch = min(BATCH_NBYTES, 8 * row_values * BATCH_ROWS)
    loading = DECODE_COPIES * batch + COLUMN_BUFFER_BYTES * row_values + prefetched_bytes
    loading += step_bytes
    held = held_bytes + cost.row_state_bytes * held_rows
    held += calls_at_once * largest_partition_bytes if cost.copies_rows else 0
    threads = calls_at_once * threads_per_call
    piece = min(PIECE_ROWS, max(1, PIECE_CELLS // kept_values)) * 8 * kept_values
    return WorkerMemory(
        resident=min(held, row_bytes_limit),
        passing=min(threads * piece, held_bytes)
        + calls_at_once * PASSING_BYTES * largest_partition_rows,
        on_disk=max(held - row_bytes_limit, 0),
        loading=loading * calls_at_once,
        kernels=cost.thread_bytes * threads,
        state=cost.state_bytes * calls_at_once,
        runtime=RUNTIME_BYTES,
    )


def kmeans_cost(n_clusters: int, n_features: int, itemsize: int, *, runs: int = 1) -> AlgorithmCost:
    """Cost of one Lloyd iteration.

    With k clusters of d features: k·d centers in the data's own precision go out, and
    k·(8d + 16) bytes of integer sums and weights come back; a row costs a multiply and an
    add for each entry of a k-by-d product.

    Parameters
    ----------
    n_clusters, n_features : int
    itemsize : int
        Bytes a number: 4 for float32, 8 for float64.
    runs : int
        Runs with different seeds that iterate side by side.

    Examples
    --------
    >>> kmeans_cost(1000, 64, 4).to_driver_bytes
    528000
    """
    k, d = n_clusters, n_features
    sums = k * (8 * d + 16)
    tables = k * (8 * d + itemsize * (d + 1))  # exact centers, and those of the matrix product
    drift = min(d // 2, 8 * k * (MOST_STEPS + MOST_REFERENCES * d) // BATCH_ROWS)
    row_state = max(ROW_STATE_BYTES, 9 + 2 * groups_of_row(k, d, itemsize)) + drift
    codes = 4 * coded_words(d)  # of all runs
    return AlgorithmCost(
        to_worker_bytes=itemsize * k * d * runs,
        to_driver_bytes=sums * runs,
        flops_per_row=2 * k * d * runs,
        thread_bytes=TILE_ROWS * (4 * itemsize + 12) + 64 * d + sums * runs,
        state_bytes=(tables + 8 * k * MOST_STEPS + 2 * sums) * runs,
        row_state_bytes=row_state * runs + codes,
    )


def bisecting_cost(n_features: int, itemsize: int, *, runs: int = 1) -> AlgorithmCost:
    """Cost of an iteration of the first split; rows are held a second time, cluster by cluster.

    Parameters
    ----------
    n_features, itemsize, runs : int
        As for `kmeans_cost`.

    Examples
    --------
    >>> cost, one = bisecting_cost(64, 4), kmeans_cost(2, 64, 4)
    >>> cost.row_state_bytes - one.row_state_bytes
    264
    """
    cost = kmeans_cost(2, n_features, itemsize, runs=runs)
    copy = itemsize * n_features + 8  # and the weight
    return replace(cost, row_state_bytes=cost.row_state_bytes + copy)


def minibatch_cost(
    n_clusters: int, n_features: int, itemsize: int, batch_size: int
) -> AlgorithmCost:
    """Cost of one mini-batch step.

    Beside the centers, the numbers of the drawn rows go out, 8 bytes each. Memory is for
    all of a batch in one partition.

    Parameters
    ----------
    n_clusters, n_features, itemsize : int
        As for `kmeans_cost`.
    batch_size : int

    Examples
    --------
    >>> cost = minibatch_cost(1000, 64, 4, batch_size=2048)
    >>> cost.to_worker_bytes, cost.rows_per_iteration
    (272384, 2048)
    """
    lloyd = kmeans_cost(n_clusters, n_features, itemsize)
    rounded = TILE * (2 * 8 * n_features + 40)  # integers of each row, and those by label
    return replace(
        lloyd,
        to_worker_bytes=lloyd.to_worker_bytes + 8 * batch_size,
        thread_bytes=lloyd.thread_bytes + rounded,
        state_bytes=lloyd.state_bytes + batch_size * (itemsize * n_features + 8),
        rows_per_iteration=batch_size,
    )


def hdbscan_cost(min_samples: int, n_features: int) -> AlgorithmCost:
    """What HDBSCAN holds: no iterations, and time that no formula tells.

    Of each row a worker has two float64 copies in tree order and, from `SIEVED` features on,
    one of float32, its `min_samples` nearest neighbors (a distance and a place) and some 60
    bytes of searches.

    Examples
    --------
    >>> hdbscan_cost(10, 2).row_state_bytes
    212
    """
    sieve_bytes = 4 * n_features + 20 if n_features >= SIEVED else 0
    row_bytes = 2 * 8 * n_features + sieve_bytes + 12 * min_samples + 60
    return AlgorithmCost(
        to_worker_bytes=0,
        to_driver_bytes=0,
        flops_per_row=0,
        thread_bytes=1 << 20,
        state_bytes=0,
        copies_rows=True,
        row_state_bytes=row_bytes,
    )


def sample_cost(
    sample_size: int,
    n_features: int,
    itemsize: int,
    *,
    n_centers: int | None,
    n_neighbors: int,
    fit_bytes: int,
) -> AlgorithmCost:
    """Cost of labelling all rows by a clustered sample: one "iteration" is that pass.

    Parameters
    ----------
    sample_size, n_features, itemsize : int
    n_centers : int or None
        Where rows are compared with centers; else the sample is searched, which takes time
        that no formula tells.
    n_neighbors : int
        Looked up in the sample for each row.
    fit_bytes : int
        What clustering the sample holds, in the driver.

    Examples
    --------
    >>> cost = sample_cost(10_000, 8, 4, n_centers=None, n_neighbors=1, fit_bytes=800_000_000)
    >>> cost.to_worker_bytes, cost.flops_per_row, cost.driver_bytes
    (360000, 0, 801120000)
    """
    sampled = sample_size * (n_features * itemsize + 4)
    drawn = sample_size * (n_features * itemsize + 24)  # with ids, weights and random numbers
    if n_centers is not None:
        by_center = kmeans_cost(n_centers, n_features, itemsize)
        return replace(by_center, to_driver_bytes=drawn, driver_bytes=fit_bytes + 2 * drawn)
    found = 2 * (8 * n_features + 16 * n_neighbors) + 24  # of each row: as it is, and in tree order
    return AlgorithmCost(
        to_worker_bytes=sampled,
        to_driver_bytes=drawn,
        flops_per_row=0,
        thread_bytes=PIECE_ROWS * found,
        state_bytes=sampled + sample_size * (2 * 8 * n_features + 32),
        driver_bytes=fit_bytes + 2 * drawn,
    )
