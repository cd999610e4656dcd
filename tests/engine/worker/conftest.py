"""A store for each test of the worker; and, where a test asks for them, hasty clocks and a temporary folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from pwff_core.engine.worker import heartbeat, retry
from pwff_core.runs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """In a folder of its own, which can go."""
    (tmp_path / "disk").mkdir()
    return Store(tmp_path / "disk" / "runs.sqlite")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary folder, as the worker finds it."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses and heartbeats are a small part of what they are."""
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_S", 0.1)
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.02)
    monkeypatch.setattr(heartbeat, "GONE_S", 0.3)
