"""How the computing of a run is broken off: by a signal, or because the run is not this process's any more."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SWALLOWED_S = 1.0  # computing that goes on for so long after it was broken off has not noticed


class Interruption:
    """SIGINT and SIGTERM as a KeyboardInterrupt that never comes while a round is being written.

    The first signal interrupts the computing inside `window()`, at once or when the next window opens; a second one
    ends the process on the spot. Another thread interrupts in the same way with `nudge()`. Outside the main thread,
    where Python has no signals, nothing is installed, and a nudge is heard when the next window opens.
    """

    def __init__(self) -> None:
        self._since: float | None = None  # when it was asked to end
        self._open = False
        self._installed = False
        self._nudged = False

    @property
    def pending(self) -> bool:
        """Whether the computing was asked to end."""
        return self._since is not None

    @property
    def swallowed(self) -> bool:
        """Whether the computing was asked to end a while ago and goes on: a library has caught the exception."""
        return self._open and self._since is not None and time.monotonic() - self._since > SWALLOWED_S

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The signals are ours in here, and whose they were afterwards."""
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
        """A stretch of computing or waiting that may be interrupted; one may lie within another."""
        before, self._open = self._open, True
        try:
            if self.pending:
                raise KeyboardInterrupt
            yield
        finally:
            self._open = before

    def nudge(self) -> None:
        """Interrupts from another thread; again, if the computing has swallowed it. Never the second signal."""
        self._nudged = self._installed
        self._since = time.monotonic()
        if self._installed:
            if sys.platform == "win32":
                _thread.interrupt_main()
            else:  # a true signal: it wakes a sleep, too
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.pending and not self._nudged:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._nudged = False
        self._since = time.monotonic()
        if self._open:
            raise KeyboardInterrupt
