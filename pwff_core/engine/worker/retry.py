"""Calls of the store that fail for a passing reason are tried again, for as long as the process lives."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from pwff_core.engine.worker.signals import Signals
from pwff_core.engine.worker.timing import USUAL, Timing
from pwff_core.errors import StoreError

Result = TypeVar("Result")


def report(text: str) -> None:
    """Prints a line on stderr, which is the run's log; nothing if even that fails, as on a full disk."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass


class Retry:
    """Repeats calls of the store while it is locked, full, read-only or missing.

    Each reason is reported once: pages show the log's last line. A signal ends the waiting.
    """

    def __init__(
        self,
        signals: Signals,
        timing: Timing = USUAL,
        *,
        report: Callable[[str], None] = report,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.report = report
        self._signals, self._timing, self._sleep = signals, timing, sleep

    def __call__(self, call: Callable[[], Result], within_s: float = math.inf) -> Result:
        """The call's result. StoreError if it fails for a reason that will not pass, or has not after `within_s`."""
        reported: set[str] = set()
        pause_s, begun = self._timing.first_pause_s, time.monotonic()
        while True:
            try:
                result = call()
            except StoreError as error:
                if not error.passing or time.monotonic() - begun > within_s:
                    raise
                if str(error) not in reported:
                    self.report(f"{error} The run waits, and goes on when that is over.")
                    reported.add(str(error))
            else:
                if reported:
                    self.report("The store can be used again; the run goes on.")
                return result
            with self._signals.window():
                self._sleep(pause_s)
            pause_s = min(2 * pause_s, self._timing.longest_pause_s)
