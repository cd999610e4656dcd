"""The doctor's tests have a store of their own, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    store_path = tmp_path / "runs.sqlite"
    monkeypatch.setenv("PWFF_STORE", str(store_path))
    return store_path
