"""How the computing of a run is interrupted: by a signal, or because the run is no longer this process's."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pwff_core.engine.worker.timing import USUAL, Timing


class Signals:
    """SIGINT and SIGTERM as a KeyboardInterrupt that never comes while a round is being written.

    The first signal interrupts the computing inside `window()`, at once or when the next window opens; a second one
    ends the process on the spot. Another thread interrupts in the same way with `interrupt()`. Outside the main thread,
    where Python has no signals, no handler is installed, and an interrupt waits for the next window.
    """

    def __init__(self, timing: Timing = USUAL) -> None:
        self._swallowed_s = timing.swallowed_s
        self._since: float | None = None  # when the computing was asked to end
        self._open = False
        self._installed = False
        self._from_thread = False

    @property
    def pending(self) -> bool:
        """Whether the computing was asked to end."""
        return self._since is not None

    @property
    def swallowed(self) -> bool:
        """Whether the computing goes on long after it was asked to end: a library has caught the exception."""
        return self._open and self._since is not None and time.monotonic() - self._since > self._swallowed_s

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles the signals while this is open, and restores the handlers afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        self._installed = True
        try:
            yield
        finally:
            self._installed = False
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def window(self) -> Iterator[None]:
        """Computing or waiting that may be interrupted; windows may be nested."""
        before, self._open = self._open, True
        try:
            if self.pending:
                raise KeyboardInterrupt
            yield
        finally:
            self._open = before

    def interrupt(self) -> None:
        """Interrupts from another thread, again if the computing has swallowed it; never counts as a second signal."""
        self._from_thread = self._installed
        self._since = time.monotonic()
        if self._installed:
            if sys.platform == "win32":
                _thread.interrupt_main()
            else:  # a real signal also wakes a sleep
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pending and not self._from_thread:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._from_thread = False
        self._since = time.monotonic()
        if self._open:
            raise KeyboardInterrupt
