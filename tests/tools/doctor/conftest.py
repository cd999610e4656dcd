"""The doctor's tests have a store of their own, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "runs.sqlite"
    monkeypatch.setenv("PWFF_STORE", str(found))
    return found
