"""Commands of these tests have a store of their own, and what they play is scripted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli_output import play_with
from tests.support.scripted import ScriptedEngine


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default store."""
    store_path = tmp_path / "runs.sqlite"
    monkeypatch.setenv("PWFF_STORE", str(store_path))
    return store_path


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    play_with(monkeypatch, ScriptedEngine())
