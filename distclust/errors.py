"""Every error distclust raises, in one tree.

::

    DistclustError
    ├── ConfigError            (ValueError)       a parameter or job file is wrong
    │   ├── UnknownBackend                        no backend has that name
    │   ├── BackendNotInstalled (ImportError)     known, but its extra is missing
    │   └── OutputExists       (FileExistsError)  would overwrite without leave
    ├── DataError              (ValueError)       rows, columns or files cannot be used
    │   └── CorruptFile        (OSError)          bytes do not decode
    ├── ModelError             (ValueError)       a saved model cannot be read
    └── ClusterError           (RuntimeError)     the cluster cannot do the work
        ├── ClusterTimeout     (TimeoutError)     it did not answer in time
        ├── WorkerLost         (ConnectionError)  the process holding a partition is gone
        └── TaskFailed                            a function raised on a worker

``exit_code`` is what ``distclust run`` returns when the error ends a job: 2 bad
configuration, 3 bad input data, 4 cluster trouble. Every error is built from one
message, so it survives pickling on its way from a worker.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BackendNotInstalled",
    "ClusterError",
    "ClusterTimeout",
    "ConfigError",
    "CorruptFile",
    "DataError",
    "DistclustError",
    "ModelError",
    "OutputExists",
    "TaskFailed",
    "UnknownBackend",
    "WorkerLost",
]


class DistclustError(Exception):
    """Base of every error raised by distclust."""

    exit_code: ClassVar[int] = 1


class ConfigError(DistclustError, ValueError):
    """A parameter, job file or combination of options is wrong."""

    exit_code = 2


class UnknownBackend(ConfigError):
    """No backend has the given name."""


class BackendNotInstalled(ConfigError, ImportError):
    """The backend exists, but the extra that brings its library is not installed."""


class OutputExists(ConfigError, FileExistsError):
    """The output holds a finished result and overwriting was not asked for."""


class DataError(DistclustError, ValueError):
    """Input rows, columns or files cannot be used."""

    exit_code = 3


class CorruptFile(DataError, OSError):
    """A file's bytes do not decode, or fail their checksum."""


class ModelError(DistclustError, ValueError):
    """A saved model is missing, damaged or of an unknown version."""

    exit_code = 2


class ClusterError(DistclustError, RuntimeError):
    """The cluster could not do the work."""

    exit_code = 4


class ClusterTimeout(ClusterError, TimeoutError):
    """The cluster did not answer, or did not give resources, in time."""


class WorkerLost(ClusterError, ConnectionError):
    """The process that held a partition, or ran a call, is gone."""


class TaskFailed(ClusterError):
    """A function raised on a worker.

    Attributes
    ----------
    cause : DistclustError or None
        The error itself when it is one of ours: the engine raises that one instead.
    remote_traceback : str
        The traceback as it was printed on the worker.
    """

    def __init__(
        self,
        message: str,
        cause: DistclustError | None = None,
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.remote_traceback = remote_traceback

    def __reduce__(self) -> tuple[type[TaskFailed], tuple[object, ...]]:
        return type(self), (self.args[0], self.cause, self.remote_traceback)
