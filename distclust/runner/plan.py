"""What a job will read, hold and send, before anything is started.

Owns the checks that need only the job and the data's footers, and the figures that
``distclust plan`` shows. The formulas are in `distclust.runner.costs`.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from distclust.data import Manifest, ShardSpec, open_manifest, plan_shards
from distclust.data.storage import Room
from distclust.engine.shards import partitions_for
from distclust.errors import ConfigError
from distclust.runner.costs import AlgorithmCost, WorkerMemory, worker_memory
from distclust.runner.preprocessing import RowShape, shapes_of, step_bytes
from distclust.runner.secrets import scrub
from distclust.runner.spec import BackendSpec, JobSpec

__all__ = ["JobPlan", "Shard", "check_job", "make_plan", "n_partitions", "open_input", "plan_view"]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One partition: its rows, the files they come from, and their bytes as they are kept.

    `on_disk` says whether these are kept on the scratch disk, if partitions are dealt to
    workers in turn.
    """

    rows: int
    files: int
    decoded_bytes: int
    on_disk: bool


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """Everything ``distclust plan`` knows.

    Attributes
    ----------
    rows, features, files : int
    kept_features : int
        Of a row as workers keep it, after preprocessing; at most.
    dtype : str
    digest : str
        Of the manifest: changes when the data do.
    workers, threads_per_worker, processes : int
        Calls at once, kernel threads in each, and processes they are spread over.
    memory_limit : int
        Of a worker process, bytes.
    scratch_dir : str
        Where its rows go beyond that.
    assumed : tuple of str
        What is not known before the cluster is there, and what was taken instead.
    shards : tuple of Shard
    memory : WorkerMemory
        Of the fullest worker process, bytes.
    cost : AlgorithmCost
    """

    rows: int
    features: int
    kept_features: int
    files: int
    dtype: str
    digest: str
    algorithm: str
    backend: str
    workers: int
    threads_per_worker: int
    processes: int
    memory_limit: int
    scratch_dir: str
    assumed: tuple[str, ...]
    shards: tuple[Shard, ...]
    memory: WorkerMemory
    cost: AlgorithmCost

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values: sizes in bytes."""
        down, up = self.cost.to_worker_bytes, self.cost.to_driver_bytes
        seen = self.cost.rows_per_iteration
        return {
            "schema_version": 1,
            "data": {
                "rows": self.rows,
                "features": self.features,
                "kept_features": self.kept_features,
                "files": self.files,
                "dtype": self.dtype,
                "decoded_bytes": sum(shard.decoded_bytes for shard in self.shards),
                "digest": self.digest,
            },
            "algorithm": self.algorithm,
            "backend": {
                "name": self.backend,
                "workers": self.workers,
                "threads_per_worker": self.threads_per_worker,
                "processes": self.processes,
                "memory_limit_bytes": self.memory_limit,
                "scratch_dir": self.scratch_dir,
                "assumed": list(self.assumed),
            },
            "shards": {
                "count": len(self.shards),
                "on_disk": sum(shard.on_disk for shard in self.shards),
                "rows": _spread([shard.rows for shard in self.shards]),
                "decoded_bytes": _spread([shard.decoded_bytes for shard in self.shards]),
                "each": [asdict(shard) for shard in self.shards],
            },
            "worker_memory_bytes": {**asdict(self.memory), "peak": self.memory.peak},
            "iteration": {
                "driver_to_worker_bytes": down,
                "driver_to_all_workers_bytes": down * self.processes,
                "partition_reply_bytes": up,
                "all_replies_bytes": up * len(self.shards),
                "flops": self.cost.flops_per_row * min(self.rows, seen or self.rows),
            },
            "driver_bytes": self.cost.driver_bytes,
        }


def open_input(spec: JobSpec) -> Manifest:
    """Read the footers of a job's input."""
    data = spec.input
    return open_manifest(
        data.path if isinstance(data.path, str) else list(data.path),
        columns=data.columns,
        vector=data.vector,
        weight=data.weight,
        id_columns=data.id_columns,
        dtype=data.dtype,
    )


def check_job(spec: JobSpec, manifest: Manifest) -> None:
    """Refuse what cannot work, before a cluster is started.

    Raises
    ------
    ConfigError
        More clusters than rows, initial centers of another shape, label columns that
        would hide id columns, or an output that would replace the input.
    """
    k, n_rows = spec.n_clusters, manifest.n_rows
    if k is not None and k > n_rows:
        raise ConfigError(
            f"n_samples={n_rows} should be >= n_clusters={k}; "
            "set algorithm.n_clusters to at most the number of rows"
        )
    init = getattr(spec.algorithm, "init", None)
    if isinstance(init, list):
        kept = _kept_shape(spec, manifest).n_features
        _check_init(init, k, kept, at_most=bool(spec.preprocess))
    taken = {"label", *spec.output.columns} & set(spec.input.id_columns)
    if taken:
        raise ConfigError(
            f"input.id_columns: {min(taken)!r} is also a column of the output; "
            "rename it in the data or leave it out"
        )
    _check_output(spec.output.path, manifest)


def _check_init(
    init: Sequence[Sequence[float]], k: int | None, n_features: int, *, at_most: bool
) -> None:
    if k is not None and len(init) != k:
        raise ConfigError(
            f"algorithm.init has {len(init)} centers, but algorithm.n_clusters is {k}"
        )
    for i, center in enumerate(init):
        if len(center) > n_features or (len(center) < n_features and not at_most):
            raise ConfigError(
                f"algorithm.init[{i}] has {len(center)} numbers, "
                f"but the data has {n_features} features"
            )


def _check_output(output: str, manifest: Manifest) -> None:
    """An overwriting job must not be able to remove what it reads."""
    if "://" in output:
        inside = [file.name for file in manifest.files if file.path.startswith(f"{output}/")]
    else:
        target = Path(output).resolve()
        local = [file for file in manifest.files if "://" not in file.path]
        inside = [file.name for file in local if Path(file.path).resolve().is_relative_to(target)]
    if inside:
        raise ConfigError(
            f"output.path {scrub(output)!r} holds the input file {inside[0]}; "
            "write to a directory of its own"
        )


def make_plan(spec: JobSpec, manifest: Manifest) -> JobPlan:
    """Work out the figures of a job."""
    backend = spec.backend
    threads = backend.threads_per_worker or 1
    workers, assumed = _workers(backend, threads)
    specs = plan_shards(manifest, n_partitions(spec, manifest, workers))
    in_process = backend.name == "local"
    processes = 1 if in_process else workers
    room = Room.of(backend.memory_limit, backend.scratch_dir).shared(processes)
    if room.memory_limit is None:
        assumed += (f"backend.memory_limit is not set: taken as {size(room.limit)} a process",)
    shapes = _shapes(spec, manifest)
    kept = shapes[-1]
    row_bytes = _kept_row_bytes(kept, manifest)
    shards = tuple(_shards(specs, processes, room.row_bytes, row_bytes))
    held = -(-len(shards) // processes)
    cost = spec.plugin.cost(spec.algorithm, kept.n_features, kept.itemsize)
    memory = worker_memory(
        held_bytes=_heaviest([shard.decoded_bytes for shard in shards], held),
        held_rows=_heaviest([shard.rows for shard in shards], held),
        row_bytes_limit=room.row_bytes,
        row_values=manifest.n_features + (manifest.selection.weight is not None),
        kept_values=kept.n_features + (manifest.selection.weight is not None),
        prefetched_bytes=_prefetched(manifest),
        step_bytes=step_bytes(spec.preprocess, shapes, threads),
        largest_partition_rows=max(spec.n_rows for spec in specs),
        largest_partition_bytes=max(shard.decoded_bytes for shard in shards),
        calls_at_once=workers if in_process else 1,
        threads_per_call=threads,
        cost=cost,
    )
    return JobPlan(
        rows=manifest.n_rows,
        features=manifest.n_features,
        kept_features=kept.n_features,
        files=len(manifest.files),
        dtype=str(manifest.dtype),
        digest=manifest.digest,
        algorithm=spec.algorithm_name,
        backend=backend.name,
        workers=workers,
        threads_per_worker=threads,
        processes=processes,
        memory_limit=room.limit,
        scratch_dir=room.directory,
        assumed=assumed,
        shards=shards,
        memory=memory,
        cost=cost,
    )


def n_partitions(spec: JobSpec, manifest: Manifest, workers: int) -> int:
    """Return how many partitions a job asks for, on a cluster of so many workers."""
    row_nbytes = _kept_row_bytes(_kept_shape(spec, manifest), manifest)
    return spec.backend.partitions or partitions_for(manifest.n_rows, row_nbytes, workers)


def _shapes(spec: JobSpec, manifest: Manifest) -> list[RowShape]:
    """Return what rows look like before the first step and after each, at most."""
    raw = RowShape(manifest.n_features, manifest.dtype.itemsize)
    return shapes_of(spec.preprocess, raw, manifest.n_rows)


def _kept_shape(spec: JobSpec, manifest: Manifest) -> RowShape:
    return _shapes(spec, manifest)[-1]


def _kept_row_bytes(kept: RowShape, manifest: Manifest) -> int:
    return kept.n_features * kept.itemsize + (8 if manifest.selection.weight is not None else 0)


def _workers(backend: BackendSpec, threads: int) -> tuple[int, tuple[str, ...]]:
    if backend.workers is not None:
        return backend.workers, ()
    here = max(1, len(os.sched_getaffinity(0)) // threads)
    if backend.name == "local":
        return here, ()
    note = f"backend.workers is not set: figures are for {here}, what this machine could run"
    return here, (note,)


def _heaviest(sizes: Sequence[int], held: int) -> int:
    """Size of the `held` largest partitions: the most that one process can be given."""
    return sum(sorted(sizes, reverse=True)[:held])


def _prefetched(manifest: Manifest) -> int:
    remote = [file for file in manifest.files if "://" in file.path]
    return max((group.decoded_bytes for file in remote for group in file.row_groups), default=0)


def _shards(
    specs: Sequence[ShardSpec], processes: int, limit: int, row_bytes: int
) -> Iterator[Shard]:
    """Deal partitions to processes in turn; what does not fit in memory goes to disk."""
    in_memory = [0] * processes
    for number, spec in enumerate(specs):
        kept_bytes = spec.n_rows * row_bytes
        fits = in_memory[number % processes] + kept_bytes <= limit
        if fits:
            in_memory[number % processes] += kept_bytes
        files = len({piece.path for piece in spec.pieces})
        yield Shard(rows=spec.n_rows, files=files, decoded_bytes=kept_bytes, on_disk=not fits)


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def plan_view(plan: JobPlan) -> Group:
    """The plan as tables for a terminal."""
    figures = plan.as_dict()
    shards = Table(
        title=f"{len(plan.shards)} partitions of {plan.rows:,} rows", title_justify="left"
    )
    for heading in ("", "min", "median", "max"):
        shards.add_column(heading, justify="right" if heading else "left")
    for label, key, show in (
        ("rows", "rows", lambda value: f"{value:,.0f}"),
        ("decoded", "decoded_bytes", size),
    ):
        spread = figures["shards"][key]
        shards.add_row(label, *(show(spread[column]) for column in ("min", "median", "max")))
    facts = Table(show_header=False, box=None)
    facts.add_column(style="bold")
    facts.add_column()
    iteration, memory, driver = figures["iteration"], plan.memory, plan.cost.driver_bytes
    parts = {name: size(value) for name, value in asdict(memory).items() if name != "on_disk"}
    told = ", ".join(f"{name} {value}" for name, value in parts.items())
    kept = "" if plan.kept_features == plan.features else f"; kept are {plan.kept_features}"
    for row in (
        ("data", f"{plan.files} files, {plan.features} features, {plan.dtype}{kept}"),
        (
            "backend",
            f"{plan.backend}: {plan.workers} workers x {plan.threads_per_worker} threads "
            f"in {plan.processes} process{'es' if plan.processes > 1 else ''}",
        ),
        ("memory a process", f"up to {size(memory.peak)} ({told})"),
        *_spilling(plan),
        *([("memory of the driver", f"up to {size(driver)}")] if driver else []),
        ("driver to worker", f"{size(iteration['driver_to_worker_bytes'])} an iteration"),
        ("partition's reply", f"{size(iteration['partition_reply_bytes'])} an iteration"),
        ("arithmetic", f"{iteration['flops']:.3g} FLOP an iteration"),
        *(("assumed", note) for note in plan.assumed),
    ):
        facts.add_row(*row)
    return Group(facts, shards)


def _spilling(plan: JobPlan) -> Iterator[tuple[str, str]]:
    """Rows of the table on what exceeds memory."""
    memory = plan.memory
    if memory.on_disk:
        numbers = [number for number, shard in enumerate(plan.shards) if shard.on_disk]
        named = ", ".join(map(str, numbers[:8])) + (", …" if len(numbers) > 8 else "")
        yield (
            "disk a process",
            f"up to {size(memory.on_disk)} in {plan.scratch_dir}: rows of {len(numbers)} "
            f"partitions{f' ({named})' if numbers else ''}, and row state",
        )
    if memory.peak > plan.memory_limit:
        yield (
            "warning",
            f"this may exceed the memory limit of {size(plan.memory_limit)}: take more partitions, "
            "fewer threads or clusters, or raise backend.memory_limit",
        )


def size(n_bytes: float) -> str:
    """Bytes for people.

    Examples
    --------
    >>> size(512), size(3 * 1024**2)
    ('512 B', '3.0 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if n_bytes < 1024 or unit == "TiB":
            break
        n_bytes /= 1024
    return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
