"""Patience with the store: what fails for a passing reason is tried again, for as long as the process lives."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from pwff_core.engine.worker.signals import Interruption
from pwff_core.errors import StoreError

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 10.0
Found = TypeVar("Found")


class Patience:
    """Calls of the store that are repeated while it is locked, full, read-only or not there.

    Each reason is told once on stderr, which is the run's log: a page shows its last line. A signal ends the waiting.
    """

    def __init__(self, interruption: Interruption) -> None:
        self._interruption = interruption

    def __call__(self, call: Callable[[], Found], within_s: float = math.inf) -> Found:
        """What the call returns, in the end. StoreError if it fails for a reason that will not pass, or did not."""
        told: set[str] = set()
        pause_s, begun = FIRST_PAUSE_S, time.monotonic()
        while True:
            try:
                found = call()
            except StoreError as error:
                if not error.passing or time.monotonic() - begun > within_s:
                    raise
                if str(error) not in told:
                    tell(f"{error} The run waits, and goes on when that is over.")
                    told.add(str(error))
            else:
                if told:
                    tell("The store can be used again; the run goes on.")
                return found
            with self._interruption.window():
                time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def tell(text: str) -> None:
    """A line on stderr; nothing where even that cannot be written, as a log on a full disk."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass
