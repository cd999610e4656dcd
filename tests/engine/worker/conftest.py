"""A store for each test of the worker, and a temporary folder."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from pwff_core.runs.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """In a folder of its own, which a test may remove."""
    (tmp_path / "disk").mkdir()
    return Store(tmp_path / "disk" / "runs.sqlite")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the worker takes for the system's temporary folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
