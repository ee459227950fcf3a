"""The job file: its models, how it is read, and messages that say what to change.

::

    input:      {path, columns | vector, weight, id_columns, dtype}
    preprocess: [{name, ...parameters of that step}, ...]
    algorithm:  {name, ...parameters of that algorithm}
    backend:    {name, workers, threads_per_worker, partitions, memory_limit,
                 scratch_dir, address, insecure}
    output:     {path, columns, overwrite, status}

Relative paths, in a job file and in ``--set``, are relative to the current working
directory, not to the job file: ``ray job submit`` runs a job in its unpacked working
directory, and the same file then means the same thing there and at home.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, SerializeAsAny, ValidationError, model_validator

from distclust.data.storage import Room
from distclust.errors import ConfigError
from distclust.runner.algorithms import ALGORITHMS, Algorithm
from distclust.runner.estimator_specs import Strict, said
from distclust.runner.preprocessing import STEPS
from distclust.runner.problems import Problem, ProblemReport
from distclust.runner.secrets import scrub_tree
from distclust.runner.yamlfile import KeyPath, parse_yaml, read_yaml

__all__ = ["BackendSpec", "InputSpec", "JobSpec", "OutputSpec", "load_job", "parse_job"]

MAX_WORKERS = 1_000_000

# A YAML list becomes a tuple; its items stay strict.
Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], Field(strict=False)]
SomeNames = Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]


class InputSpec(Strict):
    """Which rows to cluster, and which of their columns.

    Attributes
    ----------
    path : str or tuple of str
        Parquet file, directory, glob or URI, or several of them.
    columns : tuple of str or None
        Numeric columns, one feature each. Without `columns` and `vector`: every numeric
        column that is neither the weight nor an id.
    vector : str or None
        One list-valued column that holds all features instead.
    weight : str or None
        Column of sample weights.
    id_columns : tuple of str
        Columns carried over to the labels.
    dtype : str or None
        Precision to compute in; None keeps the file's.
    """

    path: Name | SomeNames
    columns: SomeNames | None = None
    vector: Name | None = None
    weight: Name | None = None
    id_columns: Names = ()
    dtype: Literal["float32", "float64"] | None = None

    @model_validator(mode="after")
    def _check(self) -> InputSpec:
        if self.columns is not None and self.vector is not None:
            raise said("give either columns or vector, not both")
        _refuse_repeats("columns", self.columns or ())
        _refuse_repeats("id_columns", self.id_columns)
        if self.weight is not None and self.weight in (self.columns or ()):
            raise said(f"{self.weight!r} is also one of the columns", "weight")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The path or paths, always as a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path


class BackendSpec(Strict):
    """Where to run.

    Attributes
    ----------
    name : str
        ``local``, ``ray`` or ``dask``.
    workers, threads_per_worker : int or None
        Size of the cluster, or how much of an existing one to use; None uses what is there.
    partitions : int or None
        Parts the data is split into; None takes one a worker, more of many rows. Results
        do not depend on it.
    memory_limit : str, int or None
        What a worker process should stay within, e.g. ``2GiB``; rows beyond it are kept on
        its scratch disk. None takes a share of the machine. Results do not depend on it.
    scratch_dir : str or None
        Directory for that, on each worker.
    address : str or None
        An existing cluster, e.g. ``auto`` or ``ray://host:10001`` for Ray and
        ``tcp://host:8786`` for Dask. Without it a cluster is started on this machine.
    insecure : bool
        Leave to talk to another machine without TLS (Dask) or a token (Ray).
    """

    name: Literal["local", "ray", "dask"] = "local"
    workers: int | None = Field(default=None, ge=1, le=MAX_WORKERS)
    threads_per_worker: int | None = Field(default=None, ge=1, le=4096)
    partitions: int | None = Field(default=None, ge=1, le=MAX_WORKERS)
    memory_limit: int | Name | None = None
    scratch_dir: Name | None = None
    address: Name | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _check(self) -> BackendSpec:
        try:
            Room.of(self.memory_limit)
        except ConfigError as error:
            raise said(str(error), "memory_limit") from None
        if self.name == "local" and self.address is not None:
            raise said("is for name: ray or dask; the local backend has none", "address")
        return self


class OutputSpec(Strict):
    """What to write.

    Attributes
    ----------
    path : str
        The output directory: ``labels/``, ``model/``, ``run.json``, ``status.json``.
    columns : tuple of str
        Columns to write besides ``label``, e.g. ``distance`` (to the own center).
    overwrite : bool
        Leave to replace a finished output; the old one stays until the new one is complete.
    status : str or None
        A file that receives the final state and exit code, whatever happens. A job that
        fails leaves nothing at `path`, so this is where to learn of it.
    """

    path: Name
    columns: Names = ()
    overwrite: bool = False
    status: Name | None = None

    @model_validator(mode="after")
    def _check(self) -> OutputSpec:
        _refuse_repeats("columns", self.columns)
        return self


class _Unknown(Strict):
    """Stands in for an algorithm or a step that is itself wrong: the rest is still checked."""


class JobSpec(Strict):
    """A whole job; see the module's docstring."""

    input: InputSpec
    preprocess: Annotated[tuple[SerializeAsAny[Strict], ...], Field(strict=False)] = ()
    algorithm: SerializeAsAny[Strict]
    backend: BackendSpec = BackendSpec()
    output: OutputSpec

    @model_validator(mode="after")
    def _check(self) -> JobSpec:
        if isinstance(self.algorithm, _Unknown):
            return self
        offered = self.label_columns
        for column in self.output.columns:
            if column != "label" and column not in offered:
                raise said(
                    f"{self.algorithm_name} gives no column {column!r}; "
                    f"it offers: label, {', '.join(offered)}",
                    "output",
                    "columns",
                )
        return self

    @property
    def algorithm_name(self) -> str:
        """The registered name of the algorithm."""
        return str(getattr(self.algorithm, "name"))  # noqa: B009 (a field of each registered model)

    @property
    def plugin(self) -> Algorithm[Any]:
        """The registry's entry for the algorithm."""
        return ALGORITHMS[self.algorithm_name]

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Columns that the output can have besides labels and ids."""
        return self.plugin.label_columns(self.algorithm)

    @property
    def n_clusters(self) -> int | None:
        """Clusters asked for, or None where the algorithm finds the number."""
        return self.plugin.n_clusters(self.algorithm)

    def as_dict(self) -> dict[str, Any]:
        """The job as plain JSON values, every default written out and secrets scrubbed."""
        plain: dict[str, Any] = scrub_tree(self.model_dump(mode="json"))
        return plain


def load_job(path: str | Path, overrides: Sequence[str] = ()) -> JobSpec:
    """Read a job file and apply ``a.b=c`` overrides.

    Raises
    ------
    ConfigError
        One line a problem: file and line, full key, what is wrong, and the nearest key
        where the key is unknown.
    """
    document = read_yaml(path)
    value = document.value
    if not isinstance(value, dict):
        kind = "empty" if value is None else f"a {type(value).__name__}"
        raise ConfigError(
            f"{path}: a job has keys ({', '.join(JobSpec.model_fields)}), this file is {kind}"
        )
    sources: dict[KeyPath, str] = {key: f"{path}:{n}" for key, n in document.lines.items()}
    for text in overrides:
        _override(value, sources, text)
    return parse_job(value, sources, default_source=str(path))


def parse_job(
    value: Mapping[str, Any],
    sources: Mapping[KeyPath, str] | None = None,
    default_source: str = "job",
) -> JobSpec:
    """Build a job from plain values.

    Parameters
    ----------
    value : mapping
        As a job file would hold it.
    sources : mapping, optional
        Where each key was written, for messages.
    default_source : str
        What to name where `sources` does not know.

    Raises
    ------
    ConfigError

    Examples
    --------
    >>> job = parse_job({
    ...     "input": {"path": "rows.parquet"},
    ...     "algorithm": {"name": "kmeans", "n_clusters": 3},
    ...     "output": {"path": "out"},
    ... })
    >>> job.algorithm.max_iter
    300
    """
    problems: list[Problem] = []
    models: dict[KeyPath, type[Strict]] = {(): JobSpec}
    fields: dict[str, Any] = {"input": {}, "output": {}, **value}
    parse = partial(_parse_named, problems=problems, models=models)
    fields["algorithm"] = parse(value.get("algorithm"), ("algorithm",), ALGORITHMS)
    steps = value.get("preprocess")
    if isinstance(steps, list | tuple):
        fields["preprocess"] = tuple(
            parse(step, ("preprocess", number), STEPS) for number, step in enumerate(steps)
        )
    job = _validated(JobSpec, fields, (), problems)
    if job is None or problems:
        raise ProblemReport(problems, models, sources or {}, default_source).error()
    return cast(JobSpec, job)


def _parse_named(
    value: Any,
    path: KeyPath,
    known: Mapping[str, Any],
    problems: list[Problem],
    models: dict[KeyPath, type[Strict]],
) -> Strict:
    """Validate an algorithm, a step or a part of one by the model that its name selects."""
    if not isinstance(value, Mapping):
        example = "with_mean: true" if known is STEPS else "n_clusters: 8"
        example = f"{{name: {next(iter(known))}, {example}, ...}}"
        said = f"is required: {example}" if value is None else f"must hold keys: {example}"
        problems.append(Problem(path, said))
        return _Unknown()
    name = value.get("name")
    if not isinstance(name, str) or name not in known:
        said = f"must be one of: {', '.join(sorted(known))}"
        problems.append(Problem((*path, "name"), said, repr(name), tuple(known)))
        return _Unknown()
    entry = known[name]
    models[path] = entry.spec
    parts = {
        key: _parse_named(value.get(key), (*path, key), names, problems, models)
        for key, names in getattr(entry, "parts", {}).items()
    }
    made = _validated(entry.spec, {**value, **parts}, path, problems)
    wrong = made is None or any(isinstance(part, _Unknown) for part in parts.values())
    return _Unknown() if wrong or made is None else made


def _validated(
    model: type[Strict], value: Any, path: KeyPath, problems: list[Problem]
) -> Strict | None:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems.extend(Problem.of(path, detail) for detail in error.errors(include_url=False))
        return None


def _override(value: dict[str, Any], sources: dict[KeyPath, str], text: str) -> None:
    key, equals, written = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {text!r}: write it as key.subkey=value")
    source = f"--set {key.strip()}"
    target = value
    for i, part in enumerate(path[:-1], start=1):
        inner = target.setdefault(part, {})
        if inner is None:
            inner = target[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{source}: {'.'.join(path[:i])} holds a value, not keys")
        target = inner
    document = parse_yaml(written, source)
    target[path[-1]] = document.value
    for old in [known for known in sources if known[: len(path)] == path]:
        del sources[old]
    sources[path] = source


def _refuse_repeats(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise said(f"{name!r} is listed twice", what)
        seen.add(name)
