"""What every backend is besides its seven verbs: a context manager that is never copied."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

__all__ = ["Connection"]


class Connection(ABC):
    """A way to workers. Copying an estimator shares it."""

    threads_per_worker: int

    def threads_for(self, partitions: int) -> int:
        """Kernel threads of a call: those of its worker, however many partitions there are."""
        return self.threads_per_worker

    @abstractmethod
    def close(self) -> None:
        """Release what was started; leave alone what was only connected to."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self
