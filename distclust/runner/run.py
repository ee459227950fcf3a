"""A job from its spec to its published output.

The order matters: everything that can be refused is refused before a cluster is started,
and nothing is visible in the output before all of it is there.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

from distclust.backends import connect
from distclust.cluster.pipeline import StepScorer, original_centers, save
from distclust.data import Manifest, OutputDir, ParquetSource, read_manifest
from distclust.data.blocks import Source
from distclust.data.transformed import TransformedRows
from distclust.data.values import Allowed
from distclust.engine.events import Listener
from distclust.engine.shards import Session
from distclust.errors import ClusterError, ConfigError, DataError, DistclustError, OutputExists
from distclust.preprocessing.base import RowTransformer
from distclust.runner.algorithms import Estimator
from distclust.runner.interrupt import Signals, interruptible
from distclust.runner.labelling import ClusterCounts, LabelledFile, label_files, labels_sha256
from distclust.runner.plan import check_job, n_partitions, open_input
from distclust.runner.preprocessing import STEPS
from distclust.runner.progress import Tally
from distclust.runner.report import RunReport, now
from distclust.runner.secrets import scrub
from distclust.runner.spec import BackendSpec, JobSpec
from distclust.runner.status import status_record, write_json

__all__ = ["run_job", "validate_job"]


class Stopwatch:
    """Wall time of each named stage, in seconds."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[name] = time.perf_counter() - start

    def read(self) -> dict[str, float]:
        return {**self._seconds, "total": time.perf_counter() - self._start}


def validate_job(spec: JobSpec) -> Manifest:
    """Check all that can be checked without a cluster, writing nothing.

    Raises
    ------
    ConfigError, DataError
    """
    manifest = open_input(spec)
    check_job(spec, manifest)
    with storage_errors(ConfigError, "output.path cannot be used"):
        if not spec.output.overwrite and holds_result(spec.output.path):
            raise OutputExists(
                f"{scrub(spec.output.path)}: holds a finished result; "
                "set output.overwrite: true to replace it, or choose another path"
            )
    return manifest


def holds_result(path: str) -> bool:
    """Whether there is a finished result."""
    try:
        read_manifest(path)
    except DataError:
        return False
    return True


def run_job(spec: JobSpec, listeners: Sequence[Listener] = ()) -> RunReport:
    """Run a job and publish its output: ``labels/``, ``model/``, ``run.json``, ``status.json``.

    In the main thread, SIGINT and SIGTERM stop it with `Interrupted`. However it ends
    before publishing, its output directory is as it was before.

    Parameters
    ----------
    spec : JobSpec
    listeners : sequence of callable
        Each receives every engine event.

    Raises
    ------
    ConfigError, DataError, ClusterError, Interrupted
    """
    with interruptible() as signals:
        started, watch, tally = now(), Stopwatch(), Tally()
        with watch.stage("open"):
            manifest = validate_job(spec)
            output = OutputDir(spec.output.path, spec.output.overwrite)
        try:
            with storage_errors(ConfigError, "output.path cannot be used"):
                output.prepare()
            fitted, files = _compute(spec, manifest, output, watch, (*listeners, tally), signals)
            with storage_errors(ClusterError, "the output cannot be written"):
                with watch.stage("check"):
                    labels_digest = labels_sha256(files)
                summary = spec.plugin.summary(fitted.model)
                report = RunReport(
                    spec=spec,
                    started=started,
                    seconds=watch.read(),
                    tally=tally,
                    rows=manifest.n_rows,
                    files=len(manifest.files),
                    features=manifest.n_features,
                    feature_names=manifest.feature_names,
                    counts=_count(files, spec.n_clusters),
                    centers=summary.centers,
                    original_centers=fitted.original(summary.centers),
                    figures=summary.figures,
                    input_digest=manifest.digest,
                    labels_digest=labels_digest,
                )
                with signals.held():
                    _publish(output, fitted, report, files)
        except BaseException:
            output.abort()
            raise
    return report


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a job has learned: its preprocessing steps in turn, and a clusterer after them."""

    steps: tuple[RowTransformer, ...]
    model: Estimator

    def original(self, centers: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
        """Return centers in the units of the input, if all steps can be undone."""
        return None if centers is None else original_centers(list(self.steps), centers)

    def save(self, path: Any) -> None:
        """Write the model directory: a pipeline's where there are steps."""
        save(make_pipeline(*self.steps, self.model) if self.steps else self.model, path)


def _compute(
    spec: JobSpec,
    manifest: Manifest,
    output: OutputDir,
    watch: Stopwatch,
    listeners: Sequence[Listener],
    signals: Signals,
) -> tuple[Fitted, list[LabelledFile]]:
    """Fit and label, on the job's backend; it is gone when this returns or raises."""
    plugin = spec.plugin
    offered = ("label", *spec.label_columns)
    columns = dict.fromkeys(("label", *spec.output.columns))
    with contextlib.ExitStack() as stack:
        with watch.stage("connect"):
            backend = stack.enter_context(connect(spec.backend.name, **_options(spec.backend)))
            signals.install()
        session = Session(backend, listeners=listeners)
        n_parts = n_partitions(spec, manifest, backend.slots)
        model = plugin.build(spec.algorithm, n_parts)
        raw = ParquetSource(manifest)
        source: Source = raw
        steps: list[RowTransformer] = []
        with watch.stage("preprocess") if spec.preprocess else contextlib.nullcontext():
            for step_spec in spec.preprocess:
                step = STEPS[getattr(step_spec, "name")].build(step_spec, n_parts)  # noqa: B009
                steps.append(step.fit_source(session, source))
                source = step.transform_source(source)
        with watch.stage("fit"):
            model.fit_source(session, source)
        with watch.stage("label"):
            scorer: Any = model.scorer(offered)
            if isinstance(source, TransformedRows):
                scorer = StepScorer(source.step, scorer)
                raw = cast(ParquetSource, source.source)  # which reads missing values if those do
            elif isinstance(model, BaseEstimator) and get_tags(model).input_tags.allow_nan:
                raw = raw.allowing(Allowed.ANY)
            files = label_files(session, raw.manifest, scorer, tuple(columns), output.attempts_dir)
    return Fitted(steps=tuple(steps), model=model), files


def _options(backend: BackendSpec) -> dict[str, Any]:
    options: dict[str, Any] = {
        "address": backend.address,
        "workers": backend.workers,
        "threads_per_worker": backend.threads_per_worker,
        "memory_limit": backend.memory_limit,
        "scratch_dir": backend.scratch_dir,
    }
    return options | ({"insecure": True} if backend.insecure and backend.name != "local" else {})


def _count(files: Sequence[LabelledFile], n_clusters: int | None) -> ClusterCounts:
    """Add up in file order; a cluster that no row is nearest to counts zero."""
    none = ClusterCounts(np.zeros(n_clusters or 0, dtype=np.int64), np.zeros(n_clusters or 0))
    return functools.reduce(ClusterCounts.plus, (file.counts for file in files), none)


def _publish(
    output: OutputDir, fitted: Fitted, report: RunReport, files: Sequence[LabelledFile]
) -> None:
    fitted.save(output.stage_path("model"))
    record = report.as_dict()
    write_json(output.stage_path("run.json"), record)
    write_json(output.stage_path("status.json"), status_record(0, "complete"))
    output.publish(
        [file.written for file in files],
        {"input_digest": report.input_digest, "labels_sha256": report.labels_digest},
    )


@contextlib.contextmanager
def storage_errors(kind: type[DistclustError], what: str) -> Iterator[None]:
    """Turn an operating system's error into one of ours, which has an exit code."""
    try:
        yield
    except DistclustError:
        raise
    except OSError as error:
        raise kind(scrub(f"{what}: {error}")) from error
