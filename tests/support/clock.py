"""The computer's two clocks, set by hand."""

from __future__ import annotations

import time

import pytest


class Clock:
    """The wall clock (Unix seconds), which can be set, and the uptime, which cannot."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.uptime = time.time(), time.monotonic()
        monkeypatch.setattr("time.time", lambda: self.wall)
        monkeypatch.setattr("time.monotonic", lambda: self.uptime)

    def go(self, seconds: float) -> None:
        """Lets time pass: both clocks advance."""
        self.wall += seconds
        self.uptime += seconds

    def jump(self, seconds: float) -> None:
        """Sets the wall clock forward or back."""
        self.wall += seconds
