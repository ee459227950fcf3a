"""Turns SIGINT and SIGTERM into one exception, so that a stopped job can clean up."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["Interrupted", "Signals", "interruptible"]


class Interrupted(BaseException):
    """The job was asked to stop. Not an `Exception`: no handler may swallow it.

    Attributes
    ----------
    exit_code : int
        128 plus the signal's number, as shells have it: 130 or 143.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


class Signals:
    """The handlers of a job, see `interruptible`."""

    def __init__(self) -> None:
        self._held = False
        self._before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is not threading.main_thread():
            return  # Python delivers signals to the main thread only
        for name in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(name)
            if handler is not signal.SIG_IGN:  # a shell's background job stays deaf to ^C
                self._before[name] = handler

    def install(self) -> None:
        """Install the handlers; again after connecting, as cluster libraries replace them."""
        for name in self._before:
            signal.signal(name, self._stop)

    def restore(self) -> None:
        """Put back the handlers that were there before."""
        for name, handler in self._before.items():
            signal.signal(name, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let the first signal pass without effect, around steps that must not be torn."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _stop(self, signum: int, _frame: FrameType | None) -> None:
        for name in self._before:
            signal.signal(name, signal.SIG_DFL)
        if not self._held:
            raise Interrupted(signum)


@contextlib.contextmanager
def interruptible() -> Iterator[Signals]:
    """Raise `Interrupted` in the main thread on the first SIGINT or SIGTERM.

    A second signal has its default effect, for a clean-up that hangs. In any other thread
    than the main one this does nothing.
    """
    signals = Signals()
    signals.install()
    try:
        yield signals
    finally:
        signals.restore()
