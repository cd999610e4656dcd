"""What is costly to make, kept for all browsers of this server: made once, by the session that asks first.

This is the pages' cache. Others serve where it does not fit: `functools` for components, which are declared once, and
for pure functions of the lab's knobs, which may stay as long as the server; Streamlit's for a process that must be
closed, and below this folder; the session for the rounds of its own comparison.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

_T = TypeVar("_T")


class _Entry:
    """The place of one value. Its lock is held while the value is made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: tuple[object] | None = None
        self.requested_at = 0.0  # by the cache's clock


class Cache:
    """Values by their keys; a key says everything that a value depends on. Sessions may ask at the same time.

    At most `most` values are kept, those that were asked for last, and none that nobody has asked for in `idle_s`
    seconds: the next request for anything clears it away.
    """

    def __init__(self, most: int, idle_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._idle_s, self._clock = most, idle_s, clock
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()  # the one asked for last at the end

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """The value of a key; where there is none it is made, and whoever asks for it meanwhile waits.

        What `make` raises is raised, and the next request tries again.
        """
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.requested_at = self._clock()
            self._entries.move_to_end(key)
            self._clear()
        with entry.lock:
            if entry.value is None:
                entry.value = (make(),)
            return cast(_T, entry.value[0])

    def _clear(self) -> None:
        now = self._clock()
        idle = (key for key, entry in self._entries.items() if now - entry.requested_at > self._idle_s)
        surplus = list(self._entries)[: max(len(self._entries) - self._most, 0)]
        for key in {*idle, *surplus}:
            del self._entries[key]
