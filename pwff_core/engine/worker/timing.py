"""The times that the worker waits; tests wait shorter."""

from __future__ import annotations

from typing import NamedTuple


class Timing(NamedTuple):
    """The worker's times [s]."""

    first_pause_s: float = 1.0  # before a failed call of the store is tried again; doubled each time
    longest_pause_s: float = 10.0
    heartbeat_s: float = 2.0  # between two heartbeats
    gone_s: float = 60.0  # a store that is missing for so long is not coming back: its disk may have been pulled out
    swallowed_s: float = 1.0  # computing that goes on for so long after an interrupt has caught the exception


USUAL = Timing()
