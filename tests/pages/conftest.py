"""A store of each test's own, and an engine that is only noted down."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwff_core.runs import scheduler
from pwff_core.runs.store import Store, status


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that a test plays is not held up, unless its last sign of life is put more than an hour back."""
    monkeypatch.setattr(status, "STALE_S", 3600.0)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    path = tmp_path / "runs.sqlite"
    monkeypatch.setenv("PWFF_STORE", str(path))
    return Store(path)


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    """No page of these tests starts an engine: what it would have started."""
    calls: list[tuple[Path, str]] = []
    monkeypatch.setattr(scheduler, "launch", lambda path, run_id: calls.append((path, run_id)))
    return calls
