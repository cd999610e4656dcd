"""What is costly to make, kept for all browsers of this server: made once, by the session that asks first."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

_T = TypeVar("_T")


class _Place:
    """Room for one thing. Its lock is held while it is made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thing: tuple[object] | None = None
        self.asked_at = 0.0  # time.monotonic()


class Shelf:
    """Things by their keys; a key says everything that a thing depends on. Sessions may ask at the same time.

    At most `most` things are kept, those that were asked for last, and none that nobody has asked for in `idle_s`
    seconds: the next request for anything clears it away.
    """

    def __init__(self, most: int, idle_s: float = 60.0) -> None:
        self._most, self._idle_s = most, idle_s
        self._lock = threading.Lock()
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()  # the one asked for last at the end

    def __len__(self) -> int:
        return len(self._places)

    def take(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """The thing of a key; where there is none it is made, and whoever asks for it meanwhile waits.

        What `make` raises is raised, and the next one who asks tries again.
        """
        with self._lock:
            place = self._places.setdefault(key, _Place())
            place.asked_at = time.monotonic()
            self._places.move_to_end(key)
            self._clear()
        with place.lock:
            if place.thing is None:
                place.thing = (make(),)
            return cast(_T, place.thing[0])

    def _clear(self) -> None:
        now = time.monotonic()
        idle = (key for key, place in self._places.items() if now - place.asked_at > self._idle_s)
        surplus = list(self._places)[: max(len(self._places) - self._most, 0)]
        for key in {*idle, *surplus}:
            del self._places[key]
