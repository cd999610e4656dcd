"""An app at home or a hosted one, whatever the tests' environment says; and a store for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwff_core.runs import scheduler
from pwff_core.runs.processes import HOSTED_VARIABLE
from pwff_core.runs.store import Store


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HOSTED_VARIABLE, raising=False)


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch, at_home: None) -> None:
    monkeypatch.setenv(HOSTED_VARIABLE, "1")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    path = tmp_path / "runs.sqlite"
    monkeypatch.setenv("PWFF_STORE", str(path))
    return Store(path)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    calls: list[tuple[Path, str]] = []
    monkeypatch.setattr(scheduler, "launch", lambda path, run_id: calls.append((path, run_id)))
    return calls
